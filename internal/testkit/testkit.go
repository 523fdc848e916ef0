package testkit

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// SharedEnv names the folder with the shared models and data; without it that
// is the folder shared beside the repository. Where it is set, a missing part is
// a failure; where it is not, the test is skipped.
const SharedEnv = "EDGEGATEWAY_SHARED"

// Shared returns the path of a file in the shared folder
// (for example "models/vww_96_int8.tflite").
func Shared(t testing.TB, name string) string {
	t.Helper()
	dir, given := sharedDir(t)
	p := filepath.Join(dir, name)
	if _, err := os.Stat(p); err != nil && given {
		t.Fatalf("%s is set, but: %v", SharedEnv, err)
	} else if err != nil {
		t.Skipf("no shared models and data: %s is not set, and beside the repository: %v", SharedEnv, err)
	}
	return p
}

// sharedDir is the shared folder, and whether it was given.
func sharedDir(t testing.TB) (dir string, given bool) {
	if dir = os.Getenv(SharedEnv); dir != "" {
		return dir, true
	}
	return filepath.Join(filepath.Dir(Root(t)), "shared"), false
}

// Missing ends a test that lacks a part which the set-up should have brought:
// it fails where the shared folder is given, as in CI, and skips elsewhere.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(SharedEnv) != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// CacheDir is where the set-up keeps what it fetched by package name:
// $EDGEGATEWAY_CACHE, else edgegateway in the user's cache folder.
func CacheDir() string {
	if d := os.Getenv("EDGEGATEWAY_CACHE"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "edgegateway")
	}
	return filepath.Join(d, "edgegateway")
}

// Cached returns the path of a file that the set-up fetched
// (for example "demo/face_detection_short_range.tflite").
func Cached(t testing.TB, name string) string {
	t.Helper()
	p := filepath.Join(CacheDir(), name)
	if _, err := os.Stat(p); err != nil {
		Missing(t, "%s was not fetched; run make setup: %v", name, err)
	}
	return p
}

// FreeAddr returns a loopback address with a port that was free a moment ago.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Program finds an installed program; tests that need it are skipped, or fail
// in CI, where it is missing.
func Program(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		// Debian keeps servers where users do not look.
		p = filepath.Join("/usr/sbin", name)
		if _, err := os.Stat(p); err != nil {
			Missing(t, "%s is not installed; make test names the apt line", name)
		}
	}
	return p
}

// Root is the top folder of the module.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller information")
	}
	return strings.TrimSuffix(filepath.Dir(file), filepath.FromSlash("/internal/testkit"))
}
