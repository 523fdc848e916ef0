package alert

import (
	"encoding/json"
	"fmt"
	"time"
)

// DriftRule is the name of the alert that streams raise by themselves where
// their data drifts. Its sources are the streams.
const DriftRule = "drift"

// DriftConfig is its rule, which is in force with the others where any stream
// is watched for drift: one without a condition, for it is told.
func DriftConfig() Config { return Config{Severity: "warning"} }

// Drift raises the alert of a stream, or clears it, where that is a change.
// text is for people, detail one JSON object. Without the rule it does nothing.
func (e *Engine) Drift(stream string, raised bool, text string, detail json.RawMessage) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if r := e.rules[DriftRule]; r != nil && r.when == nil {
		r.told(stream, raised, text, detail, time.Now(), e.report)
	}
}

// told takes over what another said of a source.
func (r *rule) told(source string, raised bool, text string, detail json.RawMessage, now time.Time, report func(change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state(source, now, report)
	s.Heard = now
	if raised == s.raised() {
		return
	}
	what := Cleared
	if raised {
		what = Raised
		s.Event = &Event{
			ID:    fmt.Sprintf("%s/%s/%x", r.name, s.Source, now.UnixNano()),
			Alert: r.name, Stream: s.Source, Source: s.Source, Severity: r.cfg.Severity,
			Since: now, Count: 1,
		}
	} else {
		text = "cleared: " + text
	}
	s.Event.Message, s.Event.Drift = text, detail
	r.say(s, what, now, nil, nil, report)
}
