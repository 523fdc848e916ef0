package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"edgegateway/fl"
	"edgegateway/internal/link"
)

// flTransport is a fl.Transport over one connection to a broker after the other.
// What is subscribed is subscribed again each time; what was under way fails, and
// is sent again by who sent it.
type flTransport struct {
	cfg link.Config
	say func(string) // hears that the link is there, or why it is not, once each
	// Pauses between tries to connect: doubled from the first with each failure in
	// a row, half of it chance.
	first, most time.Duration

	mu   sync.Mutex
	conn *link.Conn // nil: there is no link
	subs []*flSub
	link chan struct{}
}

// flSub is what is subscribed for as long as its context.
type flSub struct {
	ctx     context.Context
	filters []string
	mu      sync.Mutex // one message at a time, also of two connections
	handle  func(fl.Message)
}

// flTimeout bounds the wait for an acknowledgement: a thin link takes a while
// for a chunk of an update, at 1 KB/s 96 seconds.
const flTimeout = 2 * time.Minute

func newFLTransport(cfg link.Config, say func(string)) *flTransport {
	if cfg.Timeout == 0 {
		cfg.Timeout = flTimeout
	}
	return &flTransport{cfg: cfg, say: say, first: time.Second, most: 30 * time.Second, link: make(chan struct{}, 1)}
}

// run keeps the link until ctx ends. A broker out of reach is no error.
func (t *flTransport) run(ctx context.Context) {
	failures, last := 0, ""
	for ctx.Err() == nil {
		began := time.Now()
		stood, err := t.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > t.most {
			failures = 0
		}
		if text := err.Error(); text != last || stood {
			t.say(text + "; trying again")
			last = text
		}
		wait := t.most
		if failures < 20 && t.first<<failures < t.most {
			wait = t.first << failures
		}
		failures++
		timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// once is one connection, from its beginning to its end; stood says that there
// was a link.
func (t *flTransport) once(ctx context.Context) (stood bool, err error) {
	conn, err := link.Connect(ctx, t.cfg)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	// Subscribe adds to subs under the lock and subscribes by itself where there
	// is a connection: none is left out, and none is subscribed twice.
	t.mu.Lock()
	for _, s := range t.subs {
		if err == nil && s.ctx.Err() == nil {
			err = t.subscribe(conn, s)
		}
	}
	if err == nil {
		t.conn = conn
	}
	t.mu.Unlock()
	if err != nil {
		return false, err
	}
	t.say("connected to " + t.cfg.URL)
	select {
	case t.link <- struct{}{}:
	default:
	}
	select {
	case <-conn.Done():
		err = conn.Err()
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	t.conn = nil
	t.mu.Unlock()
	return true, err
}

func (t *flTransport) subscribe(conn *link.Conn, s *flSub) error {
	return conn.Subscribe(s.ctx, s.filters, 1, func(m link.Msg) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ctx.Err() == nil {
			s.handle(fl.Message{Topic: m.Topic, Payload: m.Payload, Retain: m.Retain})
		}
	})
}

func (t *flTransport) now() (*link.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return nil, fmt.Errorf("broker %s: %w", t.cfg.URL, fl.ErrNoLink)
	}
	return t.conn, nil
}

// Publish implements fl.Transport. A connection that ends while the message is
// under way is an error that counts: it may be the broker's answer to it.
func (t *flTransport) Publish(ctx context.Context, m fl.Message) error {
	conn, err := t.now()
	if err != nil {
		return err
	}
	return conn.Publish(ctx, link.Msg{Topic: m.Topic, Payload: m.Payload, QoS: 1, Retain: m.Retain})
}

// Subscribe implements fl.Transport. A filter that the broker refuses is an error
// where there is a link; where there is none yet, run says it.
func (t *flTransport) Subscribe(ctx context.Context, filters []string, handle func(fl.Message)) error {
	s := &flSub{ctx: ctx, filters: slices.Clone(filters), handle: handle}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs = slices.DeleteFunc(t.subs, func(o *flSub) bool { return o.ctx.Err() != nil })
	t.subs = append(t.subs, s)
	if t.conn == nil {
		return nil
	}
	err := t.subscribe(t.conn, s)
	if t.conn.Err() != nil && !errors.Is(err, link.ErrRefused) {
		return nil // the next connection has it
	}
	return err
}

// Get implements fl.Transport.
func (t *flTransport) Get(ctx context.Context, topic string) ([]byte, error) {
	conn, err := t.now()
	if err != nil {
		return nil, err
	}
	payload, err := conn.Get(ctx, topic)
	if err != nil && ctx.Err() == nil && conn.Err() != nil {
		err = fmt.Errorf("get %s: %w: %w", topic, fl.ErrNoLink, err)
	}
	return payload, err
}

// Link implements fl.Transport.
func (t *flTransport) Link() <-chan struct{} { return t.link }

// remind says once more that the link is there, where it is: to who begins to
// receive from Link when it stands already.
func (t *flTransport) remind() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return
	}
	select {
	case t.link <- struct{}{}:
	default:
	}
}
