package tflite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/ebitengine/purego"
	"github.com/klauspost/compress/zstd"
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
	if path == "" {
		p, done, err := unpack("libtensorflowlite_c")
		if err != nil {
			return nil, err
		}
		defer done()
		path = p
	}
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

// explain says what the machine lacks, where the loader's text tells it.
func explain(err error) error {
	for part, what := range map[string]string{
		"libstdc++":  "libstdc++.so.6 is missing",
		"libgcc_s":   "libgcc_s.so.1 is missing",
		"`GLIBC_":    "the C library is older than glibc 2.29",
		"ld-linux":   "this system has no glibc (2.29 or later is needed)",
		"libm.so":    "this system has no glibc (2.29 or later is needed)",
		"libpthread": "this system has no glibc (2.29 or later is needed)",
	} {
		if strings.Contains(err.Error(), part) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return err
}

// unpack puts the named library of the program where the loader can open it;
// done, called after that, gives back what held it.
func unpack(name string) (path string, done func(), err error) {
	ending := ".so"
	if runtime.GOOS == "darwin" {
		ending = ".dylib"
	}
	f, err := packed.Open(packedFolder + name + ending + ".zst")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, ErrNoLibrary
	} else if err != nil {
		return "", nil, err
	}
	defer f.Close()
	return place(name+ending, func(w io.Writer) error {
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		defer z.Close()
		_, err = io.Copy(w, z)
		return err
	})
}

// placeInCache writes the library into a fresh folder that only this user can
// read, for the time until it is open.
func placeInCache(name string, write func(io.Writer) error) (string, func(), error) {
	dir, err := os.MkdirTemp("", "edgegateway-")
	if err != nil {
		return "", nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	done := func() { os.RemoveAll(dir) }
	f, err := os.OpenFile(dir+"/"+name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err == nil {
		err = errors.Join(write(f), f.Close())
	}
	if err != nil {
		done()
		return "", nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return dir + "/" + name, done, nil
}
