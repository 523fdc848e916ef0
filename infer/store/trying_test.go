package store

import (
	"errors"
	"strings"
	"testing"
)

// A version whose trial was given up is not at work: as soon as something else
// is wanted, and for the next who opens the store where its trial was killed.
func TestTrialGivenUp(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Keep = 3
	dir := t.TempDir()
	s := open(t, dir, cfg)
	for n := range 3 {
		add(t, s, "door", []string{"1", "2", "3"}[n], n)
	}
	do(t, s.Activate("door", "1", ""))
	at := func(s *Store, version string, want Stage) {
		t.Helper()
		if v := state(t, s).Models["door"].Find(version); v.Stage != want {
			t.Errorf("version %s is %s (%s), not %s", version, v.Stage, v.Why, want)
		}
	}
	trying := func(version string) {
		t.Helper()
		do(t, s.Want("door", Want{Version: version, Do: DoActivate}))
		do(t, s.Mark("door", version, Trying, "pre-flight", nil))
		at(s, version, Trying)
	}
	trying("2")
	do(t, s.GiveUp()) // it is wanted: nothing is given up
	at(s, "2", Trying)
	at(open(t, dir, cfg), "2", Trying)
	trying("3")
	at(s, "2", Added)

	// It was marked too late.
	do(t, s.Mark("door", "2", Trying, "pre-flight", nil))
	do(t, s.GiveUp())
	at(s, "2", Added)
	do(t, s.Mark("door", "2", Trying, "pre-flight", nil))
	at(open(t, dir, cfg), "2", Added)

	// What is tried can be withdrawn, with a name and without, and not promoted.
	for _, version := range []string{"", "3"} {
		if got, err := state(t, s).Withdrawable("door", version); err != nil || got != "3" {
			t.Errorf("withdrawn is %q, %v", got, err)
		}
	}
	if got, err := state(t, s).Withdrawable("door", "2"); err == nil {
		t.Errorf("withdrawn is %q, which nobody wants", got)
	}
	if got, err := state(t, s).Beside("door", ""); err == nil {
		t.Errorf("%q is beside the live one", got)
	}
	do(t, s.Mark("door", "3", Withdrawn, "by hand", nil))
	if m := state(t, s).Models["door"]; m.Want != nil {
		t.Errorf("it is wanted still: %+v", m.Want)
	}
	if got, err := state(t, s).Withdrawable("door", ""); err == nil {
		t.Errorf("withdrawn is %q", got)
	}

	// There is room again, and each can be removed.
	add(t, s, "door", "4", 4)
	add(t, s, "door", "5", 5)
	do(t, s.Remove("door", "5"))
	if err := s.Remove("door", "1"); !errors.Is(err, ErrKept) {
		t.Errorf("the live one is removed: %v", err)
	}
}

// A version that did not become live, and was not to blame, is what it was, and
// not wanted any more; why is said.
func TestPutBack(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	for i, version := range []string{"1", "2", "3"} {
		add(t, s, "door", version, i)
	}
	do(t, s.Activate("door", "1", "it is the first"))
	for _, tt := range []struct{ at, then Stage }{{Trying, Added}, {Shadow, Passed}, {Canary, Passed}, {Passed, Passed}, {Added, Added}, {Retired, Retired}} {
		do(t, s.Want("door", Want{Version: "2", Do: DoActivate}))
		do(t, s.Mark("door", "2", tt.at, "", nil))
		do(t, s.PutBack("door", "2", "the disk is full"))
		m := state(t, s).Models["door"]
		if v := m.Find("2"); v.Stage != tt.then || v.Why != "the disk is full" || m.Want != nil {
			t.Errorf("%s became %s (%s), wanted %+v", tt.at, v.Stage, v.Why, m.Want)
		}
	}
	do(t, s.Want("door", Want{Version: "3", Do: DoActivate}))
	do(t, s.PutBack("door", "1", "the disk is full"))
	if m := state(t, s).Models["door"]; m.Find("1").Why != "it is the first" || m.Want == nil {
		t.Errorf("%+v", m)
	}
	if err := s.PutBack("gate", "1", ""); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "model gate: not in the store; there are door") {
		t.Errorf("of another model: %v", err)
	}
}
