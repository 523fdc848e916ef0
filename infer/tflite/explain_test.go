package tflite

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// TestExplain: what loaders really say, of several ages.
func TestExplain(t *testing.T) {
	for text, want := range map[string]string{
		"libstdc++.so.6: cannot open shared object file: No such file or directory":                                              "libstdc++.so.6 is missing",
		"libgcc_s.so.1: cannot open shared object file: No such file or directory":                                               "libgcc_s.so.1 is missing",
		"/lib/x86_64-linux-gnu/libm.so.6: version `GLIBC_2.29' not found (required by /proc/self/fd/7)":                          "older than glibc 2.29",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.26' not found (required by /proc/self/fd/7)":             "libstdc++.so.6 is too old",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6: version `CXXABI_1.3.9' not found (required by /proc/self/fd/7)":               "libstdc++.so.6 is too old",
		"/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by /usr/lib/x86_64-linux-gnu/libstdc++.so.6)": "older than glibc 2.29",
		"/proc/self/fd/7: undefined symbol: _ZSt28__throw_bad_array_new_lengthv":                                                 "libstdc++.so.6 is too old",
		"Error loading shared library libstdc++.so.6: No such file or directory (needed by /proc/self/fd/7)":                     "libstdc++.so.6 is missing",
		"Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by /proc/self/fd/7)":               "no glibc",
		"Error relocating /proc/self/fd/7: __vsnprintf_chk: symbol not found":                                                    "no glibc",
		"/lib/libtensorflowlite_c.so: wrong ELF class: ELFCLASS32":                                                               "another processor",
		"/tmp/x.so: cannot open shared object file: No such file or directory":                                                   "",
		"/tmp/x.so: invalid ELF header":                                               "",
		"/cache/lib/libtensorflowlite_c.so: failed to map segment from shared object": "",
		"dlopen(/x/libtensorflowlite_c.dylib, 2): tried: '/x/libtensorflowlite_c.dylib' (mach-o file, but is an incompatible architecture (x86))": "",
	} {
		err := explain(errors.New(text))
		if !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), want) || errors.Is(err, ErrMachine) != (want != "") {
			t.Errorf("%s\nis explained as %v", text, err)
		}
	}
}

// TestOldMachine opens the library with the loader of this machine, which
// finds an older C library, an older libstdc++ or none.
func TestOldMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the loader of linux is asked")
	}
	cc := testkit.Program(t, "cc")
	// stub makes a library that has the symbols of old versions only.
	stub := func(t *testing.T, name, version string) string {
		dir := t.TempDir()
		script := filepath.Join(dir, "versions")
		if err := os.WriteFile(script, []byte(version+" { global: *; };\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(cc, "-shared", "-nostdlib", "-x", "c", os.DevNull, "-Wl,-soname,"+name, "-Wl,--version-script="+script, "-o", filepath.Join(dir, name))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return dir
	}
	for name, version := range map[string]struct{ version, want string }{
		"libm.so.6":      {"GLIBC_2.2.5", "older than glibc 2.29"},
		"libstdc++.so.6": {"GLIBCXX_3.4", "libstdc++.so.6 is too old"},
	} {
		t.Run("old "+name, func(t *testing.T) {
			dir := stub(t, name, version.version)
			said := child(t, "", func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+dir) })
			if !strings.Contains(said, version.want) {
				t.Errorf("%s, want %q", said, version.want)
			}
		})
	}
	// A libstdc++ that is installed cannot be hidden from the loader, but the
	// library can ask for one that is not.
	for name, other := range map[string]string{"libstdc++.so.6": "libstdc++.so.0", "libgcc_s.so.1": "libgcc_s.so.0"} {
		t.Run("no "+name, func(t *testing.T) {
			var b bytes.Buffer
			if err := embedded(t).writeTo(&b); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "lib.so")
			data := bytes.Replace(b.Bytes(), []byte("\x00"+name+"\x00"), []byte("\x00"+other+"\x00"), 1)
			if err := os.WriteFile(path, data, 0o700); err != nil {
				t.Fatal(err)
			}
			if said := child(t, path, nil); !strings.Contains(said, name+" is missing") {
				t.Error(said)
			}
		})
	}
}
