package tflite

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"edgegateway/internal/testkit"
)

// TestMain makes the test program its own child, which opens a library where
// its parent has prepared the machine for it.
func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv("TFLITE_OPEN"); ok {
		os.Exit(openInChild(path))
	}
	os.Exit(m.Run())
}

// openInChild opens a library and says its version and where it lies.
func openInChild(path string) int {
	if v := os.Getenv("TFLITE_NOEXEC"); v != "" {
		if err := os.WriteFile("/proc/sys/vm/memfd_noexec", []byte(v), 0); err != nil {
			os.Stdout.WriteString("no sysctl: " + err.Error())
			return 0
		}
	}
	l, err := Open(path)
	if err != nil {
		os.Stdout.WriteString(err.Error())
		return 0
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		os.Stdout.WriteString(err.Error())
		return 1
	}
	os.Stdout.WriteString("version " + l.Version())
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "libtensorflowlite_c") {
			os.Stdout.WriteString(" from " + strings.TrimSpace(line[strings.IndexByte(line, '/'):]))
			return 0
		}
	}
	return 0
}

// child runs openInChild and gives what it says.
func child(t *testing.T, path string, change func(*exec.Cmd)) string {
	t.Helper()
	library(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "TFLITE_OPEN="+path)
	if change != nil {
		change(cmd)
	}
	out, err := cmd.Output()
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("no child process of this kind: %v", err)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// embedded is the library of this program.
func embedded(t *testing.T) *packedLibrary {
	t.Helper()
	p, err := findPacked(packed, packedFolder+"libtensorflowlite_c")
	if err != nil {
		testkit.Missing(t, "%v", err)
	}
	return p
}

// TestNoLibrary: a program built from a clean clone has only the README.
func TestNoLibrary(t *testing.T) {
	for name, files := range map[string]fs.FS{
		"nothing":     embed.FS{},
		"README":      fstest.MapFS{"lib/README.md": {}},
		"no hash":     fstest.MapFS{"lib/libtensorflowlite_c.so.zst": {}, "lib/libtensorflowlite_c.dylib.zst": {}},
		"hash, no so": fstest.MapFS{"lib/libtensorflowlite_c.so.sha256": {}, "lib/libtensorflowlite_c.dylib.sha256": {}},
	} {
		_, err := openPacked(files, "lib/libtensorflowlite_c", places)
		if !errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), "make build") || !strings.Contains(err.Error(), "infer.library") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamaged: a library that is not what was packed is never opened.
func TestDamaged(t *testing.T) {
	good := embedded(t)
	data, err := fs.ReadFile(good.files, good.packed)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Repeat("00", 32)
	for name, p := range map[string]struct {
		data []byte
		sum  string
	}{
		"another hash": {data, other}, "cut short": {data[:len(data)/2], good.sum}, "no zstd": {data[1:], good.sum},
		"empty": {nil, good.sum}, "no hash": {data, ""},
	} {
		t.Setenv("EDGEGATEWAY_CACHE", t.TempDir())
		base := strings.TrimSuffix(good.packed, ".zst")
		files := fstest.MapFS{base + ".zst": {Data: p.data}, base + ".sha256": {Data: []byte(p.sum + "\n")}}
		for i, at := range places {
			if _, err := openPacked(files, packedFolder+"libtensorflowlite_c", []place{at}); !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "make build") {
				t.Errorf("%s, place %d: %v", name, i, err)
			}
		}
	}
}

// TestCache: where memory is refused, the library lies in the cache folder, is
// used again, and is written anew where somebody changed it.
func TestCache(t *testing.T) {
	p := embedded(t)
	t.Setenv("EDGEGATEWAY_CACHE", filepath.Join(t.TempDir(), "made", "here"))
	refused := func(*packedLibrary) (string, error) { return "", errors.New("memory is refused") }
	l, err := openPacked(packed, packedFolder+"libtensorflowlite_c", []place{refused, inCache})
	if err != nil || l.Version() != "2.9.0" {
		t.Fatal(err)
	}
	at, err := inCache(p)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(at)
	if err != nil {
		t.Fatal(err)
	}
	if dir, err := os.Stat(filepath.Dir(at)); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", dir.Mode(), err)
	}
	if again, err := inCache(p); err != nil || again != at {
		t.Errorf("%s, %v", again, err)
	}
	if info, err := os.Stat(at); err != nil || !os.SameFile(first, info) {
		t.Errorf("written twice: %v", err)
	}
	for name, change := range map[string]func() error{
		// Another file in its place: the one that is open must stay whole.
		"other bytes": func() error {
			return errors.Join(os.WriteFile(at+".new", []byte("something else"), 0o700), os.Rename(at+".new", at))
		},
		"a link": func() error { return errors.Join(os.Rename(at, at+".real"), os.Symlink(at+".real", at)) },
	} {
		if err := errors.Join(os.Chmod(at, 0o700), change()); err != nil {
			t.Fatal(err)
		}
		if again, err := inCache(p); err != nil || again != at || !p.isAt(at) {
			t.Errorf("%s: %s, %v", name, again, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(at), "libtensorflowlite_c.so.*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestCacheOpenToOthers: nothing is opened from where others could put it.
func TestCacheOpenToOthers(t *testing.T) {
	p := embedded(t)
	for name, c := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"group":      {func(dir string) error { return os.Chmod(filepath.Join(dir, "lib"), 0o770) }, "others can write"},
		"everybody":  {func(dir string) error { return os.Chmod(filepath.Join(dir, "lib"), 0o707) }, "others can write"},
		"above":      {func(dir string) error { return os.Chmod(dir, 0o777) }, "anybody can write"},
		"above, but": {func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, ""},
		"another's":  {func(dir string) error { return os.Chown(filepath.Join(dir, "lib"), 12345, -1) }, "belongs to user 12345"},
		"a file": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "lib")), os.WriteFile(filepath.Join(dir, "lib"), nil, 0o600))
		}, "EDGEGATEWAY_CACHE"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("EDGEGATEWAY_CACHE", dir)
			if err := os.Mkdir(filepath.Join(dir, "lib"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.change(dir); errors.Is(err, fs.ErrPermission) {
				t.Skip("only root gives a folder away")
			} else if err != nil {
				t.Fatal(err)
			}
			_, err := inCache(p)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	t.Setenv("EDGEGATEWAY_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := inCache(p); err == nil || !strings.Contains(err.Error(), "EDGEGATEWAY_CACHE") {
		t.Errorf("without a home: %v", err)
	}
}
