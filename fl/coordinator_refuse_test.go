package fl

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"edgegateway/fl/aggregate"
)

// Everything that is not to be taken is refused by its name, is counted, and
// changes nothing; the task goes on.
func TestCoordinatorRefuses(t *testing.T) {
	task := denseTask(40)
	task.Rounds, task.Cohort = 3, CohortConfig{Size: 2, Quorum: 2, WaitFor: 3, Select: "random"}
	l := newLab(t, task, 3)
	l.hands["stranger"] = &hand{name: "stranger", key: keyOf("stranger"), samples: 10, sent: map[string][]Message{}}
	l.open()
	for _, name := range []string{"g000", "g001", "g002"} {
		l.handle(l.hello(name))
	}
	base := l.c.head.Model.Hash
	in := l.invited()
	name, mate := in[0], in[1]
	left := slices.DeleteFunc([]string{"g000", "g001", "g002"}, func(s string) bool { return slices.Contains(in, s) })[0]
	key := l.hands[name].key
	update := func(h Header, u Update) Message { return l.seal(h, u, key, 0)[0] }
	header := func(change func(*Header)) Header {
		h := Header{Kind: KindUpdate, Round: 1, Base: base, Seq: 50, From: name}
		if change != nil {
			change(&h)
		}
		return h
	}
	good := func(change func(*Update)) Update {
		data, _, err := aggregate.Encode(task.Compression, delta(l.count, 1, name, base), nil, 1)
		do(t, err)
		u := Update{Samples: 9, Delta: data}
		if change != nil {
			change(&u)
		}
		return u
	}
	changed := func(m Message, at int) Message {
		m.Payload = bytes.Clone(m.Payload)
		m.Payload[(at+len(m.Payload))%len(m.Payload)] ^= 1
		return m
	}
	nan := good(nil)
	nan.Delta = bytes.Clone(nan.Delta)
	binary.LittleEndian.PutUint32(nan.Delta[len(nan.Delta)-4:], math.Float32bits(float32(math.NaN())))
	short, _, err := aggregate.Encode(task.Compression, make([]float32, l.count-1), nil, 1)
	do(t, err)
	elsewhere := *l
	other := denseTask(41)
	elsewhere.c, err = NewCoordinator(other, CoordinatorConfig{}, NewMemory(), keyOf("coordinator"), l.keys)
	do(t, err)
	wrongTopic := update(header(nil), good(nil))
	wrongTopic.Topic = "fl/" + l.c.ID() + "/from/" + mate + "/update"
	large := header(nil)
	large.Task = l.c.ID()
	oversized, err := Seal(large, noise(MostUpdate(l.count)+1, 1), 0, key)
	do(t, err)
	call := l.retained[CallTopic(l.c.ID(), name)]

	for _, test := range []struct {
		name string
		want Reason
		m    Message
	}{
		{"a payload over the limit", TooLarge, Message{Topic: wrongTopic.Topic, Payload: make([]byte, maxMessage+1)}},
		{"an update over the limit", TooLarge, oversized[0]},
		{"no CBOR", Malformed, Message{Topic: wrongTopic.Topic, Payload: []byte("{}")}},
		{"unsigned", BadSign, changed(update(header(nil), good(nil)), -1)},
		{"not enrolled", UnknownKey, l.hello("stranger")},
		{"signed by another gateway", UnknownKey, l.seal(header(nil), good(nil), keyOf(mate), 0)[0]},
		{"on another's topic", BadTopic, wrongTopic},
		{"unknown task", UnknownTask, elsewhere.seal(header(nil), good(nil), key, 0)[0]},
		{"the coordinator's own message", UnknownKey, call},
		{"no round", StaleRound, update(header(func(h *Header) { h.Round = 0 }), good(nil))},
		{"a round that has not begun", FutureRound, update(header(func(h *Header) { h.Round = 2 }), good(nil))},
		{"other weights", BadBase, update(header(func(h *Header) { h.Base = Hash{1} }), good(nil))},
		{"not invited", Uninvited, l.seal(header(func(h *Header) { h.From = left }), good(nil), keyOf(left), 0)[0]},
		{"NaN in the update", NotFinite, update(header(nil), nan)},
		{"wrong shape", BadWeights, update(header(nil), good(func(u *Update) { u.Delta = short }))},
		{"no samples", BadSamples, update(header(nil), good(func(u *Update) { u.Samples = 0 }))},
		{"absurd samples", BadSamples, update(header(nil), good(func(u *Update) { u.Samples = math.MaxInt64 }))},
		{"accuracy of 2", BadBody, update(header(nil), good(func(u *Update) { u.After = Metrics{Samples: 1, Accuracy: 2} }))},
		{"no update inside", BadBody, l.seal(header(nil), []string{"x"}, key, 0)[0]},
		{"a hello as before", StaleSeq, func() Message {
			l.hands[name].seq = 0
			m := l.hello(name)
			l.hands[name].seq = 1
			l.handle(l.hello(name))
			return m
		}()},
		{"a hello of absurd samples", BadSamples, l.seal(Header{Kind: KindHello, Seq: 60, From: name}, Hello{Samples: -1, Chunk: MinChunk}, key, 0)[0]},
		{"a report of nothing", BadBody, l.seal(Header{Kind: KindReport, Seq: 60, From: name}, Report{State: "lost"}, key, 0)[0]},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.TB = t
			l.refuses(test.want, test.m)
		})
	}
	l.TB = t
	// What names no sender is told by its topic, as far as that is read.
	for _, test := range []struct{ topic, want string }{
		{wrongTopic.Topic, `on "` + wrongTopic.Topic + `": refused (malformed)`},
		{strings.Repeat("\n", 101), `on "` + strings.Repeat(`\n`, 100) + `": refused (malformed)`},
	} {
		l.refuses(Malformed, Message{Topic: test.topic, Payload: []byte("{}")})
		if got := l.c.Status().Last; !strings.HasPrefix(got, test.want) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	// Two bodies under one number.
	parts := l.seal(header(nil), good(nil), key, MinChunk)
	l.handle(parts[0])
	l.refuses(Conflict, l.seal(header(nil), good(func(u *Update) { u.Samples = 8 }), key, MinChunk)[0])
	l.handle(parts[1:]...)
	l.refuses(Conflict, l.seal(header(func(h *Header) { h.Seq = 51 }), good(nil), key, 0)[0])
	l.refuses(StaleSeq, l.seal(header(func(h *Header) { h.Seq = 49 }), good(nil), key, 0)[0])
	l.handle(parts...) // the same again does nothing
	replayed := l.answer(mate)
	l.handle(replayed...)
	if h := l.c.History(); len(h) != 1 || h[0].Counted != 2 {
		t.Fatalf("%+v", h)
	}
	l.refuses(StaleRound, replayed[0])
	// What was counted is still known after a restart.
	before := l.c.Status().Refused[TooLarge]
	l.deliver()
	l.open()
	if got := l.c.Status().Refused[TooLarge]; got != before || before == 0 {
		t.Errorf("%d were counted, %d are after a restart", before, got)
	}
	l.refuses(StaleRound, replayed[0])
}

// A hostile update that is well-formed is set aside by a robust strategy, and
// named.
func TestCoordinatorNamesAttacker(t *testing.T) {
	task := denseTask(4)
	task.Rounds, task.Cohort.WaitFor, task.Strategy.Kind, task.Strategy.Attackers = 1, 7, "multi-krum", 2
	l := newLab(t, task, 7).open()
	l.hellos()
	for _, name := range l.invited() {
		if name != "g003" {
			l.handle(l.answer(name)...)
		}
	}
	d := delta(l.count, 1, "g003", l.c.head.Model.Hash)
	for i := range d {
		d[i] *= -100
	}
	data, _, err := aggregate.Encode(task.Compression, d, nil, 1)
	do(t, err)
	l.handle(l.forge("g003", 1, l.c.head.Model.Hash, 9, func(u *Update) { u.Delta = data }))
	h := l.c.History()
	if len(h) != 1 || !slices.ContainsFunc(h[0].SetAside, func(a aggregate.Aside) bool { return a.From == "g003" && a.Score > 0 }) {
		t.Fatalf("%+v", h)
	}
	if _, c := l.call("g003"); c.Counted[:22] != "set aside in round 1: " {
		t.Errorf("it is told %q", c.Counted)
	}
}
