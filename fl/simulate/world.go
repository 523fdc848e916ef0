package simulate

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// world is a simulation under way. All but the training is in one goroutine.
type world struct {
	ctx     context.Context
	cfg     Config
	task    *fl.Task
	shelf   *shelf
	clock   *clock
	broker  *broker
	up      door // of updates on their way to the coordinator
	down    door // of weights on their way to participants
	crew    *crew
	keys    fl.KeyMap
	trusted []ed25519.PublicKey

	coordinator *fl.Coordinator
	lead        peer
	layout      fl.Hash
	count       int            // of weights
	bases       [2]*fl.Weights // that jobs began with last, and their hashes
	hashes      [2]fl.Hash
	refused     int
	made, of    int // updates of the round that runs
	err         error
}

// found makes the coordinator.
func (w *world) found(held *train.Dataset) (err error) {
	cfg := fl.CoordinatorConfig{Kept: func(r fl.RoundReport) {
		w.made = 0
		if w.cfg.Round != nil {
			w.cfg.Round(r)
		}
	}}
	net, err := w.task.Network()
	if err != nil {
		return err
	}
	if w.layout, w.count, err = fl.LayoutOf(net); err != nil {
		return err
	}
	if held != nil {
		cfg.Evaluate = func(weights *fl.Weights) (fl.Metrics, error) {
			if err := weights.Into(net); err != nil {
				return fl.Metrics{}, err
			}
			return fl.Judge(net, held)
		}
	}
	key := keyOf("coordinator", w.task.Seed)
	w.trusted = []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
	if w.coordinator, err = fl.NewCoordinator(*w.task, cfg, w.shelf.state(), key, w.keys); err != nil {
		return err
	}
	if w.of = w.task.Cohort.Size; w.of == 0 || w.of > w.task.Cohort.WaitFor {
		w.of = w.task.Cohort.WaitFor
	}
	w.lead = peer{machine: w.coordinator}
	w.broker.subscribe(&w.lead)
	w.connect(&w.lead)
	return w.err
}

// join has a participant count its samples and connect for the first time.
func (w *world) join(v *virtual) {
	w.broker.subscribe(&v.peer)
	actions, err := v.machine.Counted(w.clock.now, len(v.samples))
	w.act(&v.peer, actions, err)
	w.connect(&v.peer)
}

// run lets happen what is to happen until the task is over.
func (w *world) run() error {
	for !w.coordinator.Done() {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		more, err := w.clock.next()
		if err = errors.Join(err, w.err); err != nil {
			return err
		}
		if !more {
			return fmt.Errorf("nothing happens any more in round %d: %s", w.coordinator.Status().Round, w.coordinator.Status().Why)
		}
	}
	return nil
}

// connect tells a machine that its link is there, and gives it what the broker
// retains for it.
func (w *world) connect(p *peer) {
	actions, err := p.machine.Connected(w.clock.now)
	w.act(p, actions, err)
	for _, f := range p.machine.Filters() {
		if payload := w.broker.retained[f]; payload != nil {
			w.deliver(p, fl.Message{Topic: f, Payload: payload, Retain: true}, w.cfg.Latency)
		}
	}
}

// deliver has a message come to a peer, where that has a link then.
func (w *world) deliver(p *peer, m fl.Message, after time.Duration) {
	w.clock.after(after, func() error {
		if p.away {
			return nil
		}
		actions, err := p.machine.Handle(w.clock.now, m)
		if fl.ReasonOf(err) != "" {
			w.refused++
			err = nil
		}
		w.act(p, actions, err)
		return nil
	})
}

// act does what a machine wants done, and gives the bytes that it sent.
func (w *world) act(p *peer, actions []fl.Action, err error) (sent int) {
	if err != nil {
		w.err = errors.Join(w.err, err)
	}
	for _, a := range actions {
		switch {
		case a.Send != nil:
			if !p.away {
				sent += len(a.Send.Payload)
				w.broker.keep(a.Send)
				for _, to := range w.broker.hears(a.Send.Topic) {
					w.deliver(to, fl.Message{Topic: a.Send.Topic, Payload: a.Send.Payload}, w.cfg.Latency)
				}
			}
		case a.Fetch != nil && !p.fetching:
			p.fetching = true // asked again meanwhile, it is not sent twice
			w.down.enter(func() time.Duration { return w.fetch(p, a.Fetch) })
		case a.Train != nil:
			w.train(p.virtual, a.Train)
		case !a.Wake.IsZero() && (p.wake.IsZero() || a.Wake.Before(p.wake)):
			w.wake(p, a.Wake)
		}
	}
	return sent
}

// wake calls a machine's Tick at a time, or sooner: then it says again when it
// wants the next.
func (w *world) wake(p *peer, at time.Time) {
	p.wake = at
	w.clock.at(at, func() error {
		if !p.wake.Equal(at) {
			return nil // it was sooner
		}
		p.wake = time.Time{}
		actions, err := p.machine.Tick(w.clock.now)
		w.act(p, actions, err)
		return nil
	})
}

// fetch has what is retained at exact topics come to a peer, one after the
// other, and says how long that takes.
func (w *world) fetch(p *peer, topics []string) (takes time.Duration) {
	p.fetching = false
	for _, topic := range topics {
		if payload := w.broker.retained[topic]; payload != nil {
			takes += w.broker.takes(len(payload))
			w.deliver(p, fl.Message{Topic: topic, Payload: payload, Retain: true}, takes+w.cfg.Latency)
		}
	}
	return takes
}

// size is what participants need to know of the task's network: it is made once
// for all of them.
func (w *world) size(*fl.Task) (fl.Hash, int, error) { return w.layout, w.count, nil }

// known gives weights that somebody fetched before: they are there once, and not
// put together again for each participant.
func (w *world) known(hash fl.Hash) *fl.Weights {
	for i, h := range w.hashes {
		if h == hash {
			return w.bases[i]
		}
	}
	return nil
}

// remember keeps the weights of a job for those that come after it.
func (w *world) remember(b *fl.Weights) {
	if b == w.bases[0] || b == w.bases[1] {
		return
	}
	w.bases[1], w.hashes[1] = w.bases[0], w.hashes[0]
	w.bases[0], w.hashes[0] = b, b.Hash()
}
