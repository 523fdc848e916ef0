package alert

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
)

// Publisher tells the world what happened.
type Publisher interface {
	// PublishEvent is called for each change; for one source in order.
	PublishEvent(e *Event)
	// PublishLocal publishes for an appliance.
	PublishLocal(topic string, payload []byte, retain bool) error
}

// Engine holds all rules. It is a pipeline.Sink.
type Engine struct {
	dir    string
	out    Publisher
	log    zerolog.Logger
	events *prometheus.CounterVec
	failed *prometheus.CounterVec
	dirty  chan struct{} // one token: the state is to be saved
	ctx    context.Context
	stop   context.CancelFunc

	client http.Client
	sends  sync.WaitGroup // one a running output
	gone   []*Event       // cleared because their rule is gone since the last run

	// mu is held for reading by whatever looks at a rule, so that a reload
	// swaps all of them between two results.
	mu       sync.RWMutex
	begun    bool // Run runs the outputs
	ended    bool // and has ended them
	rules    map[string]*rule
	byStream map[string][]*rule
}

// New builds the rules and takes up the state that the folder holds. fields
// tells what the results of a stream hold; a condition over what is not there
// is an error that names the rule.
func New(rules map[string]Config, fields func(stream string) (Fields, error), dir string, out Publisher, log zerolog.Logger, reg prometheus.Registerer) (*Engine, error) {
	e := &Engine{dir: dir, out: out, log: log, dirty: make(chan struct{}, 1), client: newClient()}
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_alert_events_total", Help: "Alerts raised, repeated and cleared.",
	}, []string{"alert", "state"})
	e.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_alert_outputs_failed_total", Help: "Events that an output of an alert did not bring out, by reason.",
	}, []string{"alert", "output", "reason"})
	if err := errors.Join(reg.Register(e.events), reg.Register(e.failed), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("alert: %w", err)
	}
	built, err := e.build(rules, fields)
	if err != nil {
		return nil, err
	}
	state, err := loadState(dir)
	if err != nil {
		return nil, err
	}
	for name, from := range state.Rules {
		if r := built[name]; r != nil {
			r.restore(from)
			continue
		}
		for _, s := range from.Sources {
			if s != nil && s.raised() {
				s.Event.State, s.Event.Time = Cleared, time.Now()
				s.Event.Message = name + ": the rule is no more"
				e.gone = append(e.gone, s.Event)
			}
		}
	}
	e.use(built)
	return e, nil
}

func (e *Engine) build(rules map[string]Config, fields func(string) (Fields, error)) (map[string]*rule, error) {
	built := map[string]*rule{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		cfg := rules[name]
		f, err := fields(cfg.Stream)
		if err != nil {
			errs = append(errs, fmt.Errorf("alerts.%s.stream: %w", name, err))
			continue
		}
		r, err := newRule(name, cfg, f, e.log)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.out = newOutputs(cfg, e, r.log, name)
		built[name] = r
	}
	return built, errors.Join(errs...)
}

// use puts rules into force; e.mu is held, or nobody else is there yet.
func (e *Engine) use(rules map[string]*rule) {
	e.rules, e.byStream = rules, map[string][]*rule{}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		r := rules[name]
		e.byStream[r.cfg.Stream] = append(e.byStream[r.cfg.Stream], r)
	}
}

// Result is called by the streams' workers, many at once. It never waits for
// an output.
func (e *Engine) Result(r *pipeline.Result, json []byte, _ bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	rules := e.byStream[r.Stream]
	if len(rules) == 0 {
		return
	}
	env := environment(r)
	now := time.Now()
	for _, rule := range rules {
		if rule.result(r, env, json, now, e.publish) {
			e.touch()
		}
	}
}

func (e *Engine) publish(ev *Event) {
	e.events.WithLabelValues(ev.Alert, ev.State).Inc()
	e.log.Info().Str("alert", ev.Alert).Str("source", ev.Source).Str("state", ev.State).Msg(ev.Message)
	e.out.PublishEvent(ev)
}

func (e *Engine) touch() {
	select {
	case e.dirty <- struct{}{}:
	default:
	}
}

const (
	tickEvery = 100 * time.Millisecond // how fine time-driven changes are
	saveEvery = time.Second            // how often the state is written at most
)

// Run does what time brings, runs the outputs and keeps the state on disk.
// It begins by publishing each alert's present state once more: the broker's
// retained messages do not outlive a restart.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	e.begun = true
	for _, r := range e.rules {
		e.start(r)
	}
	e.mu.Unlock()
	for _, ev := range e.gone {
		e.out.PublishEvent(ev)
	}
	e.gone = nil
	e.look(func(r *rule) { r.tell(e.out.PublishEvent) })
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var saved time.Time
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			err := e.save()
			e.finish()
			return err
		case now := <-tick.C:
			e.look(func(r *rule) {
				if r.tick(now, e.publish) {
					e.touch()
				}
			})
		case <-e.dirty:
			if due == nil {
				due = time.After(saveEvery - time.Since(saved))
			}
		case <-due:
			due, saved = nil, time.Now()
			if err := e.save(); err != nil {
				e.log.Error().Err(err).Msg("alert state not saved, trying again")
				e.touch()
			}
		}
	}
}

// start runs the outputs of a rule.
func (e *Engine) start(r *rule) {
	for _, o := range r.out {
		e.sends.Go(func() { o.run(e.ctx) })
	}
}

// end lets the outputs finish what is queued.
func (r *rule) end() {
	for _, o := range r.out {
		close(o.done)
	}
}

// finish lets the outputs send what waits, for a short while.
func (e *Engine) finish() {
	e.mu.Lock()
	e.ended = true
	for _, r := range e.rules {
		r.end()
	}
	e.mu.Unlock()
	timer := time.AfterFunc(outputGrace, e.stop)
	e.sends.Wait()
	timer.Stop()
	e.stop()
	e.client.CloseIdleConnections()
}

// look does f for each rule in force.
func (e *Engine) look(f func(*rule)) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		f(e.rules[name])
	}
}

func (e *Engine) save() error {
	s := saved{Rules: map[string]savedRule{}}
	e.look(func(r *rule) { s.Rules[r.name] = r.save(false) })
	return saveState(e.dir, s)
}

// Active are the alerts that are raised, the oldest first.
func (e *Engine) Active() []Event {
	list := []Event{}
	e.look(func(r *rule) {
		for _, s := range r.save(false).Sources {
			if s.raised() {
				list = append(list, *s.Event)
			}
		}
	})
	slices.SortStableFunc(list, func(a, b Event) int { return a.Since.Compare(b.Since) })
	return list
}

// Prepare builds the rules of a new configuration and gives the function that
// swaps them in; rules that are as they were keep all they know, changed ones
// what is raised. An alert whose rule is gone is cleared.
func (e *Engine) Prepare(rules map[string]Config, fields func(string) (Fields, error)) (swap func(), err error) {
	built, err := e.build(rules, fields)
	if err != nil {
		return nil, err
	}
	return func() {
		e.mu.Lock()
		if e.ended {
			e.mu.Unlock()
			return
		}
		old := e.rules
		var ending []*rule
		for name, was := range old {
			r := built[name]
			if r == nil || !reflect.DeepEqual(was.cfg, r.cfg) {
				ending = append(ending, was)
			} else {
				r.out = was.out
			}
			if r != nil {
				r.restore(was.save(true))
			}
		}
		for name, r := range built {
			if was := old[name]; e.begun && (was == nil || !reflect.DeepEqual(was.cfg, r.cfg)) {
				e.start(r)
			}
		}
		if !e.begun { // what ends has not begun, and may have something to send
			for _, r := range ending {
				e.start(r)
			}
		}
		e.use(built)
		e.mu.Unlock()
		now := time.Now()
		for _, name := range slices.Sorted(maps.Keys(old)) {
			if built[name] == nil {
				old[name].drop(now, e.publish)
			}
		}
		for _, r := range ending {
			r.end()
		}
		e.touch()
	}, nil
}
