package infer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// absence is how long an accelerator that does not serve is left alone: a
// second, after each failure in a row twice as long. One that comes is tried at
// once.
type absence struct {
	tries int
	until time.Time
	here  bool // at the last look
}

const (
	firstBackoff, maxBackoff = time.Second, 5 * time.Minute
	// proven is how many frames an accelerator must have been at work for its
	// next failure to be a new one: one that comes and goes is left alone longer.
	proven = 1000
)

// due says whether it is to be tried now.
func (a *absence) due(now time.Time, here bool) bool {
	came := here && !a.here
	a.here = here
	return here && (came || !now.Before(a.until))
}

func (a *absence) failed(now time.Time) {
	a.until = now.Add(min(firstBackoff<<min(a.tries, 20), maxBackoff))
	a.tries++
}

// wants says whether the accelerator, where it does not serve, is to be tried:
// it is unless it was tried, is right, and something else is faster. m.mu is
// held.
func (m *version) wants() bool {
	if m.accel == nil {
		return false
	}
	r := external(m.table)
	return r == nil || !r.OK || r.Chosen
}

// external is the accelerator's report in a table, nil where it has none.
func external(table []CandidateReport) *CandidateReport {
	if i := slices.IndexFunc(table, func(r CandidateReport) bool { return r.Name == "external" }); i >= 0 {
		return &table[i]
	}
	return nil
}

// degrade notes why what should serve does not, and says it in the log once.
func (m *version) degrade(cause error) {
	m.mu.Lock()
	said := m.degraded != ""
	m.degraded = cause.Error()
	m.mu.Unlock()
	if !said {
		m.log.Warn().Err(cause).Msg("the model goes on without its accelerator or delegate")
	}
}

// standIn takes the accelerator out of service: its own CPU pool goes on.
func (m *version) standIn(p *pool, cause error) {
	m.fails.Inc()
	if !m.serving.CompareAndSwap(p, p.cpu) {
		return
	}
	p.retire(true)
	m.mu.Lock()
	if m.frames.Load() >= proven {
		m.away.tries = 0
	}
	m.away.failed(time.Now())
	m.table = ruledOut(m.table, p.delegate, cause)
	m.why, m.trying = "stands in for the accelerator", true
	m.mu.Unlock()
	m.degrade(cause)
	m.wake()
}

// ruledOut is a table in which one candidate did not do.
func ruledOut(table []CandidateReport, name string, cause error) []CandidateReport {
	table = slices.Clone(table)
	for i := range table {
		if r := &table[i]; r.Name == name {
			*r = CandidateReport{Name: name, Why: cause.Error()}
		}
	}
	return table
}

// compare runs a frame once more on the CPU: an accelerator that answers
// wrongly does not say so. Where there is no second opinion to be had, the
// first one stands.
func compare(ctx context.Context, cpu *pool, w *worker, fill func([]Tensor) error) error {
	ref, err := cpu.take(ctx)
	if err != nil {
		return nil
	}
	defer cpu.give(ref)
	if fill(ref.in) != nil || ref.invoke() != nil {
		return nil
	}
	w.judge.see(ref.out)
	if why := w.judge.disagree(ref.out, w.out); why != "" {
		return fmt.Errorf("its answer is not the CPU's: %s", why)
	}
	return nil
}

// ready opens a pool, that of an accelerator only where it answers the fixed
// inputs as the CPU does.
func (m *version) ready(ctx context.Context, delegate string) (*pool, error) {
	p, err := m.open(delegate)
	if err != nil || p.cpu == nil {
		return p, err
	}
	if err := p.proves(ctx); err != nil {
		p.free()
		return nil, err
	}
	return p, nil
}

// proves holds an accelerator's answers to the fixed inputs against the CPU's.
func (p *pool) proves(ctx context.Context) error {
	w, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer p.give(w)
	ref, err := p.cpu.take(ctx)
	if err != nil {
		return err
	}
	// The range of the outputs first, it makes the bounds.
	for variant := range inputs {
		fixedInput(ref.in, variant)
		if err = ref.invoke(); err != nil {
			break
		}
		w.judge.see(ref.out)
	}
	p.cpu.give(ref)
	for variant := 0; variant < inputs && err == nil; variant++ {
		fill := func(in []Tensor) error { fixedInput(in, variant); return nil }
		if err = errors.Join(fill(w.in), w.invoke()); err == nil {
			err = compare(ctx, p.cpu, w, fill)
		}
	}
	return err
}
