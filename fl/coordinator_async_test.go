package fl

import (
	"slices"
	"testing"
	"time"
)

func TestCoordinatorAsynchronous(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Strategy.Kind, task.Strategy.Buffer, task.Cohort.WaitFor = 4, "fedbuff", 2, 3
	l := newLab(t, task, 4).open()
	l.hellos()
	if in := l.invited(); len(in) != 4 {
		t.Fatalf("%v are invited", in)
	}
	slow := l.answer("g003")
	l.handle(l.answer("g000")...)
	if _, c := l.call("g000"); c.Invited || !c.Done {
		t.Errorf("nobody trains twice from the same weights: %+v", c)
	}
	l.handle(l.answer("g001")...)
	if s := l.c.Status(); s.Round != 2 {
		t.Fatalf("two updates make no step: %+v", s)
	}
	for _, name := range []string{"g000", "g001"} {
		if h, c := l.call(name); h.Round != 2 || !c.Invited || c.Done {
			t.Errorf("%s is not invited again: %+v %+v", name, h, c)
		}
	}
	if h, c := l.call("g003"); h.Round != 1 || !c.Invited {
		t.Errorf("who still trains is left alone: %+v %+v", h, c)
	}
	l.handle(l.answer("g000")...)
	l.handle(slow...)
	h := l.c.History()
	if len(h) != 2 || h[1].Late != 1 || h[1].Counted != 2 {
		t.Fatalf("%+v", h)
	}
	again, err := NewCoordinator(task, l.cfg, l.st, keyOf("coordinator"), l.keys)
	do(t, err)
	l.c = again
	l.mind(l.c.Connected(l.now))
	for range 10 {
		l.deliver()
	}
	if !l.c.Done() {
		t.Errorf("%+v", l.c.Status())
	}
}

func TestCoordinatorAsynchronousRoom(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Strategy.Kind, task.Strategy.Buffer, task.Deadline = 100, "fedbuff", 2, time.Minute
	task.Cohort = CohortConfig{Size: 2, Quorum: 1, WaitFor: 5, Select: "random"}
	l := newLab(t, task, 5).open()
	l.hellos()
	first := l.invited()
	if len(first) != 2 {
		t.Fatalf("%v are invited", first)
	}
	l.handle(l.answer(first[0])...)
	second := l.invited()
	if len(second) != 2 || slices.Contains(second, first[0]) || !slices.Contains(second, first[1]) {
		t.Fatalf("after %v %v are invited", first, second)
	}
	// Who does not answer in time gives its place away, and is heard all the same.
	slow := l.answer(first[1])
	l.now = l.now.Add(time.Minute)
	l.mind(l.c.Tick(l.now))
	if third := l.invited(); len(third) != 4 { // two that are overdue, and two more
		t.Fatalf("after %v %v are invited", second, third)
	}
	l.handle(slow...)
	if h := l.c.History(); len(h) != 1 || h[0].Counted != 2 {
		t.Errorf("%+v", h)
	}
	// One that is overdue and says that it is there again trains from newer weights.
	away := second[0]
	if away == first[1] {
		away = second[1]
	}
	if h, _ := l.call(away); h.Round != 1 {
		t.Fatalf("%s is called to round %d", away, h.Round)
	}
	l.handle(l.hello(away))
	for range 50 {
		for _, name := range l.invited() {
			if name != away {
				l.handle(l.answer(name)...)
			}
		}
	}
	if h, c := l.call(away); h.Round < 2 || !c.Invited || c.Model.Round != h.Round-1 {
		t.Errorf("it is called to round %d: %+v", h.Round, c)
	}
}
