package fl

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"edgegateway/fl/aggregate"
	"edgegateway/infer/train"
)

// denseTask is of a network of one hidden layer.
func denseTask(hidden int) Task {
	t := DefaultTask()
	t.Name, t.Data.Stream = "digits", "camera"
	t.Model = ModelConfig{Input: []int{8}, Classes: []string{"a", "b", "c"}, Train: "all", Network: train.Spec{Layers: []train.LayerSpec{
		{Type: "dense", Units: hidden, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}}}
	return t
}

// hand is a gateway in a test's hands: what it sends is sealed with its real
// key, and its updates are random but the same for the same round and weights.
type hand struct {
	name    string
	key     ed25519.PrivateKey
	seq     uint64
	samples int
	sent    map[string][]Message // updates by round
}

// lab is a coordinator with the broker's retained messages and its gateways.
type lab struct {
	testing.TB
	task     Task
	st       State
	cfg      CoordinatorConfig
	keys     KeyMap
	c        *Coordinator
	now      time.Time
	retained map[string]Message
	said     []Message
	log      []string
	hands    map[string]*hand
	count    int
}

func newLab(t testing.TB, task Task, gateways int) *lab {
	t.Helper()
	l := &lab{TB: t, task: task, st: NewMemory(), keys: KeyMap{}, now: time.UnixMilli(1_800_000_000_000), retained: map[string]Message{}, hands: map[string]*hand{}}
	for i := range gateways {
		name := fmt.Sprintf("g%03d", i)
		l.keys[name] = publicOf(name)
		l.hands[name] = &hand{name: name, key: keyOf(name), samples: 10 + i, sent: map[string][]Message{}}
	}
	l.cfg.Say = func(s string) { l.log = append(l.log, s) }
	return l
}

func (l *lab) open() *lab {
	l.Helper()
	var err error
	if l.c, err = NewCoordinator(l.task, l.cfg, l.st, keyOf("coordinator"), l.keys); err != nil {
		l.Fatal(err)
	}
	l.count = l.c.count
	l.mind(l.c.Connected(l.now))
	return l
}

// mind keeps what is retained and fails on errors.
func (l *lab) mind(list []Action, err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
	for _, a := range list {
		if a.Send != nil {
			l.broker(*a.Send)
		}
	}
}

func (l *lab) broker(m Message) {
	l.said = append(l.said, m)
	if m.Retain {
		l.retained[m.Topic] = m
		if len(m.Payload) == 0 {
			delete(l.retained, m.Topic)
		}
	}
}

func (l *lab) handle(list ...Message) {
	l.Helper()
	for _, m := range list {
		l.mind(l.c.Handle(l.now, m))
	}
}

// refuses expects a refusal for a reason, that it is counted, and that nothing
// else changes.
func (l *lab) refuses(want Reason, m Message) {
	l.Helper()
	before := l.c.Status()
	_, err := l.c.Handle(l.now, m)
	if ReasonOf(err) != want {
		l.Fatalf("%v, not %s", err, want)
	}
	after := l.c.Status()
	if after.Refused[want] != before.Refused[want]+1 || !strings.Contains(after.Last, string(want)) {
		l.Errorf("%s is counted as %v, %q", want, after.Refused, after.Last)
	}
	after.Refused, after.Last = before.Refused, before.Last
	if a, b := fmt.Sprintf("%+v", after), fmt.Sprintf("%+v", before); a != b {
		l.Errorf("refused, it changed\n%s to\n%s", b, a)
	}
}

func (l *lab) seal(h Header, v any, key ed25519.PrivateKey, chunk int) []Message {
	l.Helper()
	body, err := Pack(v)
	do(l, err)
	h.Task = l.c.ID()
	list, err := Seal(h, body, chunk, key)
	do(l, err)
	return list
}

func (l *lab) hello(name string) Message {
	g := l.hands[name]
	g.seq++
	return l.seal(Header{Kind: KindHello, Seq: g.seq, From: name}, Hello{Samples: g.samples, Version: "test", Chunk: DefaultChunk}, g.key, 0)[0]
}

func (l *lab) hellos() {
	l.Helper()
	for _, name := range l.names() {
		l.handle(l.hello(name))
	}
}

func (l *lab) names() []string {
	var list []string
	for name := range l.hands {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// call is what the broker retains for a gateway.
func (l *lab) call(name string) (Header, Call) {
	l.Helper()
	m, ok := l.retained[CallTopic(l.c.ID(), name)]
	if !ok {
		return Header{}, Call{}
	}
	p, err := Open(m, Trusted([]ed25519.PublicKey{publicOf("coordinator")}))
	do(l, err)
	var c Call
	do(l, p.Into(&c))
	return p.Header, c
}

func (l *lab) announced() Announcement {
	l.Helper()
	p, err := Open(l.retained[TaskTopic(l.c.ID())], Trusted([]ed25519.PublicKey{publicOf("coordinator")}))
	do(l, err)
	var a Announcement
	do(l, p.Into(&a))
	return a
}

// invited are the gateways whose retained Call invites them and misses their
// update.
func (l *lab) invited() []string {
	var list []string
	for _, name := range l.names() {
		if _, c := l.call(name); c.Invited && !c.Done {
			list = append(list, name)
		}
	}
	return list
}

// delta is what a gateway would have the weights move by.
func delta(n, round int, name string, base Hash) []float32 {
	seed := [32]byte(base)
	binary.LittleEndian.PutUint64(seed[:], uint64(round))
	copy(seed[8:], name)
	r := rand.New(rand.NewChaCha8(seed))
	d := make([]float32, n)
	for i := range d {
		d[i] = float32(r.NormFloat64() * 0.01)
	}
	return d
}

// update is what a gateway sends in a round: the same messages each time.
func (l *lab) update(name string, round int, base Hash, chunk int) []Message {
	l.Helper()
	g := l.hands[name]
	id := fmt.Sprintf("%d %s", round, base)
	if g.sent[id] == nil {
		data, _, err := aggregate.Encode(l.task.Compression, delta(l.count, round, name, base), nil, 1)
		do(l, err)
		m := Metrics{Samples: 5, Loss: 1 / float64(round), Accuracy: 1 - 1/float64(1+round)}
		g.seq++
		g.sent[id] = l.seal(Header{Kind: KindUpdate, Round: round, Base: base, Seq: g.seq, From: name},
			Update{Samples: g.samples, Delta: data, Before: m, After: m, Seconds: 1}, g.key, chunk)
	}
	return g.sent[id]
}

// answer is the update that a gateway is called for.
func (l *lab) answer(name string) []Message {
	l.Helper()
	h, c := l.call(name)
	if !c.Invited {
		l.Fatalf("%s is not invited: %+v", name, c)
	}
	return l.update(name, h.Round, c.Model.Hash, 0)
}

// deliver has all who are invited answer.
func (l *lab) deliver() {
	l.Helper()
	for _, name := range l.invited() {
		l.handle(l.answer(name)...)
	}
}

// has expects a line of the log.
func (l *lab) has(want string) {
	l.Helper()
	if !slices.ContainsFunc(l.log, func(s string) bool { return strings.Contains(s, want) }) {
		l.Errorf("nothing says %q:\n%s", want, strings.Join(l.log, "\n"))
	}
}

// byHand reckons FedAvg of the updates of these gateways.
func (l *lab) byHand(w *Weights, round int, names ...string) []float32 {
	out := slices.Clone(w.Values)
	sum, total := make([]float64, len(out)), 0.0
	for _, name := range names {
		n := float64(l.hands[name].samples)
		total += n
		for i, d := range delta(l.count, round, name, w.Hash()) {
			sum[i] += n * float64(d)
		}
	}
	for i := range out {
		out[i] += float32(sum[i] / total)
	}
	return out
}

func near(a, b []float32) bool {
	for i := range a {
		if d := a[i] - b[i]; d > 1e-6 || d < -1e-6 {
			return false
		}
	}
	return len(a) == len(b)
}

// forge is another update of a gateway, under a sequence number.
func (l *lab) forge(name string, round int, base Hash, seq uint64, change ...func(*Update)) Message {
	l.Helper()
	data, _, err := aggregate.Encode(l.task.Compression, delta(l.count, round+1000, name, base), nil, 1)
	do(l, err)
	u := Update{Samples: 7, Delta: data}
	for _, f := range change {
		f(&u)
	}
	return l.seal(Header{Kind: KindUpdate, Round: round, Base: base, Seq: seq, From: name}, u, l.hands[name].key, 0)[0]
}
