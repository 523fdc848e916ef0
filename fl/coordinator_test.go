package fl

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Chunks that a broker let fall are asked for as soon as the last one shows that
// they are missing, and not a minute later.
func TestCoordinatorAsksForChunks(t *testing.T) {
	task := denseTask(120)
	task.Rounds, task.Cohort = 1, CohortConfig{Quorum: 1, WaitFor: 1, Select: "random"}
	l := newLab(t, task, 1).open()
	l.hellos()
	name := l.names()[0]
	h, c := l.call(name)
	parts := l.update(name, h.Round, c.Model.Hash, MinChunk)
	last := len(parts) - 1
	if last < 3 {
		t.Fatalf("an update of %d parts", len(parts))
	}
	has := func(want string) {
		t.Helper()
		if _, c := l.call(name); fmt.Sprint(c.Have) != want || c.Done {
			t.Fatalf("it is told %v, %v; want %s", c.Have, c.Done, want)
		}
	}
	l.handle(parts[0])
	has("[]") // the others are on their way
	l.handle(parts[last])
	has(fmt.Sprintf("[0 %d]", last))
	was := len(l.said)
	l.handle(parts[last]) // its answer may have been lost
	if len(l.said) != was+1 {
		t.Errorf("%d messages answer the last part once more", len(l.said)-was)
	}
	l.handle(parts[1:last]...)
	if _, c := l.call(name); !c.Done || !l.c.Done() {
		t.Errorf("whole, it is told %+v", c)
	}
}

func TestCoordinatorRuns(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Cohort = 3, CohortConfig{Size: 3, Quorum: 2, WaitFor: 5, Select: "random"}
	l := newLab(t, task, 5)
	l.open()
	if a := l.announced(); a.State != "waiting" || a.Model.Round != 0 || !strings.Contains(a.Why, "5 participants") {
		t.Errorf("announced %+v", a)
	}
	for i, name := range l.names() {
		if i < 5 && len(l.invited()) > 0 {
			t.Fatalf("%d of 5 are there, and %v are invited", i, l.invited())
		}
		l.handle(l.hello(name))
	}
	for r := 1; r <= 3; r++ {
		in := l.invited()
		if len(in) != 3 {
			t.Fatalf("round %d: %v are invited", r, in)
		}
		a := l.announced()
		if a.State != "running" || a.Round != r || a.Rounds != 3 || a.Model.Round != r-1 {
			t.Fatalf("round %d is announced as %+v", r, a)
		}
		for _, topic := range a.Model.Topics(l.c.ID()) {
			if len(l.retained[topic].Payload) == 0 {
				t.Errorf("round %d: no chunk is retained at %s", r, topic)
			}
		}
		want := l.byHand(l.c.Weights(), r, in...)
		l.deliver()
		if l.c.Done() != (r == 3) {
			t.Fatalf("after round %d done is %t", r, l.c.Done())
		}
		if !near(l.c.Weights().Values, want) {
			t.Fatalf("round %d: the weights are not the mean of the updates", r)
		}
		for _, name := range in {
			if _, c := l.call(name); !strings.HasPrefix(c.Counted, "counted in round ") {
				t.Errorf("%s is told %+v", name, c)
			}
		}
	}
	a := l.announced()
	if a.State != "done" || a.Why != "all of 3 rounds are over" || a.Model.Round != 3 || a.Model != a.Best {
		t.Errorf("at the end %+v", a)
	}
	chunks := 0
	for topic := range l.retained {
		if _, body, _, ok := ModelChunk(topic); ok {
			chunks++
			if body != a.Model.Body {
				t.Errorf("an old chunk is still retained: %s", topic)
			}
		}
	}
	if chunks != a.Model.Chunks {
		t.Errorf("%d chunks of %d are retained", chunks, a.Model.Chunks)
	}
	h := l.c.History()
	if len(h) != 3 || h[1].Round != 2 || h[1].Invited != 3 || h[1].Updates != 3 || h[1].Counted != 3 || h[1].Late != 0 || h[1].Base != h[0].Model ||
		h[1].Samples == 0 || h[1].Norm == 0 || h[1].Bytes == 0 || h[1].Before.Samples != 15 || h[1].After.Samples != 15 || h[1].Trained != 3 {
		t.Errorf("history %+v", h)
	}
	names, err := l.st.List("update/")
	do(t, err)
	if len(names) > 0 {
		t.Errorf("updates are left: %v", names)
	}
	again, err := NewCoordinator(task, l.cfg, l.st, keyOf("coordinator"), l.keys)
	do(t, err)
	if !again.Done() || again.Weights().Hash() != l.c.Weights().Hash() || len(again.History()) != 3 {
		t.Error("a coordinator that is started again does not know that the task is over")
	}
}

func TestCoordinatorDeadline(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Deadline, task.Cohort.WaitFor, task.Cohort.Quorum = 3, time.Minute, 4, 2
	l := newLab(t, task, 4).open()
	l.hellos()
	want := l.byHand(l.c.Weights(), 1, "g000", "g002")
	late := l.answer("g003")
	h, c := l.call("g000")
	if h.Round != 1 || c.Deadline != l.now.Add(time.Minute).UnixMilli() {
		t.Fatalf("called %+v %+v", h, c)
	}
	l.handle(l.answer("g000")...)
	l.now = l.now.Add(2 * time.Minute)
	l.mind(l.c.Tick(l.now))
	if l.c.Status().Round != 1 {
		t.Fatal("a round ended without its quorum")
	}
	l.has("deadline of round 1 is over, 1 of at least 2 updates")
	if a := l.announced(); !strings.Contains(a.Why, "deadline of round 1") {
		t.Errorf("announced %q", a.Why)
	}
	l.handle(l.answer("g002")...)
	if !near(l.c.Weights().Values, want) || l.c.Status().Round != 2 {
		t.Fatal("the round does not end with its quorum after its deadline")
	}
	if _, c := l.call("g003"); c.Counted != "round 1 ended without it" || !c.Invited {
		t.Errorf("who missed the round is told %+v", c)
	}
	l.refuses(StaleRound, late[0])
	// The next one ends at its deadline, with the quorum that is there before.
	l.handle(l.answer("g001")...)
	l.handle(l.answer("g002")...)
	list, err := l.c.Tick(l.now.Add(59 * time.Second))
	l.mind(list, err)
	if l.c.Status().Round != 2 || list[len(list)-1].Wake != l.now.Add(time.Minute) {
		t.Errorf("before the deadline: %+v", list)
	}
	l.mind(l.c.Tick(l.now.Add(time.Minute)))
	if l.c.Status().Round != 3 {
		t.Error("the round does not end at its deadline")
	}
}

func TestCoordinatorLate(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Late, task.Deadline, task.Cohort.WaitFor = 4, "next", time.Minute, 3
	l := newLab(t, task, 3).open()
	l.hellos()
	late, twice := l.answer("g002"), l.answer("g001")
	l.handle(l.answer("g000")...)
	l.handle(twice...)
	l.now = l.now.Add(time.Minute)
	l.mind(l.c.Tick(l.now)) // without g002
	l.handle(late...)
	if _, c := l.call("g002"); !strings.HasPrefix(c.Counted, "late: of round 1, counts in round 2") {
		t.Errorf("it is told %+v", c)
	}
	l.refuses(StaleSeq, l.forge("g001", 1, l.c.History()[0].Base, 1)) // older than the one that counted
	l.handle(twice...)                                                // the same again: nothing
	if n := l.c.Status().Updates; n != 1 {
		t.Fatalf("%d updates are there", n)
	}
	l.handle(l.answer("g000")...)
	l.now = l.now.Add(time.Minute)
	l.mind(l.c.Tick(l.now))
	h := l.c.History()[1]
	if h.Updates != 2 || h.Late != 1 || h.Counted != 2 {
		t.Errorf("round 2: %+v", h)
	}
	l.handle(late...)
	if n := l.c.Status().Updates; n != 0 {
		t.Error("an update that counted is taken again")
	}
	// One's own update of the round takes the place of a late one, not the other
	// way round.
	old := l.answer("g001")
	l.now = l.now.Add(time.Minute)
	l.handle(l.answer("g000")...)
	l.mind(l.c.Tick(l.now))
	l.handle(old...)
	l.handle(l.answer("g001")...)
	if s := l.c.Status(); s.Updates != 1 || s.Round != 4 {
		t.Errorf("%+v", s)
	}
	l.deliver()
	if h := l.c.History()[3]; h.Updates != 3 || h.Late != 0 {
		t.Errorf("round 4: %+v", h)
	}
}

func TestCoordinatorStops(t *testing.T) {
	for _, test := range []struct {
		name     string
		stop     StopConfig
		accuracy []float64
		why      string
		best     int
	}{
		{"accuracy", StopConfig{Accuracy: 0.9}, []float64{0.5, 0.91, 0.99}, "an accuracy of 0.9100 is enough", 2},
		{"patience", StopConfig{Patience: 2}, []float64{0.5, 0.8, 0.7, 0.8, 0.9}, "no better evaluation in 2 rounds", 2},
		{"best of all", StopConfig{}, []float64{0.5, 0.8, 0.7, 0.6, 0.75}, "all of 5 rounds are over", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			task := denseTask(4)
			task.Rounds, task.Stop, task.Cohort.WaitFor = 5, test.stop, 2
			l := newLab(t, task, 2)
			n := 0
			l.cfg.Evaluate = func(*Weights) (Metrics, error) {
				n++
				loss := 1.0
				if n == 4 {
					loss = 1.5
				}
				return Metrics{Samples: 100, Loss: loss, Accuracy: test.accuracy[n-1]}, nil
			}
			l.open().hellos()
			for !l.c.Done() {
				l.deliver()
			}
			a := l.announced()
			if a.Why != test.why || a.Model.Round != test.best || a.Best != a.Model || a.Score.Accuracy != test.accuracy[test.best-1] {
				t.Errorf("%+v", a)
			}
			if w := l.c.Weights(); w.Hash() != l.c.History()[test.best-1].Model {
				t.Error("the weights are not the best")
			}
			if l.c.History()[0].Held.Samples != 100 || !l.c.History()[0].Best || len(test.accuracy) > 2 && n > 2 && l.c.History()[2].Best {
				t.Errorf("%+v", l.c.History())
			}
		})
	}
}

// Without a held-out set the participants' own figures of a round's first
// weights judge.
func TestCoordinatorJudgedByParticipants(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Stop.Accuracy, task.Cohort.WaitFor = 9, 0.8, 2
	l := newLab(t, task, 2).open()
	l.hellos()
	for !l.c.Done() {
		l.deliver()
	}
	// Gateways say 1 - 1/(1+round): 0.8 in round 4, of the weights after round 3.
	if a := l.announced(); a.Why != "an accuracy of 0.8000 is enough" || a.Model.Round != 3 || a.Score.Samples != 10 {
		t.Errorf("%+v", a)
	}
}

// Without wait_for the first round begins with as many as a round draws, or needs
// where it draws all.
func TestCoordinatorWaits(t *testing.T) {
	for _, c := range []struct {
		cohort CohortConfig
		first  int // gateways
	}{
		{CohortConfig{Quorum: 1}, 1},
		{CohortConfig{Quorum: 2}, 2},
		{CohortConfig{Quorum: 1, Size: 3}, 3},
		{CohortConfig{Quorum: 1, Size: 3, WaitFor: 2}, 2},
		{CohortConfig{Quorum: 3, WaitFor: 1}, 3},
		{CohortConfig{Quorum: 1, WaitFor: 4}, 4},
	} {
		task := denseTask(4)
		task.Cohort, task.Cohort.Select = c.cohort, "random"
		l := newLab(t, task, 5)
		l.open()
		for i := range 5 {
			l.handle(l.hello(fmt.Sprintf("g%03d", i)))
			if began := len(l.invited()) > 0; began != (i+1 >= c.first) {
				t.Errorf("%+v: with %d gateways there the first round has begun: %v", c.cohort, i+1, began)
			}
		}
	}
}

// A gateway is heard with each message that is not refused; draws by when that was
// go by Hellos alone, which are on the disk.
func TestCoordinatorHeard(t *testing.T) {
	task := denseTask(120)
	task.Rounds, task.Cohort = 3, CohortConfig{Size: 1, Quorum: 1, WaitFor: 2, Select: "present"}
	l := newLab(t, task, 2).open()
	l.handle(l.hello("g000"))
	l.now = l.now.Add(time.Minute)
	l.handle(l.hello("g001"))
	heard := func(name string, want time.Time) {
		t.Helper()
		for _, g := range l.c.Status().Gateways {
			if g.Name == name && !g.Heard.Time().Equal(want) {
				t.Errorf("%s is heard at %v, want %v", name, g.Heard.Time(), want)
			}
		}
	}
	hello := l.now
	h, c := l.call("g001")
	parts := l.update("g001", h.Round, c.Model.Hash, MinChunk)
	for _, m := range []Message{parts[0], parts[0], l.report("g001", "live")} {
		l.now = l.now.Add(time.Minute)
		l.handle(m)
		heard("g001", l.now)
	}
	last := l.now
	l.now = l.now.Add(time.Minute)
	l.refuses(FutureRound, l.forge("g001", 2, c.Model.Hash, 99))
	heard("g001", last)
	l.handle(l.report("g000", "live"))
	heard("g000", l.now)
	l.handle(parts[1:]...)
	if in := l.invited(); !slices.Equal(in, []string{"g001"}) {
		t.Errorf("%v are drawn, whose Hello is the last", in)
	}
	l.open()
	heard("g001", hello)
}

// What became of the last model is heard by a coordinator that was started again,
// though the gateway said it while there was none, and its link never broke.
func TestCoordinatorHearsReportAfterRestart(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Cohort.WaitFor = 1, 1
	task.Publish = PublishConfig{Model: "digits", When: "final", Quantize: "none"}
	l := newLab(t, task, 1).open()
	l.hellos()
	l.deliver()
	p, err := NewParticipant("g000", NewMemory(), keyOf("g000"), []ed25519.PublicKey{publicOf("coordinator")}, ParticipantConfig{Task: l.c.ID(), Publish: true})
	do(t, err)
	// does gives the Reports of a step, once all that it fetched has come; models
	// go live.
	var does func(list []Action, err error) []Message
	does = func(list []Action, err error) (said []Message) {
		t.Helper()
		do(t, err)
		for _, a := range list {
			for _, topic := range a.Fetch {
				said = append(said, does(p.Handle(l.now, l.retained[topic]))...)
			}
			if a.Offer != nil {
				said = append(said, does(p.Published(l.now, a.Offer, Verdict{}, nil))...)
			}
			if a.Send != nil {
				said = append(said, *a.Send)
			}
		}
		return said
	}
	announced := func() []Message { return does(p.Handle(l.now, l.retained[TaskTopic(l.c.ID())])) }
	does(p.Connected(l.now))
	if said := announced(); len(said) != 1 {
		t.Fatalf("%d messages say what became of the model", len(said)) // and nobody hears it
	}
	if said := announced(); len(said) > 0 {
		t.Errorf("the same announcement again: %d messages", len(said))
	}
	for range 2 {
		l.now = l.now.Add(time.Hour)
		l.open()
		said := announced()
		if len(said) != 1 {
			t.Fatalf("a coordinator that was started again is told %d messages", len(said))
		}
		was := len(l.said)
		if l.handle(said...); len(l.said) != was {
			t.Errorf("it answers a Report by %d messages", len(l.said)-was)
		}
		if s := l.c.Status(); s.Reports() != 1 {
			t.Errorf("%+v", s.Gateways)
		}
	}
}

func TestCoordinatorEnrolment(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Cohort.WaitFor, task.Cohort.Quorum, task.Data.Minimum = 3, 2, 2, 11
	l := newLab(t, task, 5)
	later := l.keys["g004"]
	delete(l.keys, "g004")
	l.open()
	l.refuses(UnknownKey, l.hello("g004"))
	l.handle(l.hello("g000"))
	if _, c := l.call("g000"); c.Refused != "it has 10 samples; the task wants 11" {
		t.Errorf("it is told %+v", c)
	}
	l.handle(l.hello("g001"))
	if len(l.invited()) > 0 {
		t.Fatal("who has too few samples counts as there")
	}
	l.handle(l.hello("g002"))
	if in := l.invited(); !slices.Equal(in, []string{"g001", "g002"}) {
		t.Fatalf("%v", in)
	}
	// A gateway that is sent away is not waited for, and its update is set aside.
	l.handle(l.answer("g002")...)
	delete(l.keys, "g002")
	l.keys["g004"] = later
	l.handle(l.hello("g004"))
	l.handle(l.answer("g001")...)
	h := l.c.History()
	if len(h) != 1 || h[0].Counted != 1 || len(h[0].SetAside) != 1 || h[0].SetAside[0].From != "g002" || h[0].SetAside[0].Why != "it is not enrolled any more" {
		t.Fatalf("%+v", h)
	}
	if in := l.invited(); !slices.Equal(in, []string{"g001", "g004"}) {
		t.Errorf("%v", in)
	}
	// Too few are left of those who were drawn: others take their place.
	delete(l.keys, "g004")
	l.handle(l.answer("g001")...)
	if l.c.Status().Round != 2 {
		t.Fatal("a round ended without its quorum")
	}
	l.mind(l.c.Tick(l.now))
	l.has("waiting until 2 participants are there")
	l.handle(l.hello("g003"))
	if in := l.invited(); !slices.Equal(in, []string{"g003"}) {
		t.Fatalf("%v", in)
	}
	l.deliver()
	if h := l.c.History(); len(h) != 2 || h[1].Counted != 2 {
		t.Errorf("%+v", h)
	}
}
