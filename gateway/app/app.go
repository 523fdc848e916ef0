package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/gateway/alert"
	"edgegateway/gateway/dashboard"
	"edgegateway/gateway/dataset"
	"edgegateway/gateway/learn"
	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/rollout"
	"edgegateway/gateway/upstream"
	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// App is a whole gateway.
type App struct {
	name   string
	file   string // its configuration
	log    zerolog.Logger
	load   func() (Config, error) // for reload
	data   *dataFolder
	store  *store.Store
	coming *upstream.Incoming // versions from the clouds
	engine *infer.Engine
	broker *broker.Server
	pipe   *pipeline.Pipeline
	roll   *rollout.Rollout
	learn  *learn.Learner
	child  *learn.Worker
	alerts *alert.Engine
	sets   *dataset.Recorder
	drifts *drifts
	labels labelTaps
	out    *outputs
	dash   *dashboard.Server // nil without a listener
	stages []stage
	cut    context.CancelFunc
	ready  atomic.Bool

	mu       sync.Mutex // of a reload
	cfg      Config
	reloaded atomic.Pointer[ReloadStatus] // its count is 0 before the first
	reloadOK prometheus.Gauge
	retiring sync.WaitGroup // models of earlier configurations
}

// grace is how long a stop may take before what is left is cut short.
const grace = 1500 * time.Millisecond

// New builds a gateway; nothing is global, so that two live in one process.
// load reads the configuration again when a reload is asked for; trial runs
// a model's candidates in a child process. A configuration that cannot be
// served is a *ConfigError.
func New(cfg Config, load func() (Config, error), trial infer.TrialFunc, log zerolog.Logger, reg *prometheus.Registry) (app *App, err error) {
	a := &App{name: cfg.Gateway, file: cfg.File, log: log, load: load, cfg: cfg}
	ctx, cut := context.WithCancel(context.Background())
	a.cut = cut
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.data, err = openData(cfg.Data, cfg.Gateway); err != nil {
		return nil, err
	}
	if _, err = keyfile.Read(cfg.Store.Keys...); err != nil {
		return nil, cfg.refused(fmt.Errorf("store.keys: %w", err))
	}
	if a.store, err = store.OpenAnew(store.Dir(a.data.dir), cfg.Store); err != nil {
		return nil, err
	}
	if aside := a.store.Aside(); len(aside) > 0 {
		log.Error().Strs("kept", aside).Msg(stateDamaged)
	}
	a.store.Pin(cfg.Pinned())
	a.sayUntrusted()
	a.store.BuildOn(cfg.ModelFiles())
	if a.coming, err = upstream.OpenIncoming(filepath.Join(store.Dir(a.data.dir), "incoming"), cfg.Gateway, versions{a}, part(log, "versions")); err != nil {
		return nil, err
	}
	if a.roll, err = rollout.Open(cfg.Rollout, a.store, store.Dir(a.data.dir), part(log, "rollout"), reg); err != nil {
		return nil, err
	}
	models, err := a.roll.Resolve(cfg.Models, cfg.Streams)
	if err != nil {
		return nil, cfg.refused(err)
	}
	if a.engine, err = infer.New(cfg.Infer, models.Models, a.data.path("delegates"), trial, part(log, "infer"), reg); err != nil {
		return nil, cfg.refused(err)
	}
	if err = cfg.fit(inputsOf(a.engine)); err != nil {
		return nil, cfg.refused(err)
	}
	if a.broker, err = broker.New(cfg.Broker, part(log, "broker"), reg); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	a.out = &outputs{broker: a.broker}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstream)) {
		l, err := a.newLink(ctx, name, cfg.Upstream[name], reg)
		if err != nil {
			return nil, fmt.Errorf("upstream.%s: %w", name, err)
		}
		a.out.links = append(a.out.links, l)
	}
	if a.alerts, err = alert.New(cfg.rules(), cfg.fields, a.data.path("alerts"), a.out, part(log, "alert"), reg); err != nil {
		return nil, err
	}
	if a.sets, err = dataset.NewRecorder(a.data.dir, cfg.recorded(), part(log, "dataset"), reg); err != nil {
		return nil, err
	}
	// Before the streams' own: a label counts from its message on.
	if err = a.tapLabels(); err != nil {
		return nil, err
	}
	a.drifts = &drifts{dir: a.data.path("drift"), store: a.store, alerts: a.alerts}
	a.drifts.clear(cfg.Streams)
	sinks := []pipeline.Sink{a.out, a.alerts, a.roll}
	if a.pipe, err = pipeline.New(cfg.Streams, a.engine, a.broker, sinks, a.sets, a.drifts, a.data.nextEpoch, part(log, "pipeline"), reg); err != nil {
		return nil, err
	}
	a.roll.Served(models, cfg.Models)
	a.roll.Watch(cfg.Store.Inbox)
	a.roll.Begin(rollout.Gateway{
		Engine: a.engine, Streams: a.pipe, Reload: &a.mu, Say: a.out.Say, Differ: a.sets,
		Models: func() map[string]infer.ModelConfig { return a.cfg.Models },
	})
	if err = a.openLearn(cfg, reg); err != nil {
		return nil, err
	}
	if _, err = a.broker.Tap([]string{"#"}, a.pipe.Handle); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if cfg.Dashboard.Listen != "" {
		if a.dash, err = dashboard.New(cfg.Dashboard, a, reg, part(log, "dashboard")); err != nil {
			return nil, err
		}
	}
	a.reloadOK = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "edgegateway_config_reload_success", Help: "1 while the configuration is as the file was at the last reload, 0 where that was refused.",
	})
	a.reloadOK.Set(1)
	a.reloaded.Store(&ReloadStatus{})
	if err = reg.Register(a.reloadOK); err != nil {
		return nil, err
	}
	if err = a.data.tell(cfg.File, a.DashboardAddr()); err != nil {
		return nil, err
	}
	a.stages = a.inOrder()
	return a, nil
}

// sayUntrusted says of versions that answer that they are not signed as is asked
// for now.
func (a *App) sayUntrusted() {
	for _, e := range a.store.Untrusted() {
		a.log.Warn().Err(e).Msg("a version that answers would not be taken now; it goes on until another one does")
	}
}

// Preflight has each version tried by run before it goes live; without it they
// are not. It is called before Run.
func (a *App) Preflight(run infer.PreflightFunc) {
	a.roll.Try(rollout.Preflight(run, func() (infer.Config, rollout.PreflightConfig) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.cfg.Infer, a.cfg.Rollout.Preflight
	}))
}

func part(log zerolog.Logger, name string) zerolog.Logger {
	return log.With().Str("part", name).Logger()
}

func (a *App) newLink(cut context.Context, name string, cfg upstream.Config, reg prometheus.Registerer) (*uplink, error) {
	log := part(a.log, "upstream").With().Str("upstream", name).Logger()
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"upstream": name}, reg)
	l := &uplink{name: name, queue: make(chan upstream.Record, feedQueue), log: log, cut: cut}
	l.configure(cfg)
	var err error
	if l.outbox, err = upstream.OpenOutbox(filepath.Join(a.data.path("outbox"), name), cfg, log, reg); err != nil {
		return nil, err
	}
	if l.bridge, err = upstream.NewBridge(name, a.name, cfg, l.outbox, a.command, log, reg); err != nil {
		return nil, errors.Join(err, l.outbox.Close())
	}
	l.bridge.Fetch(a.coming)
	return l, nil
}

// inOrder is the stages in the order in which they stop: the order of the
// journey, then what the journey ran on.
func (a *App) inOrder() []stage {
	list := []stage{{"intake", a.hold}, {"pipeline", a.pipe.Run}, {"alert", a.alerts.Run}, {"dataset", a.sets.Run}, {"labels", a.answerLabels}, {"rollout", a.roll.Run}, {"fl", a.learn.Run}}
	for _, l := range a.out.links {
		list = append(list, stage{"outbox " + l.name, l.feed}, stage{"upstream " + l.name, l.bridge.Run})
	}
	list = append(list, stage{"broker", a.broker.Run}, stage{"infer", a.engine.Run})
	if a.dash != nil {
		list = append(list, stage{"dashboard", a.dash.Run})
	}
	return list
}

// hold ends the intake: what the broker acknowledged is in a queue by then,
// and what comes later it does not acknowledge.
func (a *App) hold(ctx context.Context) error {
	<-ctx.Done()
	a.broker.Hold()
	return nil
}

// Run is the gateway's life: until ctx ends, or a stage fails.
func (a *App) Run(ctx context.Context) error {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-a.broker.Ready():
			a.ready.Store(watch.Err() == nil)
			line := a.log.Info().Strs("broker", a.broker.Addrs())
			if addr := a.DashboardAddr(); addr != "" {
				line = line.Str("dashboard", addr)
			}
			line.Msg("ready")
			<-watch.Done()
		case <-watch.Done():
		}
		a.ready.Store(false) // as soon as it begins to stop
	}()
	err := runStages(ctx, a.stages, grace, func() { a.cut(); a.pipe.Cut() })
	stop()
	return errors.Join(err, a.Close())
}

// Close frees what New took; Run does it by itself.
func (a *App) Close() error {
	a.cut()
	a.retiring.Wait()
	var errs []error
	if a.out != nil {
		for _, l := range a.out.links {
			errs = append(errs, l.outbox.Close())
		}
	}
	if a.dash != nil {
		errs = append(errs, a.dash.Close())
	}
	if a.engine != nil {
		errs = append(errs, a.engine.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.data != nil {
		errs = append(errs, a.data.close())
	}
	return errors.Join(errs...)
}

// Addrs are the broker's addresses once it is ready.
func (a *App) Addrs() []string { return a.broker.Addrs() }

// DashboardAddr is the address of metrics and health, "" without.
func (a *App) DashboardAddr() string {
	if a.dash == nil {
		return ""
	}
	return a.dash.Addr()
}

// BrokerReady is closed when every listener accepts.
func (a *App) BrokerReady() <-chan struct{} { return a.broker.Ready() }

// Reload reads the configuration again and applies what changed, all or
// nothing; what cannot change in a running gateway is refused by name. Whoever
// asked is told of a refusal, and so is whoever reads log or status.
func (a *App) Reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.reload()
	last := ReloadStatus{Count: a.reloaded.Load().Count + 1}
	if err != nil {
		last.Error = err.Error()
		a.log.Error().Err(err).Msg("configuration not reloaded; the old one stays")
		a.reloadOK.Set(0)
	} else {
		a.reloadOK.Set(1)
	}
	a.reloaded.Store(&last)
	return err
}

func (a *App) reload() error {
	next, err := a.load()
	if err != nil {
		return err
	}
	if err := fixed(a.cfg, next); err != nil {
		return err
	}
	// What can refuse comes first, and touches nothing.
	terms, err := a.store.Prepare(next.Store)
	if err != nil {
		return next.refused(fmt.Errorf("store.%w", err))
	}
	set, err := a.roll.Resolve(next.Models, next.Streams)
	if err != nil {
		return next.refused(err)
	}
	models, err := a.engine.Prepare(next.Infer, set.Models)
	if err != nil {
		return next.refused(err)
	}
	if err := next.fit(inputsOf(models)); err != nil {
		models.Discard()
		return next.refused(err)
	}
	streams, err := a.pipe.Prepare(next.Streams, models)
	if err != nil {
		models.Discard()
		return err
	}
	rules, err := a.alerts.Prepare(next.rules(), next.fields)
	if err != nil {
		models.Discard()
		return err
	}
	record, err := a.sets.Prepare(next.recorded())
	if err != nil {
		models.Discard()
		return err
	}
	if err := a.learn.Check(next.FL); err != nil {
		models.Discard()
		return next.refused(err)
	}
	if err := a.broker.Reload(next.Broker); err != nil {
		models.Discard()
		return fmt.Errorf("broker.%w", err)
	}
	terms()
	a.roll.Watch(next.Store.Inbox)
	// A model that left answers the streams that finish with it.
	retire := models.Apply()
	record()
	a.roll.Configure(next.Rollout) // before the topics of its labels are listened to
	tapped := a.tapLabels()
	finished := streams.Apply()
	a.retiring.Go(func() {
		<-finished
		retire()
	})
	rules()
	a.drifts.clear(next.Streams)
	a.roll.Served(set, next.Models)
	errs := []error{tapped}
	for _, l := range a.out.links {
		cfg := next.Upstream[l.name]
		if reflect.DeepEqual(cfg, a.cfg.Upstream[l.name]) {
			continue
		}
		l.configure(cfg)
		errs = append(errs, l.bridge.Reload(cfg))
	}
	a.cfg = next
	a.learn.Configure(next.FL)
	a.store.Pin(next.Pinned())
	a.store.BuildOn(next.ModelFiles())
	a.sayUntrusted()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a.log.Info().Msg("configuration reloaded")
	return nil
}

// fixed names what a reload cannot change.
func fixed(old, next Config) error {
	var errs []error
	for _, f := range []struct {
		name     string
		old, now any
	}{
		{"gateway", old.Gateway, next.Gateway},
		{"data", old.Data, next.Data},
		{"log", old.Log, next.Log},
		{"broker.listeners", old.Broker.Listeners, next.Broker.Listeners},
		{"dashboard", old.Dashboard, next.Dashboard},
		{"upstream", slices.Sorted(maps.Keys(old.Upstream)), slices.Sorted(maps.Keys(next.Upstream))},
	} {
		if !reflect.DeepEqual(f.old, f.now) {
			errs = append(errs, fmt.Errorf("%s: cannot change while the gateway runs; restart it", f.name))
		}
	}
	return errors.Join(errs...)
}
