package infer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Model is one model at work: warm interpreters of the delegate that serves
// it now. It is for many goroutines.
type Model struct {
	name   string
	cfg    ModelConfig
	engine Config
	file   *file
	log    zerolog.Logger
	fails  prometheus.Counter
	open   func(delegate string) (*pool, error)

	serving atomic.Pointer[pool] // nil: closed
	cpu     atomic.Pointer[pool] // beside an accelerator: what stands in for it
	frames  atomic.Uint64

	mu       sync.Mutex
	why      string
	trying   bool
	degraded string
	table    []CandidateReport
	retryAt  time.Time
	backoff  time.Duration
	plugged  bool // a stick was there at the last look
}

func (e *Engine) newModel(name string, cfg Config, mc ModelConfig, f *file) (*Model, error) {
	lib, err := e.library(cfg.Library)
	if err != nil {
		return nil, err
	}
	m := &Model{
		name: name, cfg: mc, engine: cfg, file: f, log: e.log.With().Str("model", name).Logger(),
		fails: e.fails.WithLabelValues(name),
	}
	m.open = func(delegate string) (*pool, error) { return newPool(lib, m, delegate) }
	pinned := mc.Delegate
	if pinned == "" {
		pinned = cfg.Delegate
	}
	first := pinned
	switch pinned {
	case "", "auto":
		first, m.trying, m.why = "builtin", true, "serves at once; the candidates are being tried"
		if c, ok := e.remembered(m); ok {
			first, m.trying, m.why, m.table = c.Delegate, false, c.Why+", remembered", c.Candidates
		}
	default:
		m.why = "pinned by the configuration"
	}
	p, err := m.open(first)
	if err != nil && first != "builtin" {
		// A delegate that is missing or refuses costs speed, not the service.
		m.log.Warn().Err(err).Str("delegate", first).Msg("not available, the built-in kernels serve")
		m.degraded, m.backoff = err.Error(), time.Second
		p, err = m.open("builtin")
	}
	if err != nil {
		return nil, err
	}
	m.serving.Store(p)
	return m, nil
}

// Name is the model's name in the configuration.
func (m *Model) Name() string { return m.name }

// Inputs describes what the model takes.
func (m *Model) Inputs() []TensorInfo { return m.pool().ins }

// Outputs describes what the model gives.
func (m *Model) Outputs() []TensorInfo { return m.pool().outs }

func (m *Model) pool() *pool { return m.serving.Load() }

// ErrClosed is the error of a model that is gone.
var ErrClosed = errors.New("the model is closed")

// Run fills the inputs, invokes the model and decodes the outputs into r,
// whose slices it reuses. fill writes straight into the runtime's memory and
// may be called twice, where an accelerator failed and the CPU stands in. Run
// waits for a warm interpreter until ctx ends, and allocates nothing itself.
func (m *Model) Run(ctx context.Context, fill func(in []Tensor) error, r *Result) error {
	for {
		p := m.serving.Load()
		if p == nil {
			return ErrClosed
		}
		w, err := p.take(ctx)
		if errors.Is(err, errRetired) {
			continue // another pool serves already
		}
		if err != nil {
			return err
		}
		err = m.runOn(ctx, p, w, fill, r)
		p.give(w)
		return err
	}
}

func (m *Model) runOn(ctx context.Context, p *pool, w *worker, fill func([]Tensor) error, r *Result) error {
	begin := time.Now()
	if err := fill(w.in); err != nil {
		return err
	}
	err := w.invoke()
	if p.accelerator {
		if err == nil && m.engine.CheckEvery > 0 && m.frames.Add(1)%uint64(m.engine.CheckEvery) == 0 {
			err = m.compare(ctx, w, fill)
		}
		if err != nil {
			return m.standIn(ctx, p, err, begin, fill, r)
		}
	}
	if err != nil {
		return err
	}
	if err := p.decoder.decode(w.in, w.out, r); err != nil {
		return err
	}
	r.Model, r.Delegate, r.Took = m.name, p.delegate, time.Since(begin)
	return nil
}

// swap puts a pool in service and lets the old one go when it is idle.
func (m *Model) swap(next *pool) {
	if old := m.serving.Swap(next); old != nil {
		old.retire()
	}
}

// retire lets the model go: what is under way ends, what comes later is told
// that the model is closed.
func (m *Model) retire() {
	m.swap(nil)
	if p := m.cpu.Swap(nil); p != nil {
		p.retire()
	}
}

func (m *Model) close() { m.retire() }

func (m *Model) needsTrial() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trying
}

func (m *Model) status() ModelStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := ModelStatus{
		Name: m.name, File: m.file.path, SHA256: m.file.sum, Bytes: len(m.file.data),
		Why: m.why, Trying: m.trying, Degraded: m.degraded, Candidates: m.table,
	}
	if p := m.serving.Load(); p != nil {
		s.Delegate = p.delegate
	}
	return s
}

func (m *Model) String() string { return fmt.Sprintf("model %s", m.name) }
