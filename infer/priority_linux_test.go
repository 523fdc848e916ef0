package infer

import (
	"errors"
	"runtime"
	"testing"
)

// What gives way has the lowest priority while it does, and nobody else has.
func TestPriority(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := niceness()
	if err != nil {
		t.Fatal(err)
	}
	is := func(what string, want int) {
		t.Helper()
		if n, err := niceness(); err != nil || n != want {
			t.Errorf("%s: %d, want %d (%v)", what, n, want, err)
		}
	}
	onLowest(func() { is("a thread of its own", lowest) })
	is("behind it", was)
	if !mayRaise() {
		t.Skip("a thread may not take its priority back here")
	}
	failed := errors.New("it failed")
	if err := yielding(func() error { is("while it yields", lowest); return failed }); err != failed {
		t.Error(err)
	}
	is("behind that", was)
}

// A version that gives way answers as one that does not.
func TestBesideGivesWay(t *testing.T) {
	versions, answers := twoVersions(t)
	e := newEngine(t, t.TempDir(), nil, map[string]ModelConfig{"m": versions[0]})
	for _, givesWay := range []bool{true, false} {
		m, err := e.Beside("m", versions[1], givesWay, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if y := m.live.Load().yields; y != (givesWay && mayRaise()) {
			t.Errorf("gives way: %v, asked for %v", y, givesWay)
		}
		for x, want := range answers[1] {
			if got := ask(t, m, float64(x)/2); got != want {
				t.Errorf("%v: %v, want %v", float64(x)/2, got, want)
			}
		}
		m.Close()
		if m.Version() != "2" || m.Counts().Answers != uint64(len(answers[1])) {
			t.Errorf("%+v", m.Counts())
		}
	}
	live, _ := e.Model("m")
	if live.Version() != "1" {
		t.Errorf("version %s is live", live.Version())
	}
}
