package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"edgegateway/internal/link"
)

// lender is what of a link's connection is lent to other parts of the program.
type lender struct {
	requests chan *lending // to the session, which sends them

	mu   sync.Mutex
	conn *link.Conn // nil while the link is away
	list []*Lent
}

// Lent is a link's connection for another part of the program: what that
// publishes goes between the results, one message at a time and within the
// link's rate, and topics are whole, without the link's prefix. Nothing of it
// is kept: what could not be sent is the part's to send again.
type Lent struct {
	from *lender
	most func() int // bytes of a payload
	up   chan struct{}

	// Guarded by from.mu.
	heard []hearing
}

// hearing is a subscription that outlives connections.
type hearing struct {
	ctx     context.Context
	filters []string
	handle  func(link.Msg)
}

// lending is a message that a part wants sent.
type lending struct {
	msg   link.Msg
	token chan *link.Token // holds one
}

// ErrNoLink is the error of a Publish or Get of a Lent while the link is away.
var ErrNoLink = errors.New("there is no link to the cloud now")

// Lend lends the link's connection to another part of the program.
func (b *Bridge) Lend() *Lent {
	l := &Lent{from: &b.lender, up: make(chan struct{}, 1), most: func() int { return b.config().MaxPayloadBytes }}
	b.lender.mu.Lock()
	defer b.lender.mu.Unlock()
	b.lender.list = append(b.lender.list, l)
	if b.lender.conn != nil {
		l.tell()
	}
	return l
}

// Return gives the connection back.
func (l *Lent) Return() {
	l.from.mu.Lock()
	defer l.from.mu.Unlock()
	l.from.list = slices.DeleteFunc(l.from.list, func(o *Lent) bool { return o == l })
	l.heard = nil
}

// Up receives a value each time the link is there (again), after everything is
// subscribed to.
func (l *Lent) Up() <-chan struct{} { return l.up }

func (l *Lent) tell() {
	select {
	case l.up <- struct{}{}:
	default: // it was not heard yet that it is
	}
}

// Publish sends a message at QoS 1 and returns when the cloud acknowledged it,
// or with an error, at once where there is no link.
func (l *Lent) Publish(ctx context.Context, m link.Msg) error {
	if most := l.most(); len(m.Payload) > most {
		return fmt.Errorf("a message of %d bytes is over max_payload_bytes (%d) of the link", len(m.Payload), most)
	}
	conn := l.from.now()
	if conn == nil {
		return ErrNoLink
	}
	m.QoS = 1
	r := &lending{msg: m, token: make(chan *link.Token, 1)}
	select {
	case l.from.requests <- r:
	case <-conn.Done():
		return ErrNoLink
	case <-ctx.Done():
		return ctx.Err()
	}
	return (<-r.token).Wait(ctx)
}

// Get gets what the cloud retains at one topic; ctx bounds the wait.
func (l *Lent) Get(ctx context.Context, topic string) ([]byte, error) {
	conn := l.from.now()
	if conn == nil {
		return nil, ErrNoLink
	}
	return conn.Get(ctx, topic)
}

// Subscribe hands what comes on topics that match the filters to handle, one at
// a time, over this connection and each later one, until ctx ends. A cloud that
// does not let us hear them is an error where it says so now.
func (l *Lent) Subscribe(ctx context.Context, filters []string, handle func(link.Msg)) error {
	h := hearing{ctx, filters, func(m link.Msg) {
		if ctx.Err() == nil {
			handle(m)
		}
	}}
	l.from.mu.Lock()
	l.heard = append(l.heard, h)
	conn := l.from.conn
	l.from.mu.Unlock()
	if conn == nil {
		return nil // the next connection will
	}
	err := conn.Subscribe(ctx, filters, 1, h.handle)
	if errors.Is(err, link.ErrRefused) {
		return err
	}
	return nil // the link is away again
}

func (l *lender) now() *link.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// begin gives the parts a new connection: what they hear is subscribed to on
// it. What a cloud refuses is said by refused.
func (l *lender) begin(ctx context.Context, conn *link.Conn, refused func(error)) error {
	l.mu.Lock()
	l.conn = conn // what is subscribed to from now on is so on it
	list := slices.Clone(l.list)
	var all []hearing
	for _, part := range list {
		part.heard = slices.DeleteFunc(part.heard, func(h hearing) bool { return h.ctx.Err() != nil })
		all = append(all, part.heard...)
	}
	l.mu.Unlock()
	for _, h := range all {
		err := conn.Subscribe(ctx, h.filters, 1, h.handle)
		if errors.Is(err, link.ErrRefused) {
			refused(err)
		} else if err != nil {
			return err
		}
	}
	for _, part := range list {
		part.tell()
	}
	return nil
}

// end takes the connection back.
func (l *lender) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = nil
}
