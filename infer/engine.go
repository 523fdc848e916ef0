package infer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/tflite"
)

// Engine holds the models of a gateway.
type Engine struct {
	dir     string // of remembered choices
	trial   TrialFunc
	log     zerolog.Logger
	changed chan struct{} // one token: a model waits for its trial
	noChild sync.Once     // says once that trials cannot be started
	fails   *prometheus.CounterVec
	swaps   sync.Mutex // one at a time

	mu     sync.RWMutex
	cfg    Config
	lib    *tflite.Library // opened with the first model
	models map[string]*Model
}

// New loads all models, by name or as NAME@VERSION, on the built-in kernels, or on what an earlier trial
// chose; Run tries the rest. A model that does not load is an error that
// names it. Without models the library is not opened.
func New(cfg Config, models map[string]ModelConfig, dir string, trial TrialFunc, log zerolog.Logger, reg prometheus.Registerer) (*Engine, error) {
	e := &Engine{dir: dir, trial: trial, log: log, cfg: cfg, changed: make(chan struct{}, 1), models: map[string]*Model{}}
	e.fails = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_infer_delegate_failures_total",
		Help: "Frames that an accelerator failed or answered wrongly and the CPU answered.",
	}, []string{"model"})
	if err := errors.Join(reg.Register(e.fails), reg.Register(ages{e})); err != nil {
		return nil, fmt.Errorf("infer: %w", err)
	}
	next, err := e.load(cfg, models)
	if err != nil {
		e.Close()
		return nil, err
	}
	e.models = next
	e.wake()
	return e, nil
}

// load builds all models; those that are as they were are taken over.
func (e *Engine) load(cfg Config, models map[string]ModelConfig) (map[string]*Model, error) {
	next := map[string]*Model{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(models)) {
		old := e.models[name]
		f, err := readFile(models[name])
		if err == nil && old != nil && reflect.DeepEqual(e.cfg, cfg) && old.live.Load().same(models[name], f.sum) {
			next[name] = old
			continue
		}
		var v *version
		if err == nil {
			if _, err := e.library(cfg.Library); err != nil { // for all of them
				errs = append(errs, fmt.Errorf("infer.library: %w", err))
				break
			}
			v, err = e.newVersion(modelOf(name), cfg, models[name], f, nil)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("models.%s.%w", name, place(err)))
			continue
		}
		next[name] = newModel(v)
	}
	if len(errs) > 0 {
		for name, m := range next {
			if e.models[name] != m {
				m.retire()
			}
		}
		return nil, errors.Join(errs...)
	}
	return next, nil
}

// modelOf is the model's name without the version that NAME@VERSION pins.
func modelOf(name string) string {
	name, _, _ = strings.Cut(name, "@")
	return name
}

// file is a model file that was read and checked. It is in memory of our own:
// with a mapping of the file, somebody who writes over it ends the process.
type file struct {
	path    string
	data    []byte
	sum     string // hex SHA-256 of the .tflite, packed or not
	model   *model.Model
	limits  []int    // of indexes in its inputs; nil: it takes none
	notices []string // what was rewritten for this runtime
}

func readFile(cfg ModelConfig) (*file, error) {
	data, err := pack.ReadFile(cfg.File)
	if err != nil {
		return nil, err
	}
	m, err := model.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(cfg.File), err)
	}
	sum := sha256.Sum256(data)
	f := &file{path: cfg.File, sum: hex.EncodeToString(sum[:])}
	if m, data, f.notices, err = m.Adapted(data); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(cfg.File), err)
	}
	f.model, f.data = m, data
	if limits := m.IndexLimits(); slices.Max(append(limits, 0)) > 0 {
		f.limits = limits
	}
	return f, nil
}

// Inspect reads and checks the files of a model as an Engine does before the
// runtime sees them, holds its outputs against what they shall mean, and
// describes its inputs. Errors, and the warning, which is "" mostly, begin
// with the key that is to blame: file, labels, output, ...
func Inspect(cfg ModelConfig) (ins []TensorInfo, warning string, err error) {
	f, err := readFile(cfg)
	if err != nil {
		if _, wrong := loadLabels(cfg, nil); wrong != nil {
			return nil, "", errors.Join(place(err), place(wrong))
		}
		return nil, "", place(err)
	}
	g := f.model.Main()
	ins, outs := inFile(g, g.Inputs), inFile(g, g.Outputs)
	if !slices.ContainsFunc(outs, openShape) {
		d, err := newDecoder(cfg, ins, outs, f.model)
		if err != nil {
			return nil, "", place(err)
		}
		return ins, warningOf(d), nil
	}
	// The runtime alone knows the shapes: what needs none is held against.
	if _, err := loadLabels(cfg, f.model); err != nil {
		return nil, "", place(err)
	}
	if cfg.Output == "detection" {
		if _, err := newDecoder(cfg, ins, outs, f.model); err != nil {
			return nil, "", place(err)
		}
	}
	return ins, "", nil
}

// inFile describes tensors as the file does.
func inFile(g *model.Subgraph, tensors []int) (list []TensorInfo) {
	for _, i := range tensors {
		t := &g.Tensors[i]
		info := TensorInfo{Name: t.Name, Type: elemTypeOf(t.Type), Shape: t.Shape}
		if len(t.Quant.Scale) == 1 {
			info.Scale = t.Quant.Scale[0]
		}
		list = append(list, info)
	}
	return list
}

// openShape says whether a file leaves it to the runtime how large a tensor is.
func openShape(t TensorInfo) bool { return len(t.Shape) == 0 || elements(t.Shape) == 0 }

// elemTypeOf is the element type by the name that both packages give it.
func elemTypeOf(t model.Type) ElemType {
	for i, e := range elemTypes {
		if strings.EqualFold(e.name, t.String()) {
			return ElemType(i)
		}
	}
	return Unknown
}

// place puts the key in front that is to blame: that of the file, where no
// other one is.
func place(err error) error {
	var key *keyError
	if errors.As(err, &key) {
		return key
	}
	return fmt.Errorf("file: %w", err)
}

// library opens the TensorFlow Lite library once.
func (e *Engine) library(path string) (*tflite.Library, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lib == nil {
		lib, err := tflite.Open(path)
		if err != nil {
			return nil, err
		}
		e.lib = lib
	}
	return e.lib, nil
}

// Model gives a model by name, or NAME@VERSION where that was configured. It
// stays valid until a reload changes it; then it still answers what is under
// way. Swap exchanges what is behind it.
func (e *Engine) Model(name string) (*Model, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	m := e.models[name]
	if m == nil {
		return nil, fmt.Errorf("there is no model %q", name)
	}
	return m, nil
}

func (e *Engine) wake() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Run tries what has not been tried, one model after the other, and looks
// after accelerators, until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.changed:
		case <-tick.C:
		}
		for _, m := range e.all() {
			e.tend(ctx, m.live.Load())
		}
	}
}

func (e *Engine) all() []*Model {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var list []*Model
	for _, name := range slices.Sorted(maps.Keys(e.models)) {
		list = append(list, e.models[name])
	}
	return list
}

// Change is a new set of models, loaded beside the one in service.
type Change struct {
	e    *Engine
	cfg  Config
	next map[string]*Model
}

// Prepare loads a new set of models and touches nothing. Models that are as
// they were are taken over. One of Apply and Discard follows, before the next
// Prepare.
func (e *Engine) Prepare(cfg Config, models map[string]ModelConfig) (*Change, error) {
	next, err := e.load(cfg, models)
	if err != nil {
		return nil, err
	}
	return &Change{e: e, cfg: cfg, next: next}, nil
}

// Model gives a model of the new set by name.
func (c *Change) Model(name string) (*Model, error) {
	m := c.next[name]
	if m == nil {
		return nil, fmt.Errorf("there is no model %q", name)
	}
	return m, nil
}

// Discard frees what was loaded; the old set stays.
func (c *Change) Discard() {
	for name, m := range c.next {
		if c.e.models[name] != m {
			m.retire()
		}
	}
}

// Apply puts the new set into service. Models that left it still answer those
// who hold them, until retire is called.
func (c *Change) Apply() (retire func()) {
	c.e.mu.Lock()
	old := c.e.models
	c.e.models, c.e.cfg = c.next, c.cfg
	c.e.mu.Unlock()
	c.e.wake()
	return func() {
		for name, m := range old {
			if c.next[name] != m {
				m.retire()
			}
		}
	}
}

// Reload is Prepare, Apply and retire: on an error nothing changes.
func (e *Engine) Reload(cfg Config, models map[string]ModelConfig) error {
	c, err := e.Prepare(cfg, models)
	if err != nil {
		return err
	}
	c.Apply()()
	return nil
}

// Close frees all models, after what is under way.
func (e *Engine) Close() error {
	e.swaps.Lock()
	defer e.swaps.Unlock()
	for _, m := range e.all() {
		m.retire()
	}
	return nil
}

// ModelStatus is a model as a person looks at it.
type ModelStatus struct {
	Name       string            `json:"name"`
	Version    string            `json:"version,omitempty"` // "" where the model has no versions
	File       string            `json:"file"`
	SHA256     string            `json:"sha256"`
	Bytes      int               `json:"bytes"`
	Delegate   string            `json:"delegate"` // what computes it now
	Why        string            `json:"why"`
	Trying     bool              `json:"trying"`             // the trial is not over
	Degraded   string            `json:"degraded,omitempty"` // why the accelerator is not in use
	Candidates []CandidateReport `json:"candidates,omitempty"`
}

// Models lists the models by name, pinned versions as NAME@VERSION.
func (e *Engine) Models() []ModelStatus {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var list []ModelStatus
	for _, name := range slices.Sorted(maps.Keys(e.models)) {
		s := e.models[name].live.Load().status()
		s.Name = name
		list = append(list, s)
	}
	return list
}
