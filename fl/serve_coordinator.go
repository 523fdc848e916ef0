package fl

import (
	"context"
	"time"
)

// CoordinatorLoop is what ServeCoordinator has beside the machines.
type CoordinatorLoop struct {
	Log Log // nil: nobody
	// Step is called after each step of a coordinator, by the goroutine that runs
	// it: there it may be asked for its Status and History. nil: nobody.
	Step func(c *Coordinator)
	// Again, where it is not 0, has Step called once more so long after the last
	// step: what it put off then is not put off for long.
	Again time.Duration
	// Stay goes on when all tasks are over: gateways that come late are answered,
	// a broker that forgot is told again, and reports are heard.
	Stay bool
	// Also are messages that are sent beside theirs, as Replace gives them.
	Also []Message
}

// ServeCoordinator runs coordinators over one Transport until ctx ends or one of
// them fails, which its State did then: a new one over the same State goes on
// where it was. Without Stay it returns when all tasks are over and the broker
// has the last word of each.
func ServeCoordinator(ctx context.Context, t Transport, list []*Coordinator, o CoordinatorLoop) error {
	s := newStation(t, o.Log)
	for _, m := range o.Also {
		s.out.put(m)
	}
	for _, c := range list {
		r := s.add(c, c.ID())
		r.trail = o.Again
		r.step = func() bool {
			if o.Step != nil {
				o.Step(c)
			}
			// What it wanted sent is in the outbox by now: where it was over when it
			// began, what the one before it may not have got to say.
			r.over.Store(c.Done() && r.met)
			if o.Stay || !s.over() {
				return true
			}
			s.stir()
			return false
		}
	}
	return s.run(ctx)
}

// over says whether no machine has more to do, and all is sent.
func (s *station) over() bool {
	for _, r := range s.runners {
		if !r.over.Load() {
			return false
		}
	}
	return s.out.empty()
}
