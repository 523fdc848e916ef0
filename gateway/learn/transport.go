package learn

import (
	"context"
	"errors"
	"fmt"

	"edgegateway/fl"
	"edgegateway/gateway/upstream"
	"edgegateway/internal/link"
)

// transport is fl's over a link's connection.
type transport struct{ l *upstream.Lent }

func (t transport) Publish(ctx context.Context, m fl.Message) error {
	return noLink(t.l.Publish(ctx, link.Msg{Topic: m.Topic, Payload: m.Payload, Retain: m.Retain}))
}

func (t transport) Subscribe(ctx context.Context, filters []string, handle func(fl.Message)) error {
	return t.l.Subscribe(ctx, filters, func(m link.Msg) { handle(fl.Message{Topic: m.Topic, Payload: m.Payload, Retain: m.Retain}) })
}

func (t transport) Get(ctx context.Context, topic string) ([]byte, error) {
	b, err := t.l.Get(ctx, topic)
	return b, noLink(err)
}

func (t transport) Link() <-chan struct{} { return t.l.Up() }

func noLink(err error) error {
	if errors.Is(err, upstream.ErrNoLink) || errors.Is(err, link.ErrClosed) || errors.Is(err, link.ErrEnded) {
		return fmt.Errorf("%w: %w", fl.ErrNoLink, err)
	}
	return err
}
