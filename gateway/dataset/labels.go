package dataset

import (
	"sync"
	"time"
)

// heard is a label as it was set: from a time on, until another, "" for none.
type heard struct {
	label string
	from  time.Time
	until time.Time // zero: until the next one
}

// kept is how many changes of a label are remembered: samples wait in queues
// while the label goes on, and each gets the one of its own time.
const kept = 16

// labels are those of one stream's sources; "" stands for all sources.
type labels struct {
	max int // sources; the longest silent leaves

	mu       sync.Mutex
	commands map[string][]heard
	topics   map[string][]heard
}

func newLabels(max int) *labels {
	return &labels{max: max, commands: map[string][]heard{}, topics: map[string][]heard{}}
}

func (l *labels) set(to map[string][]heard, source string, h heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := to[source]
	if list == nil && len(to) >= l.max {
		var oldest string
		var when time.Time
		for s, list := range to {
			if t := list[len(list)-1].from; when.IsZero() || t.Before(when) {
				oldest, when = s, t
			}
		}
		delete(to, oldest)
	}
	if len(list) == kept {
		list = append(list[:0], list[1:]...)
	}
	to[source] = append(list, h)
}

// at is the label of a source's sample that came at this time: of a command,
// else of the topic; first what was said for the source, then for all.
func (l *labels) at(source string, t time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range []map[string][]heard{l.commands, l.topics} {
		for _, s := range []string{source, ""} {
			if label := at(m[s], t); label != "" {
				return label
			}
		}
	}
	return ""
}

func at(list []heard, t time.Time) string {
	for i := len(list) - 1; i >= 0; i-- {
		if h := list[i]; !h.from.After(t) {
			if !h.until.IsZero() && !t.Before(h.until) {
				return ""
			}
			return h.label
		}
	}
	return ""
}
