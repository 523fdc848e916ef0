package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edgegateway/internal/testkit"
)

// On a disk that takes no byte more a version can be taken back, and one that
// nobody needs removed, which makes room again.
func TestFullDisk(t *testing.T) {
	dir := testkit.SmallDisk(t, 2<<20)
	s, err := Open(filepath.Join(dir, "models"), DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(ref, model string) error {
		_, err := s.Add(t.Context(), ref, testkit.Shared(t, "models/"+model+".tflite"), "test")
		return err
	}
	ok(add("m@1", "hello_world_float"))
	ok(add("m@2", "hello_world_int8"))
	ok(add("m@3", "kws_ref_model"))
	ok(s.Activate("m", "1", "test"))
	ok(s.Activate("m", "2", "test"))
	testkit.FillDisk(t, dir)
	if err := add("m@4", "vww_96_int8"); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "model rm of a version that is not needed makes room") {
		t.Fatalf("it takes more: %v", err)
	}
	ok(s.Activate("m", "1", "back"))
	testkit.FillDisk(t, dir) // what the reserve gave
	if err := s.Remove("m", "3"); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "the disk is full and the reserve of the store is used up; remove something else from the disk") {
		t.Fatalf("without the reserve: %v", err)
	}
	ok(os.Truncate(filepath.Join(dir, "filler"), 64<<10))
	ok(s.Remove("m", "3"))
	st, err := s.State()
	ok(err)
	if m := st.Models["m"]; m.Live != "1" || m.Previous != "2" || len(m.Versions) != 2 {
		t.Errorf("%+v", m)
	}
	ok(add("m@5", "hello_world_float")) // there is room for the little that it takes
}
