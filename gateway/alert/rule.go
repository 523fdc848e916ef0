package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/expr-lang/expr/vm"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
)

// maxSources is how many sources a rule remembers; the longest silent one
// whose alert is not raised leaves.
const maxSources = 10_000

// rule is one rule at work.
type rule struct {
	name  string
	cfg   Config
	hash  string
	when  *vm.Program
	clear *vm.Program   // nil: by time
	after time.Duration // the time
	n, of int
	out   []*output
	log   zerolog.Logger

	mu     sync.Mutex
	vm     vm.VM
	states map[string]*state
	failed time.Time // when an error was last logged
}

func newRule(name string, cfg Config, f Fields, log zerolog.Logger) (*rule, error) {
	r := &rule{name: name, cfg: cfg, states: map[string]*state{}, log: log.With().Str("alert", name).Logger()}
	b, _ := json.Marshal([]any{cfg.Stream, cfg.When, cfg.For, cfg.Clear})
	sum := sha256.Sum256(b)
	r.hash = hex.EncodeToString(sum[:8])
	var err error
	if r.n, r.of, err = parseFor(cfg.For); err != nil {
		return nil, fmt.Errorf("alerts.%s.for: %w", name, err)
	}
	if r.when, err = compile(cfg.When, f); err != nil {
		return nil, fmt.Errorf("alerts.%s.when: %w", name, err)
	}
	if cfg.Clear != "" {
		if d, e := time.ParseDuration(cfg.Clear); e == nil && d >= 0 {
			r.after = d
		} else if r.clear, err = compile(cfg.Clear, f); err != nil {
			return nil, fmt.Errorf("alerts.%s.clear: neither a time such as 5s nor a condition: %w", name, err)
		}
	}
	return r, nil
}

// result looks at one result; publish is called in order for each source.
func (r *rule) result(res *pipeline.Result, env map[string]any, js []byte, now time.Time, publish func(*Event)) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(res.Source)
	fulfilled := r.eval(r.when, env, now)
	enough := s.push(now, fulfilled, r.n, r.of)
	s.Clear = r.clear != nil && r.eval(r.clear, env, now)
	switch {
	case fulfilled:
		s.FalseSince = time.Time{}
	case s.FalseSince.IsZero():
		s.FalseSince = now
	}
	if s.raised() {
		if fulfilled {
			s.Event.Count++
		}
		return r.look(s, now, js, publish)
	}
	if !enough {
		return false
	}
	s.Event = &Event{
		ID:    fmt.Sprintf("%s/%s/%x", r.name, s.Source, now.UnixNano()),
		Alert: r.name, Stream: res.Stream, Source: s.Source, Severity: r.cfg.Severity,
		Since: now, Count: r.n,
	}
	r.say(s, Raised, now, js, slices.Clone(res.Picture), publish)
	return true
}

// look repeats or clears a raised alert when its time has come.
func (r *rule) look(s *state, now time.Time, js []byte, publish func(*Event)) bool {
	if !s.raised() {
		return false
	}
	var over bool
	if r.clear != nil {
		over = s.Clear
	} else {
		over = !s.FalseSince.IsZero() && now.Sub(s.FalseSince) >= r.after
	}
	switch {
	case over && now.Sub(s.Event.Since) >= r.cfg.Hold:
		s.History = 0
		r.say(s, Cleared, now, js, nil, publish)
		return true
	case r.cfg.Repeat > 0 && now.Sub(s.Spoke) >= r.cfg.Repeat:
		r.say(s, Repeated, now, js, nil, publish)
		return true
	}
	return false
}

func (r *rule) say(s *state, what string, now time.Time, js []byte, picture []byte, publish func(*Event)) {
	e := *s.Event
	e.State, e.Time, e.Picture = what, now, picture
	if js != nil {
		e.Result = slices.Clone(js)
	}
	if text, err := render(orDefault(r.cfg.Message), &e); err == nil {
		e.Message = string(text)
	} else {
		r.log.Error().Err(err).Msg("message template")
	}
	s.Event, s.Spoke = &e, now
	publish(&e)
	for _, o := range r.out {
		o.offer(&e)
	}
}

func orDefault(message string) string {
	if message == "" {
		return "{{.Alert}} {{.State}} at {{.Source}}"
	}
	return message
}

// eval runs an expression; one that cannot be answered (a feature that is
// missing, or not a number) is false, and is logged at most once a second.
func (r *rule) eval(p *vm.Program, env map[string]any, now time.Time) bool {
	out, err := r.vm.Run(p, env)
	if err != nil {
		if now.Sub(r.failed) >= time.Second {
			r.failed = now
			message, _, _ := strings.Cut(err.Error(), "\n")
			r.log.Warn().Str("error", message).Msg("condition cannot be answered, taken as false")
		}
		return false
	}
	v, _ := out.(bool)
	return v
}

func (r *rule) state(source string) *state {
	s := r.states[source]
	if s != nil {
		return s
	}
	if len(r.states) >= maxSources {
		var oldest *state
		for _, o := range r.states {
			if !o.raised() && (oldest == nil || o.Heard.Before(oldest.Heard)) {
				oldest = o
			}
		}
		if oldest != nil {
			delete(r.states, oldest.Source)
		}
	}
	s = &state{Source: strings.Clone(source)}
	r.states[s.Source] = s
	return s
}

// tick does what time alone brings, and says whether anything changed.
func (r *rule) tick(now time.Time, publish func(*Event)) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		if r.look(s, now, nil, publish) {
			changed = true
		}
	}
	return changed
}

// save gives what the state file keeps: sources that were ever raised.
func (r *rule) save() savedRule {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := savedRule{Hash: r.hash}
	for _, name := range slices.Sorted(maps.Keys(r.states)) {
		if s := r.states[name]; s.Event != nil {
			c := *s
			out.Sources = append(out.Sources, &c)
		}
	}
	return out
}

// restore takes over what the file, or the rule before a reload, knew. A rule
// whose condition changed clears what it finds raised by its own lights.
func (r *rule) restore(from savedRule) {
	for _, s := range from.Sources {
		if s == nil || s.Source == "" && s.Event == nil || math.MaxInt32 < len(r.states) {
			continue
		}
		if from.Hash != r.hash {
			s.History, s.Clear = 0, false
		}
		r.states[s.Source] = s
	}
}
