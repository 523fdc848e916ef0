package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/infer/tflite"
)

// Model is one model at work: warm interpreters of the delegate that serves
// it now. It is for many goroutines.
type Model struct {
	name      string
	cfg       ModelConfig
	engine    Config
	file      *file
	labels    string       // stamp of the file
	pinned    string       // the delegate that the configuration names, or auto
	accel     *accelerator // nil: none
	log       zerolog.Logger
	fails     prometheus.Counter
	open      func(delegate string) (*pool, error)
	wake      func() // tells the engine that there is something to do
	ins, outs []TensorInfo

	lib     *tflite.Library
	batches bool           // several samples can go in one Invoke
	files   map[int][]byte // the file for so many samples

	serving atomic.Pointer[pool] // nil: closed
	frames  atomic.Uint64        // on the accelerator since it was opened

	mu       sync.Mutex
	why      string
	trying   bool
	degraded string // why the accelerator, or what is pinned, does not serve
	table    []CandidateReport
	away     absence
}

func (e *Engine) newModel(name string, cfg Config, mc ModelConfig, f *file) (*Model, error) {
	lib, err := e.library(cfg.Library)
	if err != nil {
		return nil, err
	}
	m := &Model{
		name: name, cfg: mc, engine: cfg, file: f, labels: stamp(mc.Labels), log: e.log.With().Str("model", name).Logger(), wake: e.wake,
		fails: e.fails.WithLabelValues(name), pinned: cmp.Or(mc.Delegate, cfg.Delegate, "auto"),
	}
	for _, n := range f.notices {
		m.log.Info().Msg(n)
	}
	m.lib, m.batches = lib, m.accel == nil && f.model.Batched(2) != nil
	m.open = func(delegate string) (*pool, error) { return newPool(lib, m, delegate) }
	first := m.pinned
	if first == "auto" || first == "external" {
		m.accel = mc.accelerator()
		first = e.begin(m)
	} else {
		m.why = "pinned by the configuration"
	}
	p, err := m.open(first)
	if err != nil && first != "builtin" {
		// A delegate that is missing or refuses costs speed, not the service.
		m.degrade(fmt.Errorf("%s: %w", first, err))
		m.why, m.table = "serves in place of "+first, nil
		m.trying = e.trial != nil && m.pinned == "auto"
		p, err = m.open("builtin")
	}
	if err != nil {
		return nil, err
	}
	m.ins, m.outs = p.ins, p.outs
	if w := warningOf(p.decoder); w != "" {
		m.log.Warn().Msg(w)
	}
	m.serving.Store(p)
	return m, nil
}

// Name is the model's name in the configuration.
func (m *Model) Name() string { return m.name }

// Inputs describes what the model takes.
func (m *Model) Inputs() []TensorInfo { return m.ins }

// Outputs describes what the model gives.
func (m *Model) Outputs() []TensorInfo { return m.outs }

// ErrClosed is the error of a model that is gone.
var ErrClosed = errors.New("the model is closed")

// Run fills the inputs, invokes the model and decodes the outputs into r,
// whose slices it reuses. fill writes straight into the runtime's memory; it is
// called again, and must write the same again, where an accelerator failed or
// is checked. Run waits for a warm interpreter until ctx ends, and allocates
// nothing itself.
func (m *Model) Run(ctx context.Context, fill func(in []Tensor) error, r *Result) error {
	for {
		p := m.serving.Load()
		if p == nil {
			return ErrClosed
		}
		err := m.runOn(ctx, p, fill, r)
		if err != errRetired {
			return err
		}
		// Another pool serves already.
	}
}

func (m *Model) runOn(ctx context.Context, p *pool, fill func([]Tensor) error, r *Result) error {
	w, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer p.give(w)
	begin := time.Now()
	if err := fill(w.in); err != nil {
		return err
	}
	if err := checkIndexes(w.in, m.file.limits); err != nil {
		return err
	}
	err = w.invoke()
	if p.cpu != nil {
		n, every := m.frames.Add(1), uint64(m.engine.CheckEvery)
		if err == nil && every > 0 && n%every == 0 {
			err = compare(ctx, p.cpu, w, fill)
		}
		if err != nil {
			m.standIn(p, err)
			return m.runOn(ctx, p.cpu, fill, r)
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
	for {
		old := m.serving.Load()
		if old == nil { // retired meanwhile
			next.free()
			return
		}
		if m.serving.CompareAndSwap(old, next) {
			old.retire(false)
			return
		}
	}
}

// retire lets the model go: what is under way ends, what comes later is told
// that the model is closed.
func (m *Model) retire() {
	if old := m.serving.Swap(nil); old != nil {
		old.retire(false)
	}
}

// same says whether the files beside the model's are as they were.
func (m *Model) same(mc ModelConfig) bool {
	if m.labels != stamp(mc.Labels) {
		return false
	}
	return m.accel == nil && m.pinned != "auto" || reflect.DeepEqual(m.accel, mc.accelerator())
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
