package fl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Trainer does a job on the samples of this participant. An error that wraps
// ErrLater may pass: the same job is tried again.
type Trainer func(ctx context.Context, job *Job) (*Result, error)

// ParticipantLoop is what a participant works with beside its Transport.
type ParticipantLoop struct {
	Dataset   Dataset
	Trainer   Trainer
	Publisher Publisher // nil: new models are brought to work nowhere here
	// Stands says whether the last model that went live here still is: its hash, false
	// where none went live or it is not decided, and why it is not, nil where it is. It is asked now and again. nil: nobody knows.
	Stands func() (model Hash, ok bool, why error)
	Log    Log
	// Step is called after each step, by the goroutine that runs the participant:
	// there it may be asked for its Status. nil: nobody.
	Step func(p *Participant)
	// Done says when it may end: nil, or a constant no, for as long as ctx lives.
	Done func(p *Participant) bool
	// Every is how often samples are counted; 0: half a minute.
	Every time.Duration
}

// ServeParticipant runs a participant until ctx ends, Done says so, or it fails,
// which its State did then: a new one over the same State goes on where it was.
// Training and publishing run beside it, one of each at a time, and end with it.
func ServeParticipant(ctx context.Context, t Transport, p *Participant, o ParticipantLoop) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newStation(t, o.Log)
	r := s.add(p, p.cfg.Task)
	w := &worker{runner: r, p: p, o: o}
	r.act = w.act
	r.step = func() bool {
		if o.Step != nil {
			o.Step(p)
		}
		return o.Done == nil || !o.Done(p) || !s.out.empty()
	}
	var counting sync.WaitGroup
	counting.Go(func() { w.count(ctx) })
	if o.Stands != nil {
		counting.Go(func() { w.look(ctx) })
	}
	err := s.run(ctx)
	cancel()
	counting.Wait()
	return err
}

// worker does what a participant wants done. Its fields are for the runner's
// goroutine.
type worker struct {
	*runner
	p    *Participant
	o    ParticipantLoop
	stop context.CancelFunc // of the training under way
	busy chan struct{}      // closed when that has ended
}

func (w *worker) act(ctx context.Context, a Action) {
	switch {
	case a.Train != nil:
		if w.stop != nil {
			w.stop() // its round is over
		}
		own, stop := context.WithCancel(ctx)
		before, busy := w.busy, make(chan struct{})
		w.stop, w.busy = stop, busy
		w.work.Go(func() {
			defer stop()
			defer close(busy)
			if before != nil {
				<-before
			}
			res, err := w.o.Trainer(own, a.Train)
			if err != nil && own.Err() != nil {
				err = fmt.Errorf("%w: %w", ErrLater, err)
			}
			w.note(err)
			w.tell(ctx, func(now time.Time) ([]Action, error) { return w.p.Trained(now, a.Train, res, err) })
		})
	case a.Offer != nil:
		w.work.Go(func() {
			v, err := w.publish(ctx, a.Offer)
			w.note(err)
			w.tell(ctx, func(now time.Time) ([]Action, error) { return w.p.Published(now, a.Offer, v, err) })
		})
	}
}

func (w *worker) publish(ctx context.Context, m *NewModel) (Verdict, error) {
	if w.o.Publisher == nil {
		return Verdict{}, errors.New("nothing brings models to work here")
	}
	v, err := w.o.Publisher.Publish(ctx, *m)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ErrLater, err)
	}
	return v, err
}

func (w *worker) note(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		w.log(w.id, err)
	}
}

// count tells the participant how many samples there are, now and again.
func (w *worker) count(ctx context.Context) {
	every := w.o.Every
	if every == 0 {
		every = 30 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := -1
	for {
		n, err := w.o.Dataset.Count(ctx)
		if err != nil && ctx.Err() == nil {
			w.log(w.id, fmt.Errorf("samples: %w", err))
		}
		if err == nil && n != last {
			last = n
			w.tell(ctx, func(now time.Time) ([]Action, error) { return w.p.Counted(now, n) })
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookEvery is how often it is asked whether a model still is live.
const lookEvery = 2 * time.Second

// look tells the participant whether its last model still is live.
func (w *worker) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	type standing struct {
		model Hash
		why   string
	}
	var last standing
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		model, ok, why := w.o.Stands()
		if now := (standing{model, fmt.Sprint(why)}); ok && now != last {
			last = now
			w.tell(ctx, func(now time.Time) ([]Action, error) { return w.p.Stands(now, model, why) })
		}
	}
}
