package tflite

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
)

// TestOpen: the library in the program opens and says its version.
func TestOpen(t *testing.T) {
	l, err := Open("")
	if errors.Is(err, ErrNoLibrary) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if l.Version() != "2.9.0" {
		t.Errorf("version %q", l.Version())
	}
}

// TestOpenRefuses: a file that is no library is an error that names it, however
// many ask at once.
func TestOpenRefuses(t *testing.T) {
	path := t.TempDir() + "/x.so"
	if err := os.WriteFile(path, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 500 {
				if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
					t.Errorf("%v, want the path in it", err)
					return
				}
			}
		})
	}
	all.Wait()
}
