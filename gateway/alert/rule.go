package alert

import (
	"cmp"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
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
	recent *list.List // of *state; front: heard last
	failed time.Time  // when an error was last logged
}

func newRule(name string, cfg Config, f Fields, log zerolog.Logger) (*rule, error) {
	r := &rule{name: name, cfg: cfg, states: map[string]*state{}, recent: list.New(), log: log.With().Str("alert", name).Logger()}
	b, _ := json.Marshal([]any{cfg.Stream, cfg.When, cfg.For, cfg.Clear})
	sum := sha256.Sum256(b)
	r.hash = hex.EncodeToString(sum[:8])
	var err error
	if cfg.When == "" { // it is told
		return r, nil
	}
	if r.n, r.of, err = parseFor(cfg.For); err != nil {
		return nil, fmt.Errorf("alerts.%s.for: %w", name, err)
	}
	if r.when, r.clear, r.after, err = cfg.compile(f); err != nil {
		return nil, fmt.Errorf("alerts.%s.%w", name, err)
	}
	return r, nil
}

// change is what is to be kept and then told: a source's new state and the
// event that brought it.
type change struct {
	rule  *rule
	state state
	event *Event
}

// result looks at one result; report is called in order for each source.
func (r *rule) result(res *pipeline.Result, env map[string]any, js []byte, now time.Time, report func(change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(res.Source, now, report)
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
		r.look(s, now, js, report)
		return
	}
	if !enough {
		return
	}
	s.Event = &Event{
		ID:    fmt.Sprintf("%s/%s/%x", r.name, s.Source, now.UnixNano()),
		Alert: r.name, Stream: res.Stream, Source: s.Source, Severity: r.cfg.Severity,
		Since: now, Count: r.n,
	}
	r.say(s, Raised, now, js, slices.Clone(res.Picture), report)
}

// look repeats or clears a raised alert when its time has come.
func (r *rule) look(s *state, now time.Time, js []byte, report func(change)) {
	if !s.raised() {
		return
	}
	var over bool
	if r.clear != nil {
		over = s.Clear
	} else {
		over = !s.FalseSince.IsZero() && passed(now, s.FalseSince, r.after)
	}
	switch {
	case over && passed(now, s.Event.Since, r.cfg.Hold):
		s.History = 0
		r.say(s, Cleared, now, js, nil, report)
	case r.cfg.Repeat > 0 && passed(now, s.Spoke, r.cfg.Repeat):
		r.say(s, Repeated, now, js, nil, report)
	}
}

// passed says whether d has passed since t. A time ahead is of an earlier run
// with another clock: a box without a battery starts in the past.
func passed(now, t time.Time, d time.Duration) bool {
	since := now.Sub(t)
	return since >= d || since < 0
}

// say makes the event and reports it. The state keeps it without its picture.
func (r *rule) say(s *state, what string, now time.Time, js []byte, picture []byte, report func(change)) {
	e := *s.Event
	e.State, e.Time = what, now
	if js != nil {
		e.Result = slices.Clone(js)
	}
	if r.when != nil {
		e.Message = r.text(&e)
	}
	kept := e
	s.Event, s.Spoke, s.told = &kept, now, true
	e.Picture = picture
	c := change{rule: r, state: *s, event: &e}
	c.state.Event = &e // its count goes on in the state
	report(c)
}

// text is the event's message for people: raised and cleared never read alike.
func (r *rule) text(e *Event) string {
	template, before := r.cfg.Message, ""
	switch {
	case template == "":
		template = "{{.Alert}} {{.State}} at {{.Source}}"
	case e.State == Cleared && r.cfg.Over != "":
		template = r.cfg.Over
	case e.State == Cleared:
		before = "cleared: "
	}
	text, err := render(template, e)
	if err != nil {
		r.log.Warn().Err(err).Str("source", e.Source).Msg("the text of the alert cannot be made; its name stands in its place")
		return r.name + " " + e.State
	}
	return before + string(text)
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

// state finds or makes what is remembered of a source. For a new one the
// longest silent leaves whose alert is not raised; where all are, the longest
// silent of all is cleared and leaves.
func (r *rule) state(source string, now time.Time, report func(change)) *state {
	if s := r.states[source]; s != nil {
		r.recent.MoveToFront(s.at)
		return s
	}
	if len(r.states) >= maxSources {
		leaves := r.recent.Back()
		for at := leaves; at != nil; at = at.Prev() {
			if !at.Value.(*state).raised() {
				leaves = at
				break
			}
		}
		if s := leaves.Value.(*state); s.raised() {
			r.say(s, Cleared, now, nil, nil, report)
		}
		delete(r.states, r.recent.Remove(leaves).(*state).Source)
	}
	s := &state{Source: strings.Clone(source)}
	r.add(s)
	return s
}

func (r *rule) add(s *state) {
	r.states[s.Source] = s
	s.at = r.recent.PushFront(s)
}

// tick does what time alone brings.
func (r *rule) tick(now time.Time, report func(change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		r.look(s, now, nil, report)
	}
}

// tell publishes what an earlier run left as the present state of a source.
func (r *rule) tell(publish func(*Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.known() {
		if !s.told {
			s.told = true
			e := *s.Event
			publish(&e)
		}
	}
}

// drop clears what is raised: the rule is no more.
func (r *rule) drop(now time.Time, report func(change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.known() {
		if s.raised() {
			r.say(s, Cleared, now, nil, nil, report)
		}
	}
}

// known are the sources that were ever raised, those that spoke first first.
func (r *rule) known() []*state {
	var list []*state
	for _, s := range r.states {
		if s.Event != nil {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *state) int {
		return cmp.Or(a.Spoke.Compare(b.Spoke), strings.Compare(a.Source, b.Source))
	})
	return list
}

// raised is the number of sources at which it is.
func (r *rule) raised() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		if s.raised() {
			n++
		}
	}
	return n
}

// save gives what the state file keeps: the sources that were ever raised;
// with all, also those that are on their way to it.
func (r *rule) save(all bool) savedRule {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := savedRule{Hash: r.hash}
	list := r.known()
	if all {
		list = slices.Collect(maps.Values(r.states))
	}
	for _, s := range list {
		c := *s
		if s.Event != nil { // its count goes on
			e := *s.Event
			c.Event = &e
		}
		out.Sources = append(out.Sources, &c)
	}
	return out
}

// restore takes over what the file, or the rule before a reload, knew. A rule
// whose condition changed clears what it finds raised by its own lights.
func (r *rule) restore(from savedRule) {
	sources := slices.DeleteFunc(from.Sources, func(s *state) bool { return s == nil })
	slices.SortFunc(sources, func(a, b *state) int { return a.Heard.Compare(b.Heard) })
	for _, s := range sources[max(0, len(sources)-maxSources):] {
		if from.Hash != r.hash {
			s.History, s.Clear = 0, false
		}
		if r.states[s.Source] == nil {
			r.add(s)
		}
	}
}
