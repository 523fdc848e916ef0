package pipeline

import (
	"container/list"
	"strconv"
	"strings"

	"edgegateway/sensors"
)

// source is what one worker remembers of one source of its stream.
type source struct {
	name   string
	topic  string // of its results
	idBase string // stream/source/epoch-
	seq    uint64 // the last one given
	window *sensors.Window
	resets uint64 // of the window that were counted already
	sent   uint64 // results offered to the cloud so far
	label  string // of the last result
	at     *list.Element
}

// sources are the sources of one worker, bounded: the longest silent leaves.
type sources struct {
	max    int
	byName map[string]*source
	recent *list.List // front: heard last
	make   func(name string) *source
	floor  uint64 // the highest seq of a source that left: ids are never used twice
}

func newSources(max int, make func(name string) *source) *sources {
	return &sources{max: max, byName: map[string]*source{}, recent: list.New(), make: make}
}

// get finds or makes the source and says whether another had to leave for it.
func (s *sources) get(name string) (src *source, evicted bool) {
	if src = s.byName[name]; src != nil {
		s.recent.MoveToFront(src.at)
		return src, false
	}
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
	return src, evicted
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
