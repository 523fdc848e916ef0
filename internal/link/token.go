package link

import (
	"context"
	"fmt"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// inFlight is how many messages one connection has under way at most; then
// Send waits.
const inFlight = 1024

// Token is a message under way.
type Token struct {
	c    *Conn
	msg  Msg
	sent mqtt.Token
	done chan struct{}
	err  error // set before done is closed
}

// Send publishes without waiting for the acknowledgement. Messages leave in
// the order of the calls of one goroutine; the payload must not change until
// the token or the connection is done.
func (c *Conn) Send(m Msg) *Token {
	t := &Token{c: c, msg: m, done: make(chan struct{})}
	select {
	case c.out <- t:
	case <-c.done:
	}
	return t
}

// Start is Send for those who only want to wait.
func (c *Conn) Start(m Msg) (wait func(context.Context) error) { return c.Send(m).Wait }

// Done is closed when the message is acknowledged (at QoS 0: written) or has
// failed. It may never be where the connection is done first.
func (t *Token) Done() <-chan struct{} { return t.done }

// Err says after Done why the message failed, nil when it did not.
func (t *Token) Err() error { return t.err }

// Wait returns when the message is acknowledged (at QoS 0: written), has
// failed, or when there was no answer within the connection's time limit.
func (t *Token) Wait(ctx context.Context) error {
	select {
	case <-t.done: // also where the connection is done since
		return t.err
	default:
	}
	timer := time.NewTimer(t.c.timeout)
	defer timer.Stop()
	select {
	case <-t.done:
		return t.err
	case <-t.c.done:
		// It may have been acknowledged at the last moment; that it is sent
		// again then is what QoS 1 allows.
		return fmt.Errorf("publish %s: %w", t.msg.Topic, t.c.err)
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return t.late()
	}
}

func (t *Token) late() error {
	return fmt.Errorf("publish %s: no acknowledgement within %v", t.msg.Topic, t.c.timeout)
}

// send is the one goroutine that hands messages to the library: where the
// link breaks at the wrong moment its Publish waits for the whole time limit,
// and nobody else should.
func (c *Conn) send() {
	for {
		select {
		case t := <-c.out:
			t.sent = c.client.Publish(t.msg.Topic, t.msg.QoS, t.msg.Retain, t.msg.Payload)
			select {
			case c.flight <- t:
			case <-c.done:
				return
			}
		case <-c.done:
			return
		}
	}
}

// complete closes the tokens in order.
func (c *Conn) complete() {
	for {
		select {
		case t := <-c.flight:
			select {
			case <-t.sent.Done():
				if err := t.sent.Error(); err != nil {
					if !c.client.IsConnectionOpen() && c.lost() {
						return // all fail for the reason that it went
					}
					t.err = fmt.Errorf("publish %s: %w", t.msg.Topic, err)
				}
				close(t.done)
			case <-c.done:
				return
			}
		case <-c.done:
			return
		}
	}
}

// lost waits for the reason that the library is about to give for the end of
// the connection; the messages under way it ends first, without one.
func (c *Conn) lost() bool {
	select {
	case <-c.done:
		return true
	case <-time.After(c.timeout):
		return false
	}
}
