package link

import (
	"context"
	"fmt"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Get subscribes to one topic, waits for the first message on it, which is the
// one that the broker retains where it has one, and unsubscribes. What comes
// beyond the first is thrown away at once. A broker says nothing where it has
// none: then ctx ends the wait. The error wraps ErrRefused where the broker
// does not let us subscribe. Several topics may be got at a time.
func (c *Conn) Get(ctx context.Context, topic string) ([]byte, error) {
	got := make(chan []byte, 1)
	take := func(_ mqtt.Client, m mqtt.Message) {
		select {
		case got <- m.Payload():
		default:
		}
	}
	token := c.ask(func() mqtt.Token { return c.client.Subscribe(topic, 1, take) })
	err := c.subscribed(ctx, token, []string{topic})
	if err == nil {
		// Without waiting for the broker: a late message finds nobody.
		defer c.ask(func() mqtt.Token { return c.client.Unsubscribe(topic) })
		select {
		case payload := <-got:
			return payload, nil
		case <-c.done:
			err = c.err
		case <-ctx.Done():
			err = fmt.Errorf("get %s: %w", topic, context.Cause(ctx))
		}
	}
	select {
	case payload := <-got: // it came before the end, also of one that we see late
		return payload, nil
	default:
		return nil, err
	}
}
