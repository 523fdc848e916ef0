package fl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edgegateway/fl"
	"edgegateway/fl/fltest"
)

// teller has some words to say, and says each until it is heard.
type teller struct {
	name  string
	words []string
	heard map[string]bool
	sends int
}

func (t *teller) Filters() []string { return []string{fl.CallTopic("x", t.name)} }

func (t *teller) Connected(now time.Time) ([]fl.Action, error) { return t.Tick(now) }

func (t *teller) Tick(now time.Time) ([]fl.Action, error) {
	var list []fl.Action
	for _, w := range t.words {
		if !t.heard[w] {
			t.sends++
			list = append(list, fl.Action{Send: &fl.Message{Topic: "fl/x/from/" + t.name + "/hello", Payload: []byte(w)}})
		}
	}
	return append(list, fl.Action{Wake: now.Add(20 * time.Second)}), nil
}

func (t *teller) Handle(_ time.Time, m fl.Message) ([]fl.Action, error) {
	for _, w := range strings.Fields(string(m.Payload)) {
		t.heard[w] = true
	}
	return nil, nil
}

func (t *teller) done() bool { return len(t.heard) == len(t.words) }

// hearer retains for each teller what it heard of it.
type hearer struct {
	heard map[string][]string
	ticks int
	bad   error // of each message
}

func (h *hearer) Filters() []string { return []string{fl.FromFilter("x")} }

func (h *hearer) Connected(time.Time) (list []fl.Action, err error) {
	for name := range h.heard {
		list = append(list, h.call(name))
	}
	return list, nil
}

func (h *hearer) call(name string) fl.Action {
	return fl.Action{Send: &fl.Message{Topic: fl.CallTopic("x", name), Payload: []byte(strings.Join(h.heard[name], " ")), Retain: true}}
}

func (h *hearer) Tick(time.Time) ([]fl.Action, error) {
	h.ticks++
	return nil, nil
}

func (h *hearer) Handle(_ time.Time, m fl.Message) ([]fl.Action, error) {
	if h.bad != nil {
		return nil, h.bad
	}
	name := strings.Split(m.Topic, "/")[3]
	if word := string(m.Payload); !strings.Contains(" "+strings.Join(h.heard[name], " ")+" ", " "+word+" ") {
		h.heard[name] = append(h.heard[name], word)
	}
	return []fl.Action{h.call(name)}, nil
}

// running is machines at work, each over a link of its own.
func running(t *testing.T, log fl.Log) (start func(l *fltest.Link, m fl.Machine), stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	start = func(l *fltest.Link, m fl.Machine) {
		all.Go(func() {
			if err := fl.Run(ctx, l, log, []string{"x"}, m); err != nil {
				t.Error(err)
			}
		})
	}
	return start, func() { cancel(); all.Wait() }
}

// Whatever a broker loses, doubles, delays and forgets, and however often links
// break: what machines repeat gets through, and then there is silence.
func TestLoopOverABadBroker(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			b := fltest.NewBroker(fltest.Faults{Seed: seed, Refuse: 0.1, Unsaid: 0.1, Lose: 0.2, Double: 0.2, Delay: 90 * time.Second})
			start, stop := running(t, nil)
			h := &hearer{heard: map[string][]string{}}
			hl := b.Connect("hearer")
			start(hl, h)
			var tellers []*teller
			var links []*fltest.Link
			for i := range 5 {
				n := &teller{name: fmt.Sprint("g", i), heard: map[string]bool{}}
				for w := range 12 {
					n.words = append(n.words, fmt.Sprint("word", i, "-", w))
				}
				tellers, links = append(tellers, n), append(links, b.Connect(n.name))
				start(links[i], n)
			}
			for i := range 30 {
				time.Sleep(time.Minute)
				switch l := links[(int(seed)+i)%5]; i % 5 {
				case 0:
					b.Restart()
				case 1:
					hl.Cut()
				case 2:
					hl.Join()
					l.Cut()
				case 3:
					l.Join()
				}
			}
			b.SetFaults(fltest.Faults{})
			for _, l := range append(links, hl) {
				l.Join()
			}
			time.Sleep(10 * time.Minute)
			stop()
			for _, n := range tellers {
				if !n.done() {
					t.Errorf("seed %d: %s was heard to say %d of %d words", seed, n.name, len(n.heard), len(n.words))
				}
			}
			if h.ticks < 30 {
				t.Errorf("the hearer was asked what time it is %d times in 40 minutes", h.ticks)
			}
		})
	}
}

// What is refused is logged and no more; another error of a machine ends its
// loop, with its task's name.
func TestLoopErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fltest.NewBroker(fltest.Faults{})
		said := b.Connect("one who talks")
		h := &hearer{bad: &fl.Refusal{Reason: fl.BadSign, Text: "no"}}
		var logged []error
		end := make(chan error, 1)
		go func() {
			end <- fl.Run(t.Context(), b.Connect("hearer"), func(task string, err error) { logged = append(logged, fmt.Errorf("%s: %w", task, err)) }, []string{"x"}, h)
		}()
		say := func() {
			if err := said.Publish(t.Context(), fl.Message{Topic: "fl/x/from/g/hello", Payload: []byte("a")}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		synctest.Wait()
		say()
		if len(logged) != 1 || fl.ReasonOf(logged[0]) != fl.BadSign || !strings.HasPrefix(logged[0].Error(), "x: ") {
			t.Fatalf("logged: %v", logged)
		}
		synctest.Wait()
		h.bad = errors.New("no space left")
		say()
		if err := <-end; err == nil || err.Error() != "task x: no space left" {
			t.Fatalf("it ended with %v", err)
		}
	})
}

// A message that the broker never takes is given up; those behind it go.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fltest.NewBroker(fltest.Faults{Refuse: 1})
		var logged []string
		start, stop := running(t, func(_ string, err error) { logged = append(logged, err.Error()) })
		n := &teller{name: "g", words: []string{"a"}, heard: map[string]bool{}}
		start(b.Connect("g"), n)
		time.Sleep(62 * time.Second)
		synctest.Wait()
		if text := strings.Join(logged, "\n"); strings.Count(text, "given up after 6 tries") != 1 || n.sends < 4 {
			t.Errorf("of %d times that it was said the log is:\n%s", n.sends, text)
		}
		b.SetFaults(fltest.Faults{})
		heard := &hearer{heard: map[string][]string{}}
		start(b.Connect("hearer"), heard)
		time.Sleep(2 * time.Minute)
		stop()
		synctest.Wait()
		if !n.done() {
			t.Error("what came after it was not heard")
		}
	})
}

// wanting fetches what it is told to with each Tick, every ten minutes.
type wanting struct {
	topics []string
	got    map[string]int
}

func (w *wanting) Filters() []string { return []string{"none/of/these"} }

func (w *wanting) Connected(now time.Time) ([]fl.Action, error) {
	return []fl.Action{{Fetch: w.topics}, {Fetch: w.topics}, {Wake: now.Add(10 * time.Minute)}}, nil
}

func (w *wanting) Tick(time.Time) ([]fl.Action, error) { return nil, nil }

func (w *wanting) Handle(_ time.Time, m fl.Message) ([]fl.Action, error) {
	w.got[m.Topic]++
	return nil, nil
}

// What a broker retains is fetched, each once; what it does not is waited for as
// long as other things come, and two minutes more.
func TestFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fltest.NewBroker(fltest.Faults{Seed: 1, Delay: 100 * time.Second})
		w := &wanting{got: map[string]int{}}
		other := b.Connect("other")
		for i := range 12 {
			topic := fmt.Sprint("fl/x/model/1/", i)
			if w.topics = append(w.topics, topic); i == 3 {
				continue
			}
			if err := other.Publish(t.Context(), fl.Message{Topic: topic, Payload: []byte("x"), Retain: true}); err != nil {
				t.Fatal(err)
			}
		}
		var logged []string
		start, stop := running(t, func(_ string, err error) { logged = append(logged, err.Error()) })
		link := b.Connect("one that wants")
		began := time.Now()
		start(link, w)
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		if len(w.got) != 11 || len(logged) != 1 || !strings.Contains(logged[0], "model/1/3: nothing came in 2m0s") {
			t.Errorf("after %v there are %v; logged: %v", time.Since(began), w.got, logged)
		}
		// With the next link it is asked for again, and there by then.
		if err := other.Publish(t.Context(), fl.Message{Topic: w.topics[3], Payload: []byte("x"), Retain: true}); err != nil {
			t.Fatal(err)
		}
		link.Cut()
		link.Join()
		time.Sleep(40 * time.Minute)
		stop()
		synctest.Wait()
		for _, topic := range w.topics {
			want := 2
			if topic == w.topics[3] {
				want = 1
			}
			if w.got[topic] != want {
				t.Errorf("%s came %d times", topic, w.got[topic])
			}
		}
	})
}

// After the last of some steps there is one more, and then none until a minute is
// over.
func TestStepAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := fl.NewCoordinator(pointsTask(), fl.CoordinatorConfig{}, fl.NewMemory(), fltest.Key("coordinator"), fl.KeyMap{})
		if err != nil {
			t.Fatal(err)
		}
		link := fltest.NewBroker(fltest.Faults{}).Connect("coordinator")
		ctx, cancel := context.WithCancel(t.Context())
		began, end := time.Now(), make(chan error)
		var steps, last atomic.Int64 // last in nanoseconds
		go func() {
			end <- fl.ServeCoordinator(ctx, link, []*fl.Coordinator{c}, fl.CoordinatorLoop{Again: time.Second, Step: func(*fl.Coordinator) {
				steps.Add(1)
				last.Store(int64(time.Since(began)))
			}})
		}()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		early := steps.Load()
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if n, at := steps.Load(), time.Duration(last.Load()); early < 1 || n != early+1 || at != time.Second {
			t.Errorf("%d steps at once, %d in all, the last after %v", early, n, at)
		}
		time.Sleep(time.Minute)
		cancel()
		if err := <-end; err != nil || steps.Load() != early+3 {
			t.Errorf("%d steps in two minutes, %v", steps.Load(), err)
		}
	})
}
