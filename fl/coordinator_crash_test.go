package fl

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// errKilled is what a faulty State panics with, as a SIGKILL would end a program.
var errKilled = errors.New("killed")

// errDisk is what a faulty State fails with.
var errDisk = errors.New("no space left on device")

// faulty is a State that once, at its n-th change, ends the program or fails,
// before or after the change is made. Where the power fails, some of what was
// put loosely is gone then, and some is cut short.
type faulty struct {
	State
	left int // changes until then; below 1: never
	how  string
	hit  int // so often it did

	loose map[string][]byte
}

// faults are what may happen at a change.
var faults = []string{"killed before", "killed after", "fails before", "fails after", "the power fails"}

// cut loses of what is loose what a power cut may.
func (f *faulty) cut() error {
	r := rand.New(rand.NewPCG(uint64(f.hit), uint64(len(f.loose))))
	for _, name := range slices.Sorted(maps.Keys(f.loose)) {
		var err error
		switch data := f.loose[name]; r.IntN(3) {
		case 0:
			err = f.State.Delete(name)
		case 1:
			err = f.State.Put(name, data[:r.IntN(len(data))])
		}
		if err != nil {
			return err
		}
	}
	f.loose = nil
	return nil
}

func (f *faulty) change(do func() error) error {
	f.left--
	if f.left != 0 {
		return do()
	}
	f.hit++
	if f.how == "killed after" || f.how == "fails after" {
		if err := do(); err != nil {
			return err
		}
	}
	if f.how == "fails before" || f.how == "fails after" {
		return errDisk
	}
	if f.how == "the power fails" {
		if err := f.cut(); err != nil {
			return err
		}
	}
	panic(errKilled)
}

func (f *faulty) Put(name string, data []byte) error {
	return f.change(func() error { return f.State.Put(name, data) })
}

func (f *faulty) Loose(name string, data []byte) error {
	return f.change(func() error {
		if f.loose == nil {
			f.loose = map[string][]byte{}
		}
		f.loose[name] = data
		return f.State.Loose(name, data)
	})
}

func (f *faulty) Delete(name string) error {
	return f.change(func() error {
		delete(f.loose, name)
		return f.State.Delete(name)
	})
}

// world drives a coordinator that dies over a link that loses, doubles and
// reorders.
type world struct {
	*lab
	disk    *faulty
	r       *rand.Rand
	kill    func() // sets the next fault
	lost    float64
	twice   float64
	queue   []Message
	refused map[Reason]int
}

// step has the coordinator do something, and starts it again where it dies.
func (w *world) step(f func() ([]Action, error)) {
	defer func() {
		if p := recover(); p == errKilled {
			w.restart()
		} else if p != nil {
			panic(p)
		}
	}()
	list, err := f()
	if why := ReasonOf(err); why != "" {
		w.refused[why]++
	} else if err != nil && !errors.Is(err, errDisk) {
		w.Fatal(err)
	}
	if errors.Is(err, errDisk) {
		w.kill()
	}
	dies := w.lost > 0 && w.r.IntN(40) == 0 // with some of it said
	for i, a := range list {
		if dies && i >= w.r.IntN(len(list)) {
			w.restart()
			return
		}
		if a.Send != nil {
			w.broker(*a.Send)
		}
	}
}

// restart is another process over the same disk.
func (w *world) restart() {
	w.kill()
	w.step(func() ([]Action, error) {
		c, err := NewCoordinator(w.task, w.cfg, w.disk, keyOf("coordinator"), w.keys)
		if err != nil {
			w.c = nil
			if !errors.Is(err, errDisk) {
				w.Fatal(err)
			}
			return nil, err
		}
		w.c, w.count = c, c.count
		return c.Connected(w.now)
	})
	if w.c == nil {
		w.restart()
	}
}

// reads has a gateway read what it is called to, as one does that is connected
// again, and send what lacks.
func (w *world) reads(name string) {
	h, c := w.call(name)
	if h.Seq == 0 || w.r.IntN(8) == 0 {
		w.queue = append(w.queue, w.hello(name))
	}
	if c.Invited && !c.Done {
		list := w.update(name, h.Round, c.Model.Hash, MinChunk)
		for _, i := range Missing(c.Have, len(list)) {
			w.queue = append(w.queue, list[i])
		}
	}
}

// run goes on until the task is over.
func (w *world) run(t interface{ Fatalf(string, ...any) }) *Weights {
	names := w.names()
	w.restart()
	for range 20_000 {
		if w.c.Done() {
			return w.c.Weights()
		}
		w.now = w.now.Add(time.Second)
		switch n := w.r.IntN(100); {
		case n < 15 || len(w.queue) == 0:
			w.reads(names[w.r.IntN(len(names))])
		case n < 17 && w.lost > 0: // a broker that forgot everything
			w.retained = map[string]Message{}
			w.step(func() ([]Action, error) { return w.c.Connected(w.now) })
		case n < 20:
			w.step(func() ([]Action, error) { return w.c.Tick(w.now) })
		default:
			at := 0
			if w.lost > 0 {
				at = w.r.IntN(len(w.queue))
			}
			m := w.queue[at]
			if w.r.Float64() >= w.twice {
				w.queue = slices.Delete(w.queue, at, at+1)
			}
			if w.r.Float64() >= w.lost {
				w.step(func() ([]Action, error) { return w.c.Handle(w.now, m) })
			}
		}
		if len(w.queue) > 200 {
			w.queue = w.queue[100:]
		}
	}
	t.Fatalf("the task does not end: %+v, %d faults", w.c.Status(), w.disk.hit)
	return nil
}

func newWorld(t testing.TB, task Task, gateways int, seed uint64) *world {
	w := &world{lab: newLab(t, task, gateways), r: rand.New(rand.NewPCG(seed, 1)), kill: func() {}, refused: map[Reason]int{}}
	w.disk = &faulty{State: w.st}
	return w
}

// crashTask is one whose strategy remembers, whose rounds are drawn, and whose
// updates come in parts.
func crashTask() Task {
	task := denseTask(40)
	task.Rounds, task.Strategy.Kind = 3, "fedadam"
	task.Cohort = CohortConfig{Size: 2, Quorum: 2, WaitFor: 3, Select: "data"}
	return task
}

// The final weights are those of the run that nothing disturbed, to the bit,
// whatever the State did and whenever, and whatever the link lost, doubled and
// reordered. Nothing is counted twice.
func TestCoordinatorCrashes(t *testing.T) {
	task := crashTask()
	quiet := newWorld(t, task, 3, 1)
	want := quiet.run(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, task, 3, rapid.Uint64().Draw(rt, "seed"))
		w.lost = rapid.Float64Range(0.01, 0.4).Draw(rt, "lost")
		w.twice = rapid.Float64Range(0, 0.4).Draw(rt, "twice")
		within := rapid.IntRange(2, 80).Draw(rt, "changes between faults")
		w.kill = func() {
			if w.disk.left = 0; w.disk.hit < 30 {
				w.disk.left = 1 + w.r.IntN(within)
				w.disk.how = faults[w.r.IntN(len(faults))]
			}
		}
		got := w.run(rt)
		if got.Hash() != want.Hash() || !slices.Equal(got.Values, want.Values) {
			rt.Fatalf("other weights after %d faults", w.disk.hit)
		}
		for i, h := range w.c.History() {
			if h.Model != quiet.c.History()[i].Model || h.Counted != 2 || h.Updates != 2 {
				rt.Fatalf("round %d: %+v, undisturbed %+v", i+1, h, quiet.c.History()[i])
			}
		}
	})
}

// Each single change to the State in turn is the one at which the program ends
// or the State fails.
func TestCoordinatorCrashesEverywhere(t *testing.T) {
	task := crashTask()
	task.Rounds = 2
	quiet := newWorld(t, task, 3, 1)
	quiet.disk.left = 1 << 30
	want := quiet.run(t)
	changes := 1<<30 - quiet.disk.left
	if changes < 30 {
		t.Fatalf("%d changes", changes)
	}
	for _, how := range faults {
		for n := 1; n <= changes; n++ {
			w := newWorld(t, task, 3, 1)
			w.disk.left, w.disk.how = n, how
			if got := w.run(t); got.Hash() != want.Hash() {
				t.Fatalf("%s change %d: other weights", how, n)
			}
			if w.disk.hit != 1 {
				t.Fatalf("%s change %d: %d faults", how, n, w.disk.hit)
			}
		}
	}
	t.Logf("%d changes, each in four ways", changes)
}

// Where updates count late, weights depend on what came when. Each update counts
// once all the same, rounds have their quorum, and the task ends.
func TestCoordinatorCrashesLate(t *testing.T) {
	late := crashTask()
	late.Late, late.Deadline, late.Cohort.Quorum = "next", 20*time.Second, 1
	buffered := crashTask()
	buffered.Strategy.Kind, buffered.Strategy.Buffer, buffered.Deadline = "fedbuff", 2, 30*time.Second
	rapid.Check(t, func(rt *rapid.T) {
		task := rapid.SampledFrom([]Task{late, buffered}).Draw(rt, "task")
		w := newWorld(t, task, 3, rapid.Uint64().Draw(rt, "seed"))
		w.lost, w.twice = 0.2, 0.3
		counts := map[Hash]int{} // heads that an update counted in
		w.disk.State = counting{w.st, counts}
		w.kill = func() {
			if w.disk.left = 0; w.disk.hit < 20 {
				w.disk.left = 1 + w.r.IntN(30)
				w.disk.how = faults[w.r.IntN(len(faults))]
			}
		}
		w.run(rt)
		for body, n := range counts {
			if n > 1 {
				rt.Fatalf("update %s counts in %d rounds", body, n)
			}
		}
		total, waiting := 0, 0
		for _, h := range w.c.History() {
			total, waiting = total+h.Counted, h.Waiting
			if h.Updates < max(task.Cohort.Quorum, task.Strategy.Buffer) {
				rt.Fatalf("%+v", h)
			}
		}
		// What fills no buffer at the end waits in it.
		if total+waiting != len(counts) {
			rt.Fatalf("%d updates count, %d were seen", total, len(counts))
		}
	})
}

// counting is a State that counts, at each end of a round, the updates that it
// holds for that round.
type counting struct {
	State
	counts map[Hash]int
}

func (c counting) Put(name string, data []byte) error {
	var h, old head
	if name == "head" {
		before, err := c.Get("head")
		if err = errors.Join(err, unmarshal(data, &h)); err != nil {
			return err
		}
		if before != nil {
			if err := unmarshal(before, &old); err != nil {
				return err
			}
		}
		if h.Round > old.Round {
			names, err := c.List(updatesOf(h.Round))
			if err != nil {
				return err
			}
			for _, name := range names {
				var k kept
				b, err := c.Get(name)
				if err = errors.Join(err, unmarshal(b, &k)); err != nil {
					return err
				}
				c.counts[k.Seen.Body]++
			}
		}
	}
	return c.State.Put(name, data)
}
