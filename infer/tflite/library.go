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

// Open opens the library at path, or with "" the one in the program.
func Open(path string) (*Library, error) {
	if path != "" {
		return open(path)
	}
	return openPacked(packed, packedFolder+"libtensorflowlite_c", places)
}

// open opens the library at path.
func open(path string) (*Library, error) {
	h, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("open the TensorFlow Lite library: %w", explain(err))
	}
	l := &Library{handle: h}
	addr, err := purego.Dlsym(h, "TfLiteVersion")
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
