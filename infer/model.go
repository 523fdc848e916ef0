package infer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Model is a model as streams hold it: a name, under which versions are
// exchanged while they run. It is for many goroutines.
type Model struct {
	live   atomic.Pointer[version] // never nil; that of a closed model is retired
	mu     sync.Mutex              // of an exchange
	closed bool
}

func newModel(first *version) *Model {
	m := &Model{}
	m.live.Store(first)
	return m
}

// Name is the model's name in the configuration.
func (m *Model) Name() string { return m.live.Load().name }

// Version is that of the version at work, "" where the model has none.
func (m *Model) Version() string { return m.live.Load().cfg.Version }

// Inputs describes what the model takes.
func (m *Model) Inputs() []TensorInfo { return m.live.Load().ins }

// Outputs describes what the model gives.
func (m *Model) Outputs() []TensorInfo { return m.live.Load().outs }

// Batches says whether RunMany may take several samples in one Invoke.
func (m *Model) Batches() bool { return m.live.Load().batches }

// Counts are what the version at work did since it is at work.
func (m *Model) Counts() Counts {
	v := m.live.Load()
	return v.counts.read(v.cfg.Version)
}

// Published counts a result that was made of an answer of this model, and how long
// ago the message came that it is of.
func (m *Model) Published(age time.Duration) { m.live.Load().counts.published(age) }

func (m *Model) String() string { return "model " + m.Name() }

// ErrClosed is the error of a model that is gone.
var ErrClosed = errors.New("the model is closed")

// Run fills the inputs, invokes the model and decodes the outputs into r,
// whose slices it reuses. fill writes straight into the runtime's memory; it is
// called again, and must write the same again, where an accelerator failed or
// is checked. Run waits for a warm interpreter until ctx ends, and allocates
// nothing itself. One version answers, which r names, also where another one
// goes into service meanwhile.
func (m *Model) Run(ctx context.Context, fill func(in []Tensor) error, r *Result) error {
	for {
		v := m.live.Load()
		err := v.run(ctx, fill, r)
		if err != ErrClosed || m.live.Load() == v {
			return err
		}
		// Another version serves already.
	}
}

// RunMany takes as many of n samples, from the first on, as go into Invokes of
// several, and says how many: the rest is for Run. fill writes the i-th, result
// says where its answer goes, and errs[i] is what came of it. An answer is to
// the last bit what the sample would get alone.
func (m *Model) RunMany(ctx context.Context, n int, fill func(i int, in []Tensor) error, result func(i int) *Result, errs []error) (taken int) {
	return m.live.Load().runMany(ctx, n, fill, result, errs)
}

// exchange puts another version in service and lets the old one go when what
// it has under way is done; it refuses where the model is gone.
func (m *Model) exchange(next *version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.live.Swap(next).retire()
	return nil
}

// retire lets the model go: what is under way ends, what comes later is told
// that the model is closed.
func (m *Model) retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.live.Load().retire()
	}
}

// Swap exchanges the version of a model under the hands of those who hold it:
// the new one is loaded and warm first, each message is answered by the old
// one or by the new one, and an error leaves the old one at work. fits may
// refuse what the new one takes; nil takes all. tried is what a trial of its
// delegates came to that was made before, nil where Run shall make one.
func (e *Engine) Swap(name string, cfg ModelConfig, fits func(in []TensorInfo) error, tried []CandidateReport) error {
	e.swaps.Lock()
	defer e.swaps.Unlock()
	e.mu.RLock()
	shared := e.cfg
	e.mu.RUnlock()
	m, next, err := e.successor(name, shared, cfg, fits, tried)
	if err != nil {
		return err
	}
	if err := m.exchange(next); err != nil {
		next.retire()
		return fmt.Errorf("model %s: version %s: %w", name, cfg.Version, err)
	}
	e.wake()
	return nil
}

// successor opens a version that could take the place of the one at work, warm.
func (e *Engine) successor(name string, shared Config, cfg ModelConfig, fits func(in []TensorInfo) error, tried []CandidateReport) (*Model, *version, error) {
	m, err := e.Model(name)
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (*Model, *version, error) {
		return nil, nil, fmt.Errorf("model %s: version %s: %w", name, cfg.Version, err)
	}
	f, err := readFile(cfg)
	if err != nil {
		return fail(err)
	}
	next, err := e.newVersion(name, shared, cfg, f, tried)
	if err != nil {
		return fail(err)
	}
	old := m.live.Load()
	err = old.replaceable(next)
	if err == nil && fits != nil {
		err = fits(next.ins)
	}
	if err == nil {
		err = next.warm(old.widened.Load())
	}
	if err != nil {
		next.retire()
		return fail(err)
	}
	return m, next, nil
}

// replaceable says why another version cannot take the place of this one under
// those who read its results.
func (m *version) replaceable(next *version) error {
	old, p := m.serving.Load(), next.serving.Load()
	if old == nil || p == nil {
		return ErrClosed
	}
	if len(m.ins) != len(next.ins) {
		return fmt.Errorf("it has %d inputs, the one at work has %d", len(next.ins), len(m.ins))
	}
	is, was := reflect.TypeOf(p.decoder), reflect.TypeOf(old.decoder)
	if is != was {
		return fmt.Errorf("its output is read as %s, that of the one at work as %s; output: says what it means", is.Elem().Name(), was.Elem().Name())
	}
	if _, plain := p.decoder.(*numbers); plain && !slices.EqualFunc(m.outs, next.outs, func(a, b TensorInfo) bool { return elements(a.Shape) == elements(b.Shape) }) {
		return fmt.Errorf("it gives other numbers than the one at work: %v, not %v", shapes(next.outs), shapes(m.outs))
	}
	return nil
}

// warm runs each interpreter once, that of the first message is not slower
// than the others then; where samples go several at once, those for them too.
func (m *version) warm(wide bool) error {
	p := m.serving.Load()
	if p == nil {
		return ErrClosed
	}
	var workers []*worker
	defer func() {
		for _, w := range workers {
			p.give(w)
		}
	}()
	for range p.size {
		w, err := p.take(context.Background()) // nobody else has it yet
		if err != nil {
			return err
		}
		workers = append(workers, w)
		fixedInput(w.in, 0)
		if err := w.invoke(); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
		if wide && m.batches {
			for k := range widths {
				w.widen(m, p.delegate, k)
			}
		}
	}
	return nil
}
