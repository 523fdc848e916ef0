package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
	"edgegateway/infer/store"
)

// Streams say whether they can go on when a model takes other inputs, and let a
// second version of it work beside the live one; *pipeline.Pipeline does.
type Streams interface {
	FitsInstead(model string, next []infer.TensorInfo) error
	Beside(model string, b *pipeline.Beside)
}

// Candidate is a version that is to be tried.
type Candidate struct {
	Name    string
	Model   infer.ModelConfig  // as it would be served
	Live    *infer.ModelConfig // what serves now; nil: the model is not configured
	Files   store.Files
	Version store.Version
}

// Verdict is what came of a trial.
type Verdict struct {
	OK     bool
	Why    string // what failed, with its numbers; where OK, what it is worth
	Report []byte // JSON, at most a megabyte
	Tried  []infer.CandidateReport
}

// Trial tries a version on this box, in a child process. It asks gate again
// and again, and waits while that says no: what serves comes first.
type Trial func(ctx context.Context, c Candidate, gate func() bool) (Verdict, error)

// Gateway is what a Rollout works on.
type Gateway struct {
	Store   *store.Store
	Dir     string // of the store
	Engine  *infer.Engine
	Streams Streams
	Trial   Trial // nil: versions are not tried
	// Reload is held while the configuration is exchanged; Models are those
	// of the one in force and are called with Reload held.
	Reload sync.Locker
	Models func() map[string]infer.ModelConfig
	// Say publishes a message that stays on its topic.
	Say func(topic string, payload []byte)
	// Differ keeps inputs on which versions differ; nil: nobody does.
	Differ pipeline.Recorder
}

// Rollout does what the store says is wanted.
type Rollout struct {
	g      Gateway
	log    zerolog.Logger
	audit  *Audit
	steps  *prometheus.CounterVec
	wake   chan struct{}
	failed string // what the store said at last, so that it is said once

	mu      sync.Mutex
	cfg     Config
	watched map[string]*watched
	recent  map[string]*recent
	job     *job               // of Run alone
	staged  map[string]*staged // of Run alone; by model

	inbox   atomic.Pointer[string]             // folder that versions are dropped into; nil or "": none
	rest    atomic.Pointer[time.Time]          // until when nothing is begun; nil: something may be
	besides sync.Map                           // model's name: *beginning
	truths  atomic.Pointer[map[string]*truths] // by model; nil: no labels arrive
}

// job is a wish that is being done.
type job struct {
	name   string
	want   store.Want
	cancel context.CancelFunc
	done   chan struct{}
	staged *staged // what it left to do, once it is done; nil: nothing
}

// often is how often the store is looked at.
const often = 250 * time.Millisecond

// Open begins with a store that nobody serves from yet: a version that ended
// the gateway again and again while it was watched is taken back. What it
// works on besides is given to Run by Begin.
func Open(cfg Config, s *store.Store, dir string, log zerolog.Logger, reg prometheus.Registerer) (*Rollout, error) {
	r := &Rollout{
		g: Gateway{Store: s, Dir: dir}, log: log, audit: openAudit(dir), wake: make(chan struct{}, 1), cfg: cfg, watched: map[string]*watched{}, recent: map[string]*recent{}, staged: map[string]*staged{},
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "edgegateway_model_steps_total",
			Help: "What became of versions of models: live, failed, rolled_back, ...",
		}, []string{"model", "step"}),
	}
	if err := reg.Register(besides{r}); err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	if err := reg.Register(r.steps); err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	if err := r.remembering(cfg.Models); err != nil {
		return nil, err
	}
	return r, r.bury()
}

// bury takes back versions that the gateway died of.
func (r *Rollout) bury() error {
	st, err := r.g.Store.State()
	if err != nil {
		return err
	}
	if len(st.Models) == 0 { // nothing to tell apart
		return nil
	}
	if err := r.audit.add(Entry{Time: time.Now().UTC(), Step: StepStart}); err != nil {
		r.log.Warn().Err(err).Msg("the audit log takes nothing")
	}
	entries, err := r.audit.Entries()
	if err != nil {
		r.log.Warn().Err(err).Msg("the audit log cannot be read")
	}
	for _, name := range slices.Sorted(maps.Keys(st.Models)) {
		m := st.Models[name]
		r.buryStaged(name, m, entries)
		n := 0
		if m.Live != "" && m.Previous != "" {
			n = r.cfg.deadly(entries, name, m.Live)
		}
		if n < deaths {
			continue
		}
		why := fmt.Sprintf("the gateway ended without a word %d times since it went live", n)
		if err := r.g.Store.Activate(name, m.Previous, "back: "+m.Live+": "+why); err != nil {
			r.log.Error().Err(err).Str("model", name).Msg(why + ", and it cannot be taken back")
			continue
		}
		r.tookBack(name, m.Live, m.Previous, why)
	}
	return nil
}

// Resolve says what is to be served of a configuration. A file in it that was
// changed since another version went live becomes a version of its own;
// Served, to be called when the set is at work, makes it the live one.
func (r *Rollout) Resolve(models map[string]infer.ModelConfig, streams map[string]pipeline.Config) (*Set, error) {
	set, err := resolve(r.g.Store, models, streams, func(name, file string) (string, error) {
		return r.keepFile(context.Background(), name, file)
	})
	if err == nil {
		for _, e := range set.PassedOver {
			r.log.Warn().Err(e).Msg("a model file of the configuration says nothing")
		}
		for _, e := range set.Damaged {
			r.log.Error().Err(e).Msg("something else serves than what is to be live")
		}
	}
	return set, err
}

// Served notes that a set is at work, of the models of a configuration. A disk
// that does not take it is said in the log: what serves, serves.
func (r *Rollout) Served(set *Set, configured map[string]infer.ModelConfig) {
	missed := func(name string, err error) {
		if err != nil {
			r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
		}
	}
	for _, name := range set.spoke {
		v := set.Models[name].Version
		const why = "the file that the configuration names was changed"
		before := r.live(name)
		if err := r.g.Store.Activate(name, v, why); err != nil {
			missed(name, err)
			continue
		}
		r.step(Entry{Step: StepLive, Model: name, Version: v, Before: before, Why: why, By: store.FromConfiguration})
	}
	for name, cfg := range configured {
		r.noteBroken(name, set.broken[name])
		for _, step := range counted { // a first one is a rise that a rule over the metrics sees
			r.steps.WithLabelValues(name, step)
		}
		if r.live(name) != "" && !set.over[name] {
			missed(name, r.keepBase(context.Background(), name, cfg.File))
		}
	}
}

// noteBroken notes why the live version of a model is not served, "" where it
// is, if that is not known yet.
func (r *Rollout) noteBroken(name, why string) {
	st, err := r.g.Store.State()
	if err != nil {
		return // look says it
	}
	m := st.Models[name]
	if m == nil || m.Live == "" || m.Find(m.Live).Broken == why {
		return
	}
	e := Entry{Step: StepFailed, Model: name, Version: m.Live, Before: m.Previous, Why: why}
	stage := store.Failed
	if why == "" {
		stage, e.Step, e.Why = store.Passed, StepLive, "it is served again"
	}
	if err := r.g.Store.Mark(name, m.Live, stage, e.Why, nil); err != nil {
		r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
	}
	r.step(e)
}

// Begin gives r what it works on, before Run.
func (r *Rollout) Begin(g Gateway) {
	g.Store, g.Dir = r.g.Store, r.g.Dir
	r.g = g
}

// Try has each version tried before it goes live; before Run.
func (r *Rollout) Try(t Trial) { r.g.Trial = t }

// Configure takes another configuration over. A stage that is under way goes on
// as it began.
func (r *Rollout) Configure(cfg Config) {
	if err := r.remembering(cfg.Models); err != nil {
		r.log.Error().Err(err).Msg("labels that arrive are not heard") // Validate would have said so
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg = cfg
}

func (r *Rollout) config() Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg
}

// Wake looks at the store at once.
func (r *Rollout) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run does what is wanted until ctx ends; then what is under way is left for
// the next start.
func (r *Rollout) Run(ctx context.Context) error {
	tick := time.NewTicker(often)
	defer tick.Stop()
	r.announce()
	var inbox sync.WaitGroup
	inbox.Go(func() { r.takeIn(ctx) })
	defer inbox.Wait()
	var watch time.Time
	for {
		select {
		case <-ctx.Done():
			if r.job != nil {
				r.job.cancel()
				<-r.job.done
			}
			for _, s := range r.staged {
				s.cancel()
				<-s.done
			}
			r.stopped()
			return nil
		case <-r.wake:
		case <-tick.C:
		}
		r.look(ctx)
		if now := time.Now(); now.Sub(watch) >= time.Second {
			watch = now
			r.watch(ctx, now)
		}
	}
}

// stopped writes down that the gateway ends of its own will.
func (r *Rollout) stopped() {
	if st, err := r.g.Store.State(); err == nil && len(st.Models) > 0 {
		if err := r.audit.add(Entry{Time: time.Now().UTC(), Step: StepStop}); err != nil {
			r.log.Warn().Err(err).Msg("the audit log takes nothing")
		}
	}
}

// look begins what is wanted, one wish at a time, the oldest first, and ends
// what is not wanted any more.
func (r *Rollout) look(ctx context.Context) {
	r.reap(ctx)
	for _, ref := range r.g.Store.Evicted() {
		if name, version, err := store.ParseRef(ref); err == nil {
			r.Removed(name, version, madeRoom, "")
		}
	}
	st, err := r.g.Store.State()
	if err != nil {
		if err.Error() != r.failed {
			r.log.Error().Err(err).Msg("the store cannot be read; what is live goes on")
		}
		r.failed = err.Error()
		return
	}
	r.failed = ""
	wanted := func(name string, w store.Want) bool {
		m := st.Models[name]
		return m != nil && m.Want != nil && reflect.DeepEqual(*m.Want, w)
	}
	for name, s := range r.staged {
		if !wanted(name, s.want) {
			s.cancel()
			<-s.done
			delete(r.staged, name)
			r.supersede(s)
		}
	}
	if j := r.job; j != nil {
		if !wanted(j.name, j.want) {
			j.cancel()
		}
		return
	}
	if rest := r.rest.Load(); rest != nil && time.Now().Before(*rest) {
		return
	}
	var next *job
	for name, m := range st.Models {
		if m.Want != nil && r.staged[name] == nil && (next == nil || m.Want.At.Before(next.want.At)) {
			next = &job{name: name, want: *m.Want}
		}
	}
	if next == nil {
		return
	}
	var own context.Context
	own, next.cancel = context.WithCancel(ctx)
	next.done = make(chan struct{})
	r.job = next
	go func() {
		defer r.Wake() // the next one
		defer close(next.done)
		defer next.cancel()
		next.staged = r.do(own, next.name, next.want)
	}()
}

// reap takes note of what is done, before the store is looked at: what it says
// is newer then. A version that is to go through stages begins with them.
func (r *Rollout) reap(ctx context.Context) {
	for name, s := range r.staged {
		select {
		case <-s.done:
			delete(r.staged, name)
		default:
		}
	}
	if r.job == nil {
		return
	}
	select {
	case <-r.job.done:
	default:
		return
	}
	s := r.job.staged
	r.job = nil
	// It may have begun its trial when something else was wanted already.
	if err := r.g.Store.GiveUp(); err != nil {
		r.log.Error().Err(err).Msg("the store takes nothing")
	}
	if s == nil || ctx.Err() != nil {
		return
	}
	var own context.Context
	own, s.cancel = context.WithCancel(ctx)
	s.done = make(chan struct{})
	r.staged[s.c.Name] = s
	go func() {
		defer r.Wake()
		defer close(s.done)
		defer s.cancel()
		r.bring(own, s)
	}()
}

// status is a model's for those who look from outside.
func (r *Rollout) status(name string, e Entry) []byte {
	s := Status{Model: name, Step: e.Step, Of: e.Version, Why: e.Why, By: e.By, Time: e.Time}
	if st, err := r.g.Store.State(); err == nil && st.Models[name] != nil {
		m := st.Models[name]
		s.Version, s.Previous, s.Wanted = m.Live, m.Previous, m.Want
		if v := m.Find(m.Live); v != nil && v.Broken != "" {
			s.Version, s.Broken = r.answering(name), v.Broken
		}
	}
	b, err := json.Marshal(s)
	if err != nil { // it holds texts and times
		panic(err)
	}
	return b
}
