package tflite

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Delegate computes parts of a model in place of the built-in kernels. It
// must outlive the interpreters that use it.
type Delegate struct {
	name   string
	ptr    uintptr
	delete func(ptr uintptr)
}

// Name is "XNNPACK", or the path of an external delegate's library.
func (d *Delegate) Name() string { return d.name }

// Close frees the delegate. Closing twice is safe.
func (d *Delegate) Close() {
	if d.ptr != 0 {
		d.delete(d.ptr)
		d.ptr = 0
	}
}

// Flags of NewXNNPack: which quantized types it takes over.
const (
	XNNPackQS8 = 1 // int8
	XNNPackQU8 = 2 // uint8
)

// NewXNNPack makes the XNNPACK delegate of the library. Its options are a
// struct whose layout depends on the library's version: that of 2.9 is known,
// a newer library must say which flags it understood. Where none can be told
// it is an error, never a guess.
func (l *Library) NewXNNPack(threads int, flags uint32) (*Delegate, error) {
	if l.sym.xnnpackCreate == 0 || l.sym.xnnpackDelete == 0 {
		return nil, errors.New("the library has no XNNPACK")
	}
	known := strings.HasPrefix(l.version, "2.9.")
	if !known && l.sym.xnnpackFlags == 0 {
		return nil, fmt.Errorf("XNNPACK: the layout of its options in version %s of the library is not known", l.version)
	}
	// 2.9 has {int32 num_threads; uint32 flags; ...}, newer ones a word between.
	// The order matters: to an older library flags at the later place are a
	// pointer; to a newer one, at the earlier place, they are hints.
	for _, place := range []int{1, 2} {
		// Zeroed and longer than the struct: with a short block the library reads on.
		options := make([]uint32, 64)
		options[0], options[place] = uint32(threads), flags
		ptr := call(l.sym.xnnpackCreate, uintptr(unsafe.Pointer(unsafe.SliceData(options))))
		runtime.KeepAlive(options)
		if ptr == 0 {
			return nil, errors.New("XNNPACK: the library gives no delegate")
		}
		if known || uint32(call(l.sym.xnnpackFlags, ptr))&(XNNPackQS8|XNNPackQU8) == flags {
			return &Delegate{name: "XNNPACK", ptr: ptr, delete: func(p uintptr) { call(l.sym.xnnpackDelete, p) }}, nil
		}
		call(l.sym.xnnpackDelete, ptr)
	}
	return nil, fmt.Errorf("XNNPACK: version %s of the library does not understand its options", l.version)
}

// NewExternal opens a delegate's own library (libedgetpu and others) by the
// two functions that all of them export, with keys and values as options.
func (l *Library) NewExternal(path string, options map[string]string) (*Delegate, error) {
	h, err := dlopen(path)
	if err != nil {
		return nil, fmt.Errorf("open the delegate: %w", err) // which holds the path
	}
	create, err1 := dlsym(h, "tflite_plugin_create_delegate")
	destroy, err2 := dlsym(h, "tflite_plugin_destroy_delegate")
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("delegate %s: is no delegate library: %w", path, err)
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	var keys, values []unsafe.Pointer
	names := make([]string, 0, len(options))
	for k := range options {
		names = append(names, k)
	}
	slices.Sort(names)
	cString := func(s string) unsafe.Pointer {
		b := append([]byte(s), 0)
		pin.Pin(&b[0])
		return unsafe.Pointer(&b[0])
	}
	for _, k := range names {
		keys, values = append(keys, cString(k)), append(values, cString(options[k]))
	}
	first := func(list []unsafe.Pointer) uintptr {
		if len(list) == 0 {
			return 0
		}
		pin.Pin(&list[0])
		return uintptr(unsafe.Pointer(&list[0]))
	}
	l.plugin.Lock()
	defer l.plugin.Unlock()
	l.pluginSaid = nil
	ptr := call(create, first(keys), first(values), uintptr(len(keys)), l.pluginReporter)
	if ptr == 0 {
		said := strings.Join(l.pluginSaid, "; ")
		if said == "" {
			said = "no reason given"
		}
		return nil, fmt.Errorf("delegate %s: refuses: %s", path, said)
	}
	// The library stays open: a delegate's threads may outlive it.
	return &Delegate{name: path, ptr: ptr, delete: func(p uintptr) { call(destroy, p) }}, nil
}

// newPluginReporter is the C function that says why a delegate refuses.
func (l *Library) newPluginReporter() uintptr {
	return purego.NewCallback(func(text uintptr) uintptr {
		// Called within NewExternal, which holds the lock.
		if len(l.pluginSaid) < maxLines {
			l.pluginSaid = append(l.pluginSaid, strings.TrimSpace(goString(text)))
		}
		return 0
	})
}
