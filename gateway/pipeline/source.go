package pipeline

import (
	"container/list"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"edgegateway/sensors"
)

// source is what a stream remembers of one source. But for the fields that
// sources keeps it belongs to the worker that has all messages of the source.
type source struct {
	name   string
	topic  string // of its results
	idBase string // stream/source/epoch-
	window *sensors.Window
	resets uint64    // of the window that were counted already
	begun  time.Time // of the first reading of the last payload
	last   time.Time // of the last reading
	sent   uint64    // results offered to the cloud so far
	label  string    // of the last result
	record beat      // of the samples that are kept
	drift  beat      // of those that are looked at

	seq uint64        // the last one given; under the lock of sources
	at  *list.Element // the same
}

// sources are the sources of a stream, bounded: the longest silent leaves.
// All workers share them, so that the bound is that of the stream.
type sources struct {
	max  int
	make func(name string) *source

	mu     sync.Mutex
	byName map[string]*source
	recent *list.List // front: heard last
	floor  uint64     // the highest seq of a source that left: ids are never used twice
}

func newSources(max int, make func(name string) *source) *sources {
	return &sources{max: max, byName: map[string]*source{}, recent: list.New(), make: make}
}

// get finds or makes the source of a sample, gives the sample its number, its
// own or the next one, and says whether another source had to leave. That one
// may be under a worker's hands still: it finishes and makes a new one then.
func (s *sources) get(name string, sample *sensors.Sample) (src *source, seq uint64, evicted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src = s.byName[name]; src != nil {
		s.recent.MoveToFront(src.at)
	} else {
		if len(s.byName) >= s.max {
			oldest := s.recent.Remove(s.recent.Back()).(*source)
			delete(s.byName, oldest.name)
			s.floor = max(s.floor, oldest.seq)
			evicted = true
		}
		// The name may be a part of a topic's string: keep the name alone.
		name = strings.Clone(name)
		src = s.make(name)
		src.seq = s.floor
		src.at = s.recent.PushFront(src)
		s.byName[name] = src
	}
	if src.seq++; sample.HasSeq {
		src.seq = sample.Seq
	}
	return src, src.seq, evicted
}

// appendID appends stream/source/epoch-seq, and .part for the second and
// later results of one message.
func (s *source) appendID(b []byte, seq uint64, part int) []byte {
	b = strconv.AppendUint(append(b, s.idBase...), seq, 10)
	if part > 0 {
		b = strconv.AppendInt(append(b, '.'), int64(part), 10)
	}
	return b
}

// offer says whether this result is one of those that go up.
func (s *source) offer(rule send, label string) bool {
	if rule.change {
		changed := s.sent == 0 || label != s.label
		s.label = strings.Clone(label)
		s.sent = 1
		return changed
	}
	if rule.every == 0 {
		return false
	}
	s.sent++
	return (s.sent-1)%rule.every == 0
}

// topicLevels makes a source fit for a topic: it may be several levels of it.
func topicLevels(source string) string {
	return strings.Map(func(r rune) rune {
		if r == '+' || r == '#' || r < ' ' || r == utf8.RuneError {
			return '-'
		}
		return r
	}, source)
}
