package fl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// machine is a Coordinator or a Participant.
type machine interface {
	Connected(now time.Time) ([]Action, error)
	Handle(now time.Time, m Message) ([]Action, error)
	Tick(now time.Time) ([]Action, error)
	Filters() []string
}

// Log hears what happens on the way: messages that were refused, what could not
// be sent or fetched. task is the id of the task, "" where it is none.
type Log func(task string, err error)

// station runs machines over one Transport: each by a goroutine of its own, so
// that a long round of one does not hold up another.
type station struct {
	t       Transport
	log     Log
	out     *outbox
	runners []*runner
}

// runner is one machine at work. All that touches it is done by its goroutine.
type runner struct {
	*station
	machine
	id      string // of its task, for the log
	in      chan Message
	linked  chan struct{}
	events  chan func(now time.Time) ([]Action, error)
	act     func(ctx context.Context, a Action) // what is neither Send, Fetch nor Wake
	step    func() bool                         // after each step; false ends it
	wake    time.Time
	trail   time.Duration // step is called once more so long after the last one; 0: it is not
	stirred chan struct{} // look at step again
	ended   chan struct{} // closed when its goroutine is
	met     bool          // there was a link, and it said what it had to say then
	over    atomic.Bool   // it has no more to do, but to answer

	fetching map[string]bool // topics that are got now, and whether they were asked for again meanwhile
	slots    chan struct{}   // of those got at a time
	fetched  atomic.Int64    // Unix nanoseconds: when one of them came
	work     sync.WaitGroup  // goroutines that it began
}

// waiting is how many messages may wait for a machine; then the broker does.
const waiting = 16

// A machine is asked what time it is at least so often: one that forgot to say
// when would wait for ever.
const atLeast = time.Minute

func newStation(t Transport, log Log) *station {
	if log == nil {
		log = func(string, error) {}
	}
	s := &station{t: t, log: log}
	s.out = newOutbox(t, func(err error) { log("", fmt.Errorf("send: %w", err)) }, s.stir)
	return s
}

func (s *station) add(m machine, id string) *runner {
	r := &runner{
		station: s, machine: m, id: id, in: make(chan Message, waiting), linked: make(chan struct{}, 1),
		events: make(chan func(time.Time) ([]Action, error)), stirred: make(chan struct{}, 1), ended: make(chan struct{}),
		act: func(context.Context, Action) {}, step: func() bool { return true },
		fetching: map[string]bool{}, slots: make(chan struct{}, fetchesAtOnce),
	}
	s.runners = append(s.runners, r)
	return r
}

// stir has each runner look whether it is done.
func (s *station) stir() {
	for _, r := range s.runners {
		signal(r.stirred)
	}
}

// run is all runners until they have ended, one has failed, or ctx ends; an
// ended ctx is no error.
func (s *station) run(ctx context.Context) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var filters []string
	for _, r := range s.runners {
		filters = append(filters, r.Filters()...)
	}
	var all, helpers sync.WaitGroup
	helpers.Go(func() { s.out.run(ctx) })
	helpers.Go(func() { s.watchLink(ctx) })
	if err := s.t.Subscribe(ctx, filters, func(m Message) { s.route(ctx, m) }); err != nil {
		cancel(fmt.Errorf("subscribe: %w", err))
	}
	for _, r := range s.runners {
		all.Go(func() {
			if err := r.run(ctx); err != nil {
				cancel(fmt.Errorf("task %s: %w", r.id, err))
			}
		})
	}
	all.Wait()
	err := context.Cause(ctx)
	cancel(nil)
	helpers.Wait()
	for _, r := range s.runners {
		r.work.Wait()
	}
	if outer.Err() != nil {
		return nil
	}
	return err
}

func (s *station) watchLink(ctx context.Context) {
	for {
		select {
		case <-s.t.Link():
			for _, r := range s.runners {
				signal(r.linked)
			}
			s.out.linked()
		case <-ctx.Done():
			return
		}
	}
}

// route hands a message to whom it concerns.
func (s *station) route(ctx context.Context, m Message) {
	for _, r := range s.runners {
		if r.id != "" && r.id != TaskOf(m.Topic) {
			continue
		}
		select {
		case r.in <- m:
		case <-r.ended:
		case <-ctx.Done():
		}
	}
}

func (r *runner) run(ctx context.Context) error {
	defer close(r.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var quiet, again time.Time // when Tick is due though it was not asked for, and step
	for {
		actions, err := []Action(nil), error(nil)
		idle := false
		select {
		case <-ctx.Done():
			return nil
		case <-r.linked:
			r.met = true
			actions, err = r.Connected(time.Now())
		case m := <-r.in:
			actions, err = r.Handle(time.Now(), m)
		case step := <-r.events:
			actions, err = step(time.Now())
		case <-r.stirred:
			idle = true
		case <-timer.C:
			now := time.Now()
			if idle = now.Before(quiet) && (r.wake.IsZero() || now.Before(r.wake)); !idle {
				r.wake = time.Time{}
				actions, err = r.Tick(now)
			}
		}
		if ReasonOf(err) != "" {
			r.log(r.id, err)
		} else if err != nil {
			return err
		}
		for _, a := range actions {
			r.do(ctx, a)
		}
		if !r.step() {
			return nil
		}
		now := time.Now()
		if !idle {
			if quiet, again = now.Add(atLeast), (time.Time{}); r.trail > 0 {
				again = now.Add(r.trail)
			}
		} else if !now.Before(again) {
			again = time.Time{}
		}
		next := quiet
		for _, at := range []time.Time{r.wake, again} {
			if !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		timer.Reset(time.Until(next))
	}
}

// tell hands a step to the machine's goroutine, and returns when it took it or
// ctx ended.
func (r *runner) tell(ctx context.Context, step func(now time.Time) ([]Action, error)) {
	select {
	case r.events <- step:
	case <-r.ended:
	case <-ctx.Done():
	}
}

func (r *runner) do(ctx context.Context, a Action) {
	switch {
	case a.Send != nil:
		r.out.put(*a.Send)
	case a.Fetch != nil:
		for _, topic := range a.Fetch {
			r.fetch(ctx, topic)
		}
	case !a.Wake.IsZero():
		if r.wake.IsZero() || a.Wake.Before(r.wake) {
			r.wake = a.Wake
		}
	default:
		r.act(ctx, a)
	}
}

// Two chunks of 96 KiB are got at a time: enough to fill a link, and few enough
// that over a thin one, of 2 KB/s, one comes before fetchWait is over. A broker
// says nothing where it retains nothing; so what does not come is given up when
// nothing else has come for so long either, and the machine asks again.
const (
	fetchesAtOnce = 2
	fetchWait     = 2 * time.Minute
)

// fetch gets what is retained at a topic, and hands it to the machine as it
// comes. What is on its way already is not asked for again.
func (r *runner) fetch(ctx context.Context, topic string) {
	if _, ok := r.fetching[topic]; ok {
		r.fetching[topic] = true
		return
	}
	r.fetching[topic] = false
	r.work.Go(func() {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		payload, err := r.get(ctx, topic)
		<-r.slots
		r.tell(ctx, func(now time.Time) ([]Action, error) {
			asked := r.fetching[topic]
			delete(r.fetching, topic)
			switch {
			case err == nil:
				return r.Handle(now, Message{Topic: topic, Payload: payload, Retain: true})
			case !errors.Is(err, ErrNoLink):
				r.log(r.id, fmt.Errorf("fetch: %w", err))
			case asked: // over the link that came after
				r.fetch(ctx, topic)
			}
			return nil, nil
		})
	})
}

// errNothing ends the wait for what a broker does not retain.
var errNothing = fmt.Errorf("nothing came in %v", fetchWait)

func (r *runner) get(ctx context.Context, topic string) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	r.work.Go(func() {
		for rest := fetchWait; rest > 0; {
			timer := time.NewTimer(rest)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			last := time.Unix(0, r.fetched.Load())
			if last.Before(began) {
				last = began
			}
			rest = time.Until(last.Add(fetchWait))
		}
		cancel(errNothing)
	})
	payload, err := r.t.Get(ctx, topic)
	if err == nil {
		r.fetched.Store(time.Now().UnixNano())
	}
	return payload, err
}
