package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where the state file was moved away a command changes nothing and says what to
// do, and a gateway finds the versions again, says so, and removes no file; put
// back, the state is as it was.
func TestStateAway(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	add(t, s, "door", "1", 1)
	add(t, s, "door", "2", 2)
	do(t, s.Activate("door", "2", ""))
	do(t, os.Rename(s.path("state.json"), s.path("state.bad")))
	const says = "state.json: damaged: it is gone, and files of versions are there; put it back, or start a gateway"
	if _, err := Open(dir, DefaultConfig()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), says) {
		t.Errorf("it opens: %v", err)
	}
	if _, err := s.State(); !errors.Is(err, ErrDamaged) { // of a gateway that runs
		t.Errorf("the state is there: %v", err)
	}
	if err := s.Mark("door", "1", Failed, "", nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("it takes something: %v", err)
	}
	again, err := OpenAnew(dir, DefaultConfig())
	do(t, err)
	defer again.Close()
	if aside := again.Aside(); len(aside) != 1 || filepath.Base(aside[0]) != "state.gone-1.json" {
		t.Errorf("kept is %v", aside)
	}
	add(t, again, "door", "3", 3)
	st := state(t, again)
	if m := st.Models["door"]; len(m.Versions) != 3 || m.Live != "" || m.Find("1").Stage != Added || !strings.Contains(m.Find("2").Why, "gone") {
		t.Errorf("%+v", m)
	}
	do(t, os.Rename(s.path("state.bad"), s.path("state.json")))
	back := open(t, dir, DefaultConfig())
	if st := state(t, back); st.Models["door"].Live != "2" {
		t.Errorf("%+v", st.Models["door"])
	}
	for _, version := range []string{"1", "2"} {
		if _, err := back.Files("door", version); err != nil {
			t.Error(err)
		}
	}
}

// A store that is new and empty is none whose state is gone, whoever was killed
// before the first version came.
func TestNothingAway(t *testing.T) {
	dir := t.TempDir()
	for _, folder := range []string{"files", "incoming"} {
		do(t, os.Mkdir(filepath.Join(dir, folder), 0o700))
	}
	s := open(t, dir, DefaultConfig())
	if st := state(t, s); len(st.Models) > 0 || len(s.Aside()) > 0 {
		t.Errorf("%+v, %v", st, s.Aside())
	}
	add(t, s, "door", "1", 1)
	if _, err := os.Stat(s.path("state.json")); err != nil {
		t.Error(err)
	}
}
