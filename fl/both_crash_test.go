package fl

import (
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgegateway/infer/train"
)

// program is a coordinator or a participant with its disk and what is on its way
// to it.
type program struct {
	name  string // "" of the coordinator
	disk  *faulty
	m     machine
	p     *Participant
	c     *Coordinator
	inbox []Message
	job   *Job
}

// both are a coordinator and its participants over a broker, all of which die.
type both struct {
	t        interface{ Fatalf(string, ...any) }
	task     Task
	r        *rand.Rand
	now      time.Time
	lost     float64
	within   int // changes of a disk between two deaths; 0: nobody dies
	deaths   int
	keys     KeyMap
	retained map[string]Message
	all      []*program // the coordinator first
	data     map[string]*train.Dataset
}

func newBoth(t interface{ Fatalf(string, ...any) }, task Task, seed uint64) *both {
	b := &both{t: t, task: task, r: rand.New(rand.NewPCG(seed, 2)), now: time.UnixMilli(1_800_000_000_000), keys: KeyMap{}, retained: map[string]Message{}, data: map[string]*train.Dataset{}}
	b.all = []*program{{disk: &faulty{State: NewMemory()}}}
	for i, name := range []string{"hall-1", "hall-2", "hall-3"} {
		b.keys[name] = publicOf(name)
		b.data[name] = clouds(40+10*i, uint64(i+1))
		b.all = append(b.all, &program{name: name, disk: &faulty{State: NewMemory()}})
	}
	return b
}

// start is a new process over the same disk.
func (b *both) start(g *program) {
	for g.m = nil; g.m == nil; {
		if g.disk.left = 0; b.within > 0 && b.deaths < 40 {
			g.disk.left = 1 + b.r.IntN(b.within)
			g.disk.how = faults[b.r.IntN(len(faults))]
		}
		g.inbox, g.job = nil, nil
		b.survives(g, func() ([]Action, error) {
			var err error
			if g.name == "" {
				if g.c, err = NewCoordinator(b.task, CoordinatorConfig{Chunk: MinChunk}, g.disk, keyOf("coordinator"), b.keys); err == nil {
					g.m = g.c
				}
				return nil, err
			}
			id, err := b.task.ID()
			if err != nil {
				return nil, err
			}
			g.p, err = NewParticipant(g.name, g.disk, keyOf(g.name), []ed25519.PublicKey{publicOf("coordinator")}, ParticipantConfig{Task: id, Chunk: MinChunk, Retry: 5 * time.Second})
			if err == nil {
				g.m = g.p
			}
			return nil, err
		})
	}
	b.joins(g)
}

// survives says whether a program lived through a step, and does what it wants
// done.
func (b *both) survives(g *program, step func() ([]Action, error)) (ok bool) {
	defer func() {
		if p := recover(); p == errKilled {
			g.m, ok = nil, false
			b.deaths++
		} else if p != nil {
			panic(p)
		}
	}()
	list, err := step()
	if err != nil && ReasonOf(err) == "" {
		if !errors.Is(err, errDisk) {
			b.t.Fatalf("%s: %v", g.name, err)
		}
		g.m = nil // as its loop ends then
		b.deaths++
		return false
	}
	for _, a := range list {
		if b.lost > 0 && b.r.IntN(60) == 0 {
			g.m = nil // with some of it done
			b.deaths++
			return false
		}
		b.does(g, a)
	}
	return true
}

func (b *both) step(g *program, step func() ([]Action, error)) {
	if !b.survives(g, step) {
		b.start(g)
	}
}

// joins is a link that is there (again): what is retained comes.
func (b *both) joins(g *program) {
	if g.p != nil {
		g.inbox = nil
		for _, topic := range g.p.Filters() {
			b.sends(g, b.retained[topic])
		}
		b.step(g, func() ([]Action, error) { return g.p.Counted(b.now, b.data[g.name].Len()) })
	}
	b.step(g, func() ([]Action, error) { return g.m.Connected(b.now) })
}

// sends brings a message on its way, perhaps.
func (b *both) sends(to *program, m Message) {
	if len(m.Payload) == 0 || b.r.Float64() < b.lost {
		return
	}
	to.inbox = append(to.inbox, m)
	if b.r.Float64() < b.lost {
		to.inbox = append(to.inbox, m)
	}
}

func (b *both) does(g *program, a Action) {
	switch {
	case a.Send != nil && a.Send.Retain:
		b.retained[a.Send.Topic] = *a.Send
		for _, to := range b.all[1:] {
			if to.m != nil && slices.Contains(to.m.Filters(), a.Send.Topic) {
				b.sends(to, *a.Send)
			}
		}
	case a.Send != nil:
		b.sends(b.all[0], *a.Send)
	case a.Train != nil:
		g.job = a.Train
	}
	for _, topic := range a.Fetch {
		b.sends(g, b.retained[topic])
	}
}

func (b *both) run() *Weights {
	for _, g := range b.all {
		b.start(g)
	}
	for range 30_000 {
		if b.all[0].c.Done() {
			return b.all[0].c.Weights()
		}
		b.now = b.now.Add(time.Second)
		g := b.all[b.r.IntN(len(b.all))]
		switch n := b.r.IntN(100); {
		case n < 3 && b.lost > 0:
			b.joins(g)
		case n == 3 && b.lost > 0: // a broker that forgot everything
			b.retained = map[string]Message{}
			for _, g := range b.all {
				b.joins(g)
			}
		case n < 15 && g.job != nil:
			job := g.job
			r, err := Train(context.Background(), job, b.data[g.name], nil)
			if g.job = nil; err != nil {
				b.t.Fatalf("%v", err)
			}
			b.step(g, func() ([]Action, error) { return g.p.Trained(b.now, job, r, nil) })
		case n < 25 || len(g.inbox) == 0:
			b.step(g, func() ([]Action, error) { return g.m.Tick(b.now) })
		default:
			at := 0
			if b.lost > 0 {
				at = b.r.IntN(len(g.inbox))
			}
			m := g.inbox[at]
			g.inbox = slices.Delete(g.inbox, at, at+1)
			b.step(g, func() ([]Action, error) { return g.m.Handle(b.now, m) })
		}
	}
	b.t.Fatalf("the task does not end: %+v", b.all[0].c.Status())
	return nil
}

// The real coordinator and real participants that really train, each of which dies
// at any change of its disk, over a broker that loses, doubles, reorders and
// forgets: the final weights are those of the run that nothing disturbed, to the
// bit, though what compression leaves over goes from round to round.
func TestBothCrash(t *testing.T) {
	task := denseTask(40)
	task.Rounds, task.Strategy.Kind, task.Compression.Kind, task.Compression.Share = 2, "fedavgm", "topk", 0.7
	task.Cohort = CohortConfig{Size: 2, Quorum: 2, WaitFor: 3, Select: "random"}
	task.Local.Batch = 8
	quiet := newBoth(t, task, 1)
	want := quiet.run()
	rapid.Check(t, func(rt *rapid.T) {
		b := newBoth(rt, task, rapid.Uint64().Draw(rt, "seed"))
		b.lost = rapid.Float64Range(0.01, 0.3).Draw(rt, "lost")
		b.within = rapid.IntRange(2, 60).Draw(rt, "changes between deaths")
		if got := b.run(); !slices.Equal(got.Values, want.Values) {
			rt.Fatalf("other weights after %d deaths", b.deaths)
		}
		for i, h := range b.all[0].c.History() {
			if h.Model != quiet.all[0].c.History()[i].Model || h.Counted != 2 {
				rt.Fatalf("round %d: %+v", i+1, h)
			}
		}
	})
}

// Tasks in which updates count late end all the same.
func TestBothCrashLate(t *testing.T) {
	late := denseTask(8)
	late.Rounds, late.Late, late.Deadline = 4, "next", 30*time.Second
	late.Cohort = CohortConfig{Size: 2, Quorum: 1, WaitFor: 3, Select: "present"}
	buffered := denseTask(8)
	buffered.Rounds, buffered.Deadline, buffered.Strategy.Kind, buffered.Strategy.Buffer = 4, 60*time.Second, "fedbuff", 2
	rapid.Check(t, func(rt *rapid.T) {
		b := newBoth(rt, rapid.SampledFrom([]Task{late, buffered}).Draw(rt, "task"), rapid.Uint64().Draw(rt, "seed"))
		b.lost, b.within = 0.15, 40
		b.run()
		if h := b.all[0].c.History(); len(h) != 4 || h[3].Updates == 0 {
			rt.Fatalf("%+v", h)
		}
	})
}
