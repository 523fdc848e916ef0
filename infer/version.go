package infer

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/infer/tflite"
)

// version is one version of a model at work: warm interpreters of the delegate
// that serves it now. It is for many goroutines.
type version struct {
	name      string // of the model
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
	yields  bool           // Invoke has the lowest priority
	batches bool           // several samples can go in one Invoke
	files   map[int][]byte // the file for so many samples

	counts  counts
	widened atomic.Bool // samples went several at once

	serving atomic.Pointer[pool] // nil: closed
	frames  atomic.Uint64        // on the accelerator since it was opened

	mu       sync.Mutex
	why      string
	trying   bool
	again    time.Time // when a trial on a busy box is made again; zero: at once
	degraded string    // why the accelerator, or what is pinned, does not serve
	table    []CandidateReport
	away     absence
}

// newVersion opens the interpreters. tried is what a trial of the candidates
// came to that was made before, nil where none was.
func (e *Engine) newVersion(name string, cfg Config, mc ModelConfig, f *file, tried []CandidateReport) (*version, error) {
	lib, err := e.library(cfg.Library)
	if err != nil {
		return nil, err
	}
	m := &version{
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
		if _, known := e.remembered(m); !known && len(tried) > 0 {
			if err := e.remember(m, choose(tried, m.pinned)); err != nil {
				m.log.Warn().Err(err).Msg("the choice is not remembered")
			}
		}
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

// run is Model.Run on this version; it gives ErrClosed when it was retired.
func (m *version) run(ctx context.Context, fill func(in []Tensor) error, r *Result) error {
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

func (m *version) runOn(ctx context.Context, p *pool, fill func([]Tensor) error, r *Result) error {
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
		m.counts.failed(1)
		return err
	}
	err = m.invoke(w)
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
	if err == nil {
		err = p.decoder.decode(w.in, w.out, r)
	}
	if err != nil {
		m.counts.failed(1)
		return err
	}
	m.answered(p, r, time.Since(begin))
	return nil
}

// answered signs a result and counts it.
func (m *version) answered(p *pool, r *Result, took time.Duration) {
	r.Model, r.Version, r.Delegate, r.Took = m.name, m.cfg.Version, p.delegate, took
	m.counts.answered(took)
}

// swap puts a pool in service and lets the old one go when it is idle.
func (m *version) swap(next *pool) {
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
func (m *version) retire() {
	if old := m.serving.Swap(nil); old != nil {
		old.retire(false)
	}
}

// same says whether a configuration, with a file of this SHA-256, would make
// this version again: the files beside the model's are as they were too.
func (m *version) same(mc ModelConfig, sum string) bool {
	if m.file.sum != sum || !reflect.DeepEqual(m.cfg, mc) || m.labels != stamp(mc.Labels) {
		return false
	}
	return m.accel == nil && m.pinned != "auto" || reflect.DeepEqual(m.accel, mc.accelerator())
}

func (m *version) status() ModelStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := ModelStatus{
		Name: m.name, Version: m.cfg.Version, File: m.file.path, SHA256: m.file.sum, Bytes: len(m.file.data),
		Why: m.why, Trying: m.trying, Degraded: m.degraded, Candidates: m.table,
	}
	if p := m.serving.Load(); p != nil {
		s.Delegate = p.delegate
	}
	return s
}
