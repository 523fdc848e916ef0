package fltest

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"edgegateway/fl"
)

// Faults are what a Broker does to messages. Each is decided by the seed, the
// message and how often it came before: not by which goroutine was first.
type Faults struct {
	Seed   uint64
	Refuse float64       // share of publications that fail and reach nobody
	Unsaid float64       // share that reach everybody, but whose acknowledgement is lost
	Lose   float64       // share of deliveries that never come
	Double float64       // share that come twice
	Delay  time.Duration // deliveries come up to so much later, and so in another order
}

// Broker carries messages between Links.
type Broker struct {
	// Seen, where it is set, hears of each message that a client publishes, also
	// of those that are refused, one at a time.
	Seen func(client string, m fl.Message)

	mu       sync.Mutex
	faults   Faults
	retained map[string][]byte
	links    []*Link
	times    map[uint64]uint64 // that a message was decided about
}

// NewBroker is empty.
func NewBroker(f Faults) *Broker {
	return &Broker{faults: f, retained: map[string][]byte{}, times: map[uint64]uint64{}}
}

// SetFaults changes what happens from now on.
func (b *Broker) SetFaults(f Faults) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = f
}

// Restart cuts all links, forgets what is retained, and lets them all in again.
func (b *Broker) Restart() {
	b.mu.Lock()
	links := slices.Clone(b.links)
	clear(b.retained)
	b.mu.Unlock()
	for _, l := range links {
		l.Cut()
	}
	for _, l := range links {
		l.Join()
	}
}

// Retained gives what is retained, by topic.
func (b *Broker) Retained() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.retained)
}

// Connect gives a client a link that stands.
func (b *Broker) Connect(client string) *Link {
	l := &Link{b: b, client: client, up: true, link: make(chan struct{}, 1)}
	b.mu.Lock()
	b.links = append(b.links, l)
	b.mu.Unlock()
	l.say()
	return l
}

// lot draws for a message: the same numbers for the same one, other ones each
// time that it comes.
func (b *Broker) lot(to, topic string, payload []byte) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\n%s\n", to, topic)
	_, _ = h.Write(payload)
	sum := h.Sum64()
	b.times[sum]++
	return rand.New(rand.NewPCG(b.faults.Seed^sum, b.times[sum]))
}

func (b *Broker) publish(client string, m fl.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Seen != nil {
		b.Seen(client, m)
	}
	lot := b.lot("", m.Topic, m.Payload)
	if lot.Float64() < b.faults.Refuse {
		return fmt.Errorf("publish %s: no acknowledgement", m.Topic)
	}
	if m.Retain && len(m.Payload) == 0 {
		delete(b.retained, m.Topic)
	} else if m.Retain {
		b.retained[m.Topic] = slices.Clone(m.Payload)
	}
	for _, l := range b.links {
		for _, s := range l.subs {
			if l.up && s.wants(m.Topic) {
				b.deliver(l, s, fl.Message{Topic: m.Topic, Payload: slices.Clone(m.Payload)})
			}
		}
	}
	if lot.Float64() < b.faults.Unsaid {
		return fmt.Errorf("publish %s: no acknowledgement", m.Topic)
	}
	return nil
}

// deliver queues a message for a subscription.
func (b *Broker) deliver(l *Link, s *subscription, m fl.Message) {
	lot := b.lot(l.client, m.Topic, m.Payload)
	if lot.Float64() < b.faults.Lose {
		return
	}
	n := 1
	if lot.Float64() < b.faults.Double {
		n = 2
	}
	for range n {
		due := time.Now()
		if b.faults.Delay > 0 {
			due = due.Add(time.Duration(lot.Int64N(int64(b.faults.Delay))))
		}
		s.put(due, m)
	}
}

// subscription is filters with a queue of what came.
type subscription struct {
	filters []string
	mu      sync.Mutex
	queue   []delivery // the next first
	wake    chan struct{}
}

type delivery struct {
	due time.Time
	m   fl.Message
}

func (s *subscription) wants(topic string) bool {
	return slices.ContainsFunc(s.filters, func(f string) bool { return matches(f, topic) })
}

// matches says whether an MQTT filter takes a topic.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, part := range f {
		if part == "#" {
			return true
		}
		if i >= len(t) || part != "+" && part != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

func (s *subscription) put(due time.Time, m fl.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, _ := slices.BinarySearchFunc(s.queue, due, func(d delivery, t time.Time) int {
		if d.due.After(t) {
			return 1
		}
		return -1
	})
	s.queue = slices.Insert(s.queue, at, delivery{due, m})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run hands over what is due until ctx ends.
func (s *subscription) run(ctx context.Context, handle func(fl.Message)) {
	for {
		s.mu.Lock()
		wait := time.Hour
		if len(s.queue) > 0 {
			wait = time.Until(s.queue[0].due)
		}
		var m *fl.Message
		if wait <= 0 {
			m = &s.queue[0].m
			s.queue = s.queue[1:]
		}
		s.mu.Unlock()
		if m != nil && ctx.Err() == nil {
			handle(*m)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}
