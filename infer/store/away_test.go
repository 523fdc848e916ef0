package store

import (
	"os"
	"testing"
)

// Who only opens a store whose state file was moved away removes no version's
// files: put back, it is as it was.
func TestStateAway(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	add(t, s, "door", "1", 1)
	do(t, os.Rename(s.path("state.json"), s.path("state.bad")))
	if st := state(t, open(t, dir, DefaultConfig())); len(st.Models) > 0 {
		t.Errorf("%+v", st)
	}
	do(t, os.Rename(s.path("state.bad"), s.path("state.json")))
	if _, err := open(t, dir, DefaultConfig()).Files("door", "1"); err != nil {
		t.Error(err)
	}
}
