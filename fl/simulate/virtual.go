package simulate

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// virtual is one participant: its machine, its samples and how it is.
type virtual struct {
	peer
	name    string
	samples []int32 // their places in the data
	hostile bool
	slow    float64 // its time for a sample, in those of the median one
	lots    *rand.Rand
	job     *job // what it trains; nil: nothing
	machine *fl.Participant
}

// places are those of its first n samples.
func (v *virtual) places(n int) []int {
	at := make([]int, min(n, len(v.samples)))
	for i := range at {
		at[i] = int(v.samples[i])
	}
	return at
}

// keyOf is somebody's key in a simulation: no secret, and the same for a seed.
func keyOf(name string, seed uint64) ed25519.PrivateKey {
	hash := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("simulated "+name), seed))
	return ed25519.NewKeyFromSeed(hash[:])
}

// newVirtual makes participant i.
func newVirtual(i int, samples []int32, hostile bool, w *world) (*virtual, error) {
	lots := rand.New(rand.NewPCG(w.task.Seed, 1<<32+uint64(i)))
	v := &virtual{name: fmt.Sprintf("p%05d", i), samples: samples, hostile: hostile, lots: lots}
	v.slow = math.Exp(w.cfg.Spread * lots.NormFloat64())
	w.keys[v.name] = keyOf(v.name, w.task.Seed).Public().(ed25519.PublicKey)
	m, err := fl.NewParticipant(v.name, w.shelf.state(), keyOf(v.name, w.task.Seed), w.trusted,
		fl.ParticipantConfig{Task: w.coordinator.ID(), Version: "simulated", Size: w.size, Weights: w.known})
	if err != nil {
		return nil, err
	}
	v.machine = m
	v.peer = peer{machine: m, virtual: v}
	return v, nil
}

// train has a participant train from now on, and perhaps lose its link
// meanwhile.
func (w *world) train(v *virtual, what *fl.Job) {
	if v.job != nil {
		w.crew.drop(v.job)
	}
	w.remember(what.Base)
	takes := time.Duration(float64(w.cfg.SampleTime) * v.slow * float64(what.Samples*what.Task.Local.Epochs))
	j := &job{Job: what, who: v, takes: takes, ends: w.clock.now.Add(takes), over: make(chan struct{})}
	j.ctx, j.stop = context.WithCancel(w.ctx)
	v.job = j
	w.crew.add(j)
	w.clock.at(j.ends, func() error {
		w.up.enter(func() time.Duration { return w.trained(v, j) })
		return nil
	})
	if v.lots.Float64() < w.cfg.Dropout && !v.away {
		w.clock.after(time.Duration(v.lots.Float64()*float64(takes)), func() error { return w.leave(v) })
	}
}

// trained hands over what came of a job, and says how long it takes to send.
func (w *world) trained(v *virtual, j *job) time.Duration {
	if v.job != j { // another one took its place
		return 0
	}
	v.job = nil
	result, err := w.crew.wait(j)
	j.stop()
	if err == nil {
		result.Update.Seconds = j.takes.Seconds()
	}
	if err != nil && !(errors.Is(err, train.ErrDiverged) && w.task.Deadline > 0) {
		// It would be tried again and again, and its round wait for it.
		w.err = errors.Join(w.err, fmt.Errorf("participant %s: %w", v.name, err))
		return 0
	}
	if err == nil {
		w.made++
		if w.cfg.Step != nil {
			w.cfg.Step(j.Round, w.made, w.of)
		}
	}
	actions, err := v.machine.Trained(w.clock.now, j.Job, result, err)
	return w.broker.takes(w.act(&v.peer, actions, err))
}

// leave takes a participant's link away for a while.
func (w *world) leave(v *virtual) error {
	v.away = true
	w.clock.after(time.Duration(v.lots.ExpFloat64()*float64(w.cfg.Away)), func() error {
		v.away = false
		w.connect(&v.peer)
		return nil
	})
	return nil
}
