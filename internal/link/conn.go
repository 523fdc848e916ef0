package link

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Config is one connection to a broker.
type Config struct {
	URL            string // as Address reads it
	ClientID       string
	User, Password string
	CA, Cert, Key  string // PEM files
	KeepAlive      time.Duration
	Timeout        time.Duration // of connecting, and of each acknowledgement
	Will           *Msg
}

// Msg is one message.
type Msg struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
}

// Conn is one connection. It never reconnects by itself: with the library's
// own reconnecting, a message is reported as sent that no broker acknowledged.
type Conn struct {
	client  mqtt.Client
	timeout time.Duration
	out     chan *Token // to be published
	flight  chan *Token // published, in order
	done    chan struct{}
	once    sync.Once
	err     error // set before done is closed
}

// ErrClosed is the error of a connection that Close ended; ErrEnded that of
// one that the other side did, which is a broker's answer to what it does not
// allow, where MQTT 3.1.1 has no other; ErrRefused that of a subscription that
// the broker does not allow. The connection goes on then.
var (
	ErrClosed  = errors.New("the connection was closed")
	ErrEnded   = errors.New("the broker ended it")
	ErrRefused = errors.New("the broker refuses it")
)

// Connect connects with a clean session.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.KeepAlive <= 0 {
		cfg.KeepAlive = 30 * time.Second
	}
	address, secure, err := Address(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("the broker's address %w", err)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err // Address parsed it
	}
	c := &Conn{timeout: cfg.Timeout, done: make(chan struct{}), out: make(chan *Token, 16), flight: make(chan *Token, inFlight)}
	o := mqtt.NewClientOptions().AddBroker(address).SetClientID(cfg.ClientID).
		SetUsername(cfg.User).SetPassword(cfg.Password).
		SetKeepAlive(cfg.KeepAlive).SetPingTimeout(cfg.Timeout).
		SetConnectTimeout(cfg.Timeout).SetWriteTimeout(cfg.Timeout).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetOrderMatters(true).SetMaxResumePubInFlight(0).
		SetDefaultPublishHandler(func(mqtt.Client, mqtt.Message) {}).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.end(fmt.Errorf("connection lost: %w", lost(err))) })
	if w := cfg.Will; w != nil {
		o.SetBinaryWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	if secure {
		t, err := tlsConfig(cfg)
		if err != nil {
			return nil, err
		}
		o.SetTLSConfig(t)
	}
	c.client = mqtt.NewClient(o)
	token := c.client.Connect()
	select {
	case <-token.Done():
	case <-ctx.Done():
		c.client.Disconnect(0)
		return nil, ctx.Err()
	case <-time.After(cfg.Timeout + time.Second):
		c.client.Disconnect(0)
		return nil, fmt.Errorf("broker %s: no answer within %v", host(u), cfg.Timeout)
	}
	if err := token.Error(); err != nil {
		return nil, fmt.Errorf("broker %s: %w", host(u), explain(err, secure))
	}
	go c.send()
	go c.complete()
	return c, nil
}

// host is the address without user and password.
func host(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

func (c *Conn) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
	})
}

// Done is closed when the connection is gone.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why it is gone.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close disconnects; what was not acknowledged is not.
func (c *Conn) Close() {
	c.end(ErrClosed)
	c.client.Disconnect(100)
}

// Publish publishes and waits.
func (c *Conn) Publish(ctx context.Context, m Msg) error { return c.Send(m).Wait(ctx) }

// Window publishes in order, waits for all, and says how many from the first
// on were acknowledged.
func (c *Conn) Window(ctx context.Context, msgs []Msg) (acked int, err error) {
	tokens := make([]*Token, len(msgs))
	for i, m := range msgs {
		tokens[i] = c.Send(m)
	}
	for i, t := range tokens {
		if err := t.Wait(ctx); err != nil {
			return i, err
		}
	}
	return len(msgs), nil
}

// received is how many messages may wait for a slow handler, and receivedBytes how
// long they may be together; then the broker waits, by TCP.
const (
	received      = 1024
	receivedBytes = 4 << 20
)

// Subscribe subscribes and hands what comes to handle, one at a time, from a
// goroutine of its own, so that a slow one does not hold up keep-alives. It
// fails where the broker refuses a filter.
func (c *Conn) Subscribe(ctx context.Context, filters []string, qos byte, handle func(Msg)) error {
	queue := make(chan Msg, received)
	var waiting atomic.Int64 // bytes
	room := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case m := <-queue:
				waiting.Add(-int64(len(m.Payload)))
				select {
				case room <- struct{}{}:
				default:
				}
				handle(m)
			case <-c.done:
				return
			}
		}
	}()
	want := map[string]byte{}
	for _, f := range filters {
		want[f] = qos
	}
	take := func(_ mqtt.Client, m mqtt.Message) {
		n := int64(len(m.Payload()))
		for w := waiting.Load(); w > 0 && w+n > receivedBytes; w = waiting.Load() {
			select {
			case <-room:
			case <-c.done:
				return
			}
		}
		waiting.Add(n)
		select {
		case queue <- Msg{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()}:
		case <-c.done:
		}
	}
	return c.subscribed(ctx, c.ask(func() mqtt.Token { return c.client.SubscribeMultiple(want, take) }), filters)
}

// ask hands the library a request, and gives nil where the connection is gone
// first: where the link breaks at the wrong moment the library waits for the
// whole time limit.
func (c *Conn) ask(request func() mqtt.Token) mqtt.Token {
	asked := make(chan mqtt.Token, 1)
	go func() { asked <- request() }()
	select {
	case token := <-asked:
		return token
	case <-c.done:
		return nil
	}
}

// subscribed waits for the broker's answer to a subscription; see ask.
func (c *Conn) subscribed(ctx context.Context, token mqtt.Token, filters []string) error {
	if token == nil {
		return c.err
	}
	select {
	case <-token.Done():
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(c.timeout):
		return fmt.Errorf("subscribe %s: no answer within %v", strings.Join(filters, " "), c.timeout)
	}
	if err := token.Error(); err != nil {
		if !c.client.IsConnectionOpen() && c.lost() {
			return c.err
		}
		return fmt.Errorf("subscribe %s: %w", strings.Join(filters, " "), err)
	}
	for f, code := range token.(*mqtt.SubscribeToken).Result() {
		if code == 0x80 {
			return fmt.Errorf("subscribe %s: %w", f, ErrRefused)
		}
	}
	return nil
}
