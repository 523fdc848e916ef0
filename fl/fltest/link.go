package fltest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"edgegateway/fl"
)

// Link is one client of a Broker, and a fl.Transport.
type Link struct {
	b      *Broker
	client string
	up     bool // under the broker's lock, as subs
	subs   []*subscription
	link   chan struct{}
}

var _ fl.Transport = (*Link)(nil)

// Cut breaks the link: what is published then fails, and what others publish is
// missed.
func (l *Link) Cut() {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.up = false
}

// Join brings the link back; what is retained is delivered again.
func (l *Link) Join() {
	l.b.mu.Lock()
	if l.up {
		l.b.mu.Unlock()
		return
	}
	l.up = true
	for _, s := range l.subs {
		l.b.again(l, s)
	}
	l.b.mu.Unlock()
	l.say()
}

func (l *Link) say() {
	select {
	case l.link <- struct{}{}:
	default:
	}
}

// again delivers what is retained to a subscription.
func (b *Broker) again(l *Link, s *subscription) {
	var topics []string
	for topic := range b.retained {
		if s.wants(topic) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	for _, topic := range topics {
		b.deliver(l, s, fl.Message{Topic: topic, Payload: slices.Clone(b.retained[topic]), Retain: true})
	}
}

// Publish implements fl.Transport.
func (l *Link) Publish(ctx context.Context, m fl.Message) error {
	if err := l.there(ctx); err != nil {
		return err
	}
	return l.b.publish(l.client, m)
}

func (l *Link) there(ctx context.Context) error {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if !l.up {
		return fmt.Errorf("%s: %w", l.client, fl.ErrNoLink)
	}
	return nil
}

// Subscribe implements fl.Transport.
func (l *Link) Subscribe(ctx context.Context, filters []string, handle func(fl.Message)) error {
	s := &subscription{filters: slices.Clone(filters), wake: make(chan struct{}, 1)}
	l.b.mu.Lock()
	l.subs = append(l.subs, s)
	if l.up {
		l.b.again(l, s)
	}
	l.b.mu.Unlock()
	go func() {
		s.run(ctx, handle)
		l.b.mu.Lock()
		defer l.b.mu.Unlock()
		l.subs = slices.DeleteFunc(l.subs, func(o *subscription) bool { return o == s })
	}()
	return nil
}

// Get implements fl.Transport.
func (l *Link) Get(ctx context.Context, topic string) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := l.there(ctx); err != nil {
		return nil, err
	}
	got := make(chan []byte, 1)
	if err := l.Subscribe(ctx, []string{topic}, func(m fl.Message) {
		select {
		case got <- m.Payload:
		default:
		}
	}); err != nil {
		return nil, err
	}
	for {
		select {
		case payload := <-got:
			return payload, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("get %s: %w", topic, context.Cause(ctx))
		case <-time.After(time.Second):
			if err := l.there(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// Link implements fl.Transport.
func (l *Link) Link() <-chan struct{} { return l.link }
