package tflite

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ebitengine/purego"
)

// ErrNoLibrary says that the program was built without the library.
var ErrNoLibrary = errors.New("this program was built without the TensorFlow Lite library: build it with `make build`, or name the library in infer.library")

// Library is an open TensorFlow Lite library. It stays open until the process
// ends.
type Library struct {
	handle  uintptr
	version string
	sym     symbols

	reporter uintptr // C function: what the runtime says
	reports  reports

	plugin         sync.Mutex // one external delegate is made at a time
	pluginReporter uintptr    // C function: why one refuses
	pluginSaid     []string
}

// opened are the libraries that Open gave: a library is never closed, and the
// C functions made for one are never freed, so each is opened once.
var opened struct {
	sync.Mutex
	byPath map[string]*Library
}

// Open opens the library at path, or with "" the one in the program. The same
// path gives the same Library again.
func Open(path string) (*Library, error) {
	opened.Lock()
	defer opened.Unlock()
	if l := opened.byPath[path]; l != nil {
		return l, nil
	}
	var l *Library
	var err error
	if path != "" {
		l, err = open(path)
	} else {
		l, err = openPacked(packed, packedFolder+"libtensorflowlite_c", places)
	}
	if err != nil {
		return nil, err
	}
	if opened.byPath == nil {
		opened.byPath = map[string]*Library{}
	}
	opened.byPath[path] = l
	return l, nil
}

// open opens the library at path.
func open(path string) (*Library, error) {
	h, err := dlopen(path)
	if err != nil {
		return nil, fmt.Errorf("open the TensorFlow Lite library: %w", explain(err))
	}
	l := &Library{handle: h}
	addr, err := dlsym(h, "TfLiteVersion")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is no TensorFlow Lite library: %w", path, err), purego.Dlclose(h))
	}
	var version func() string
	purego.RegisterFunc(&version, addr)
	l.version = version()
	if err := l.sym.load(h); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), purego.Dlclose(h))
	}
	l.reports.byID = map[uintptr]*report{}
	l.reporter, l.pluginReporter = l.newReporter(), l.newPluginReporter()
	return l, nil
}

// Version is what the library calls itself, such as "2.9.0".
func (l *Library) Version() string { return l.version }
