package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
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
	more   chan struct{} // one token: there are changes to tell
	ctx    context.Context
	stop   context.CancelFunc

	client http.Client
	sends  sync.WaitGroup // one a running output
	gone   []*Event       // cleared because their rule is gone since the last run

	// Changes that are to be kept and told, in order.
	waiting struct {
		sync.Mutex
		room *sync.Cond
		list []change
	}
	telling sync.Mutex // one tells at a time; guards what follows
	journal journal
	unkept  bool // the state file must be written: something is in neither

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
	e := &Engine{dir: dir, out: out, log: log, more: make(chan struct{}, 1), client: newClient()}
	e.waiting.room = sync.NewCond(&e.waiting)
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_alert_events_total", Help: "Alerts raised, repeated and cleared.",
	}, []string{"alert", "state"})
	e.failed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "edgegateway_alert_outputs_failed_total", Help: "Events that an output of an alert did not bring out, by reason.",
	}, []string{"alert", "output", "reason"})
	if err := errors.Join(reg.Register(e.events), reg.Register(e.failed), reg.Register(collector{e}), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, fmt.Errorf("alert: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, fmt.Errorf("alert: %w", err)
	}
	built, err := e.build(rules, fields)
	if err != nil {
		return nil, err
	}
	state, damage, err := loadState(dir)
	if err != nil {
		return nil, err
	}
	if damage != nil {
		log.Error().Err(damage).Msg("alert state is damaged")
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
		var f Fields
		var err error
		if cfg.When != "" {
			f, err = fields(cfg.Stream)
		}
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
		for _, state := range []string{Raised, Repeated, Cleared} {
			e.events.WithLabelValues(name, state)
		}
	}
}

// Result is called by the streams' workers, many at once. It never waits for
// an output; where events come faster than the disk keeps them it waits for
// that.
func (e *Engine) Result(r *pipeline.Result, js []byte, _ bool) {
	e.waiting.Lock()
	for len(e.waiting.list) >= maxWaiting {
		e.waiting.room.Wait()
	}
	e.waiting.Unlock()
	e.mu.RLock()
	defer e.mu.RUnlock()
	rules := e.byStream[r.Stream]
	if len(rules) == 0 {
		return
	}
	env := pipeline.Environment(r)
	now := time.Now()
	for _, rule := range rules {
		rule.result(r, env, js, now, e.report)
	}
}

// report puts a change in line: it is told when it is kept.
func (e *Engine) report(c change) {
	e.waiting.Lock()
	e.waiting.list = append(e.waiting.list, c)
	e.waiting.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// tell keeps what waits on disk, in one write, and then tells it: what the
// world was told is known after a power cut. A disk that fails holds up no
// alert.
func (e *Engine) tell() {
	e.telling.Lock()
	defer e.telling.Unlock()
	e.waiting.Lock()
	list := e.waiting.list
	e.waiting.list = nil
	e.waiting.room.Broadcast()
	e.waiting.Unlock()
	if len(list) == 0 {
		return
	}
	var lines []byte
	for _, c := range list {
		b, err := json.Marshal(entry{c.rule.name, c.rule.hash, &c.state})
		if err != nil {
			panic(err) // the result is JSON by construction
		}
		lines = append(append(lines, b...), '\n')
	}
	if !e.unkept {
		e.unkept = e.journal.write(e.dir, lines) != nil
	}
	var err error
	if e.unkept || e.journal.size > maxJournal {
		err = e.save()
	}
	if err != nil {
		e.log.Error().Err(err).Int("events", len(list)).Msg("told, but not kept")
	}
	for _, c := range list {
		ev := c.event
		e.events.WithLabelValues(ev.Alert, ev.State).Inc()
		e.log.Info().Str("alert", ev.Alert).Str("source", ev.Source).Str("state", ev.State).Msg(ev.Message)
		e.out.PublishEvent(ev)
		for _, o := range c.rule.out {
			o.offer(ev)
		}
	}
}

const (
	tickEvery  = 100 * time.Millisecond // how fine time-driven changes are
	tellEvery  = 100 * time.Millisecond // how often the disk is written at most
	maxWaiting = 4096                   // changes that may wait to be told
	maxJournal = 1 << 20                // bytes, before a new state file is written
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
	e.telling.Lock()
	err := e.save() // the journal begins anew
	e.telling.Unlock()
	if err != nil {
		e.log.Error().Err(err).Msg("alert state not saved")
	}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var told time.Time
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			e.tell()
			e.finish()
			e.telling.Lock()
			defer e.telling.Unlock()
			return e.save()
		case now := <-tick.C:
			e.look(func(r *rule) { r.tick(now, e.report) })
		case <-e.more:
			if due == nil {
				due = time.After(tellEvery - time.Since(told))
			}
		case <-due:
			e.tell()
			due, told = nil, time.Now()
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

// save writes the state file and begins the journal anew; e.telling is held.
func (e *Engine) save() error {
	e.journal.close()
	s := saved{Rules: map[string]savedRule{}}
	e.look(func(r *rule) { s.Rules[r.name] = r.save(false) })
	err := saveState(e.dir, s)
	e.unkept = err != nil
	return err
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
				old[name].drop(now, e.report)
			}
		}
		e.tell() // before the outputs of what was in force end
		for _, r := range ending {
			r.end()
		}
	}, nil
}
