package tflite

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebitengine/purego"

	"edgegateway/internal/testkit"
)

// TestXNNPackOptions: a library of a version that is not known says which
// flags it understood, and a layout that it does not understand is refused.
func TestXNNPackOptions(t *testing.T) {
	cc := testkit.Program(t, "cc")
	for define, refused := range map[string]string{"OLDER": "", "NEWER": "", "OTHER": "does not understand its options"} {
		so := filepath.Join(t.TempDir(), define+".so")
		if out, err := exec.Command(cc, "-shared", "-fPIC", "-D"+define, "-o", so, "testdata/xnnpack.c").CombinedOutput(); err != nil {
			t.Fatalf("cc: %v: %s", err, out)
		}
		h, err := purego.Dlopen(so, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err != nil {
			t.Fatal(err)
		}
		l := &Library{version: "2.99.0"}
		for name, to := range map[string]*uintptr{"Create": &l.sym.xnnpackCreate, "Delete": &l.sym.xnnpackDelete, "GetFlags": &l.sym.xnnpackFlags} {
			if *to, err = purego.Dlsym(h, "TfLiteXNNPackDelegate"+name); err != nil {
				t.Fatal(err)
			}
		}
		var threads func(d uintptr) int32
		var live func() int32
		purego.RegisterLibFunc(&threads, h, "test_threads")
		purego.RegisterLibFunc(&live, h, "test_live")
		for flags := range uint32(4) {
			d, err := l.NewXNNPack(2, flags)
			if refused != "" && flags != 0 {
				if err == nil || !strings.Contains(err.Error(), refused) {
					t.Errorf("%s, flags %d: %v, want %q", define, flags, err, refused)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, flags %d: %v", define, flags, err)
				continue
			}
			if got := callInt(l.sym.xnnpackFlags, d.ptr) & 3; got != int(flags) || threads(d.ptr) != 2 {
				t.Errorf("%s: flags %d arrive as %d, 2 threads as %d", define, flags, got, threads(d.ptr))
			}
			d.Close()
			d.Close()
		}
		if live() != 0 {
			t.Errorf("%s: %d delegates are left", define, live())
		}
	}
}

// TestNil: where the library gives nothing, the error says of what.
func TestNil(t *testing.T) {
	l := library(t)
	nothing := purego.NewCallback(func(_, _ uintptr) uintptr { return 0 })
	file, err := os.ReadFile(testkit.Shared(t, "models/hello_world_float.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	whole := l.sym
	defer func() { l.sym = whole }()
	for want, broken := range map[string]*uintptr{
		"XNNPACK":                              &l.sym.xnnpackCreate,
		"refuses the model file":               &l.sym.modelCreate,
		"no interpreter options":               &l.sym.optionsCreate,
		"XNNPACK refuse the model":             &l.sym.interpreterCreate,
		"XNNPACK: the runtime has no input 0":  &l.sym.input,
		"XNNPACK: the runtime has no output 0": &l.sym.output,
	} {
		before := l.Interpreters()
		l.sym = whole
		*broken = nothing
		err := func() error {
			d, err := l.NewXNNPack(1, 0)
			if err != nil {
				return err
			}
			defer d.Close()
			m, err := l.NewModel(file)
			if err != nil {
				return err
			}
			defer m.Close()
			in, err := m.NewInterpreter(Options{Delegate: d})
			if err == nil {
				in.Close()
			}
			return err
		}()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if n := l.Interpreters(); n != before {
			t.Errorf("%s: %d interpreters are left", want, n-before)
		}
	}
}
