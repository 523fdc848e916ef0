package alert

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

	mu       sync.RWMutex
	rules    map[string]*rule
	byStream map[string][]*rule
}

// New builds the rules and takes up the state that the folder holds. fields
// tells what the results of a stream hold; a condition over what is not there
// is an error that names the rule.
func New(rules map[string]Config, fields func(stream string) (Fields, error), dir string, out Publisher, log zerolog.Logger, reg prometheus.Registerer) (*Engine, error) {
	e := &Engine{dir: dir, out: out, log: log, dirty: make(chan struct{}, 1)}
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_alert_events_total", Help: "Alerts raised, repeated and cleared.",
	}, []string{"alert", "state"})
	e.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_alert_outputs_failed_total", Help: "Outputs of alerts that failed or found their queue full.",
	}, []string{"alert", "output"})
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
	for name, r := range built {
		r.restore(state.Rules[name])
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

func (e *Engine) use(rules map[string]*rule) {
	by := map[string][]*rule{}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		r := rules[name]
		by[r.cfg.Stream] = append(by[r.cfg.Stream], r)
	}
	e.mu.Lock()
	e.rules, e.byStream = rules, by
	e.mu.Unlock()
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

// tickEvery is how fine time-driven changes are.
const tickEvery = 100 * time.Millisecond

// Run does what time brings, runs the outputs and keeps the state on disk.
// It begins by publishing each alert's present state once more: the broker's
// retained messages do not outlive a restart.
func (e *Engine) Run(ctx context.Context) error {
	defer e.stop()
	for _, ev := range e.known() {
		e.out.PublishEvent(&ev)
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return e.save()
		case now := <-tick.C:
			for _, r := range e.snapshot() {
				if r.tick(now, e.publish) {
					e.touch()
				}
			}
		case <-e.dirty:
			if retry == nil {
				if err := e.save(); err != nil {
					e.log.Error().Err(err).Msg("alert state not saved, trying again")
					retry = time.After(time.Second)
				}
			}
		case <-retry:
			retry = nil
			e.touch()
		}
	}
}

func (e *Engine) snapshot() []*rule {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Collect(maps.Values(e.rules))
}

func (e *Engine) save() error {
	s := saved{Rules: map[string]savedRule{}}
	for _, r := range e.snapshot() {
		s.Rules[r.name] = r.save()
	}
	return saveState(e.dir, s)
}

// known are the last events of all alerts that were ever raised.
func (e *Engine) known() []Event {
	var list []Event
	for _, r := range e.snapshot() {
		for _, s := range r.save().Sources {
			list = append(list, *s.Event)
		}
	}
	slices.SortFunc(list, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return list
}

// Active are the alerts that are raised, the oldest first.
func (e *Engine) Active() []Event {
	return slices.DeleteFunc(e.known(), func(ev Event) bool { return ev.State == Cleared })
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
		e.mu.RLock()
		old := e.rules
		e.mu.RUnlock()
		for name, r := range built {
			if was := old[name]; was != nil {
				if reflect.DeepEqual(was.cfg, r.cfg) {
					r.out = was.out
				}
				r.restore(was.save())
			}
		}
		e.use(built)
		now := time.Now()
		for name, r := range old {
			if built[name] != nil {
				continue
			}
			r.mu.Lock()
			for _, s := range r.states {
				if s.raised() {
					r.say(s, Cleared, now, nil, nil, e.publish)
				}
			}
			r.mu.Unlock()
		}
		e.touch()
	}, nil
}
