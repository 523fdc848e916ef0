package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/infer"
)

// Models gives the models by name, or as NAME@VERSION; *infer.Engine and *infer.Change do.
type Models interface {
	Model(name string) (*infer.Model, error)
}

// Pipeline is all streams and the table that says which message is whose. A
// message sees the old table or the new one, never a mixture.
type Pipeline struct {
	pub   Publisher
	sinks []Sink
	rec   Recorder
	watch Watcher
	epoch func() (uint64, error)
	log   zerolog.Logger
	drops *prometheus.CounterVec

	besides sync.Map // model's name: *atomic.Pointer[Beside]

	table  atomic.Pointer[table]
	reload sync.Mutex
	begun  bool
	ctx    context.Context // of what is under way; its end cuts short
	cut    context.CancelFunc
	intake context.Context // its end lets blocked publishers go
	stop   context.CancelFunc
	done   sync.WaitGroup // one a running stream
}

// table is the routes in the order of the streams' names.
type table struct {
	routes  []route
	streams map[string]*Stream
	users   sync.RWMutex // held for reading by a message on its way in
}

type route struct {
	filter string
	stream *Stream
}

// New builds all streams; Run starts them. epoch gives a number that was
// never given before, on this box: ids are made with it. rec may be nil where
// no stream keeps samples, and watch too: what is learned is then not kept.
func New(streams map[string]Config, models Models, pub Publisher, sinks []Sink, rec Recorder, watch Watcher, epoch func() (uint64, error), log zerolog.Logger, reg prometheus.Registerer) (*Pipeline, error) {
	p := &Pipeline{pub: pub, sinks: sinks, rec: rec, watch: watch, epoch: epoch, log: log}
	p.drops = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_pipeline_dropped_total",
		Help: "Messages and windows that became no result, by stream and reason.",
	}, []string{"stream", "reason"})
	if err := reg.Register(p.drops); err != nil {
		return nil, fmt.Errorf("pipeline: metrics: %w", err)
	}
	if err := reg.Register(collector{p}); err != nil {
		return nil, fmt.Errorf("pipeline: metrics: %w", err)
	}
	p.ctx, p.cut = context.WithCancel(context.Background())
	p.intake, p.stop = context.WithCancel(context.Background())
	t, err := p.build(streams, models, nil)
	if err != nil {
		return nil, err
	}
	p.table.Store(t)
	return p, nil
}

// build makes the table; streams that are as they were are taken over from
// the old one.
func (p *Pipeline) build(streams map[string]Config, models Models, old *table) (*table, error) {
	t := &table{streams: map[string]*Stream{}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		cfg := streams[name]
		var s *Stream
		if old != nil && old.streams[name] != nil && reflect.DeepEqual(old.streams[name].cfg, cfg) && old.streams[name].sameModel(models) {
			s = old.streams[name]
		} else {
			var err error
			if s, err = p.stream(name, cfg, models, old); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		t.streams[name] = s
		for _, f := range cfg.Topics {
			t.routes = append(t.routes, route{filter: f, stream: s})
		}
	}
	return t, errors.Join(errs...)
}

func (s *Stream) sameModel(models Models) bool {
	if s.cfg.Model == "" {
		return true
	}
	m, err := models.Model(s.cfg.ModelName())
	return err == nil && m == s.model
}

func (p *Pipeline) stream(name string, cfg Config, models Models, old *table) (*Stream, error) {
	var m *infer.Model
	if cfg.Model != "" {
		var err error
		if m, err = models.Model(cfg.ModelName()); err != nil {
			return nil, fmt.Errorf("streams.%s.%s: %w", name, map[bool]string{true: "model", false: "version"}[cfg.Version == ""], err)
		}
	}
	epoch, err := p.epoch()
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	count := &tally{drops: newDrops(name, p.drops)}
	if old != nil && old.streams[name] != nil {
		count = old.streams[name].tally
	}
	s, err := newStream(name, cfg, m, epoch, p.pub, p.sinks, p.rec, p.watch, count, p.log)
	if err == nil && m != nil {
		s.beside = p.besideOf(cfg.ModelName())
	}
	return s, err
}

// Handle is the tap: it queues the message for each stream whose filters it
// matches, once a stream.
func (p *Pipeline) Handle(m broker.Message) {
	t := p.enter()
	defer t.users.RUnlock()
	var last *Stream
	for i := range t.routes {
		r := &t.routes[i]
		if r.stream == last || !broker.Match(r.filter, m.Topic) {
			continue
		}
		last = r.stream
		r.stream.push(p.intake, r.filter, m)
	}
	m.Ack(nil)
}

// enter gives the table in force, held so that a reload waits for the message
// before it lets a stream go.
func (p *Pipeline) enter() *table {
	for {
		t := p.table.Load()
		t.users.RLock()
		if p.table.Load() == t {
			return t
		}
		t.users.RUnlock()
	}
}

// Run starts the streams, and when ctx ends lets them finish what is queued.
// Cut ends that too.
func (p *Pipeline) Run(ctx context.Context) error {
	p.reload.Lock()
	p.begin()
	p.reload.Unlock()
	<-ctx.Done()
	p.reload.Lock()
	defer p.reload.Unlock()
	p.stop()
	for _, s := range p.table.Load().streams {
		s.close()
	}
	p.done.Wait()
	p.cut()
	return nil
}

// begin starts the streams of the first table, once. A reload may come before
// Run: the old streams then run too, to finish what they have queued.
func (p *Pipeline) begin() {
	if p.begun {
		return
	}
	p.begun = true
	for _, s := range p.table.Load().streams {
		p.start(s, nil)
	}
}

// Cut drops what is still queued, counted, so that Run returns soon.
func (p *Pipeline) Cut() { p.cut() }

// start runs a stream once before, its predecessor of the same name, is done:
// so a source's results stay in order over a reload.
func (p *Pipeline) start(s *Stream, before <-chan struct{}) {
	ended := make(chan struct{})
	p.done.Go(func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		s.run(p.ctx)
	})
	s.ended = ended
}

// FitsInstead says whether the streams that run a model, and are not pinned to
// a version, go on when one with the inputs next takes its place.
func (p *Pipeline) FitsInstead(model string, next []infer.TensorInfo) error {
	t := p.table.Load()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(t.streams)) {
		if s := t.streams[name]; s.model != nil && s.cfg.ModelName() == model {
			if err := s.cfg.FitsInstead(s.model.Inputs(), next); err != nil {
				errs = append(errs, prefixStream(name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Change is a new set of streams, built beside the running ones.
type Change struct {
	p   *Pipeline
	old *table
	new *table
}

// Prepare builds the streams of a new configuration and touches nothing.
func (p *Pipeline) Prepare(streams map[string]Config, models Models) (*Change, error) {
	old := p.table.Load()
	t, err := p.build(streams, models, old)
	if err != nil {
		return nil, err
	}
	return &Change{p: p, old: old, new: t}, nil
}

// Apply swaps the new streams in: unchanged streams go on, changed ones
// finish what they have queued before their successor begins, removed ones
// finish and end. No message is lost or seen twice. finished is closed when
// no stream that left is at work any more.
func (c *Change) Apply() (finished <-chan struct{}) {
	p := c.p
	p.reload.Lock()
	defer p.reload.Unlock()
	if p.intake.Err() != nil { // stopping: all old streams finish, none begins
		return finish(slices.Collect(maps.Values(c.old.streams)))
	}
	p.begin()
	p.table.Store(c.new)
	var gone []*Stream
	for name, s := range c.old.streams {
		if c.new.streams[name] != s {
			gone = append(gone, s)
		}
	}
	for name, s := range c.new.streams {
		prev := c.old.streams[name]
		switch {
		case prev == s:
		case prev != nil:
			p.start(s, prev.ended)
		default:
			p.start(s, nil)
		}
	}
	// With the lock no message is on its way into an old stream any more.
	c.old.users.Lock()
	for _, s := range gone {
		s.close()
	}
	c.old.users.Unlock()
	return finish(gone)
}

func finish(streams []*Stream) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range streams {
			<-s.ended
		}
	}()
	return done
}
