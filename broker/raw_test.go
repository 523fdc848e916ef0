package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// patience is how long a test waits for what is to come at last.
const patience = 30 * time.Second

// raw is an MQTT client that sends and shows bytes.
type raw struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *raw {
	t.Helper()
	return dialAt(t, "tcp", addr)
}

func dialAt(t *testing.T, network, addr string) *raw {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &raw{c, t, bufio.NewReader(c)}
}

// packet puts parts together: a string has its length before it, bytes stand
// for themselves.
func packet(first byte, parts ...any) []byte {
	var body []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			body = binary.BigEndian.AppendUint16(body, uint16(len(p)))
			body = append(body, p...)
		case int:
			body = binary.BigEndian.AppendUint16(body, uint16(p))
		case byte:
			body = append(body, p)
		case []byte:
			body = append(body, p...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	out := []byte{first}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			out = append(out, b)
			break
		}
		out = append(out, b|0x80)
	}
	return append(out, body...)
}

// hello is a CONNECT. more are its properties (MQTT 5 only, with their length)
// and what follows the client id.
type hello struct {
	version   byte
	id        string
	keep      bool // the session: not clean
	keepalive int
	props     []byte
	user      string
	password  string
	will      string // topic; its payload is "gone"
}

func (h hello) bytes() []byte {
	flags := byte(0)
	if !h.keep {
		flags |= 2
	}
	if h.will != "" {
		flags |= 4
	}
	if h.user != "" {
		flags |= 0x80
	}
	if h.password != "" {
		flags |= 0x40
	}
	if h.version == 0 {
		h.version = 4
	}
	parts := []any{"MQTT", h.version, flags, h.keepalive}
	if h.version == 5 {
		parts = append(parts, byte(len(h.props)), h.props)
	}
	parts = append(parts, h.id)
	if h.will != "" {
		if h.version == 5 {
			parts = append(parts, byte(0))
		}
		parts = append(parts, h.will, "gone")
	}
	if h.user != "" {
		parts = append(parts, h.user)
	}
	if h.password != "" {
		parts = append(parts, h.password)
	}
	return packet(0x10, parts...)
}

func (c *raw) send(p ...[]byte) {
	c.t.Helper()
	for _, p := range p {
		if _, err := c.Write(p); err != nil {
			c.t.Fatal(err)
		}
	}
}

// read gives the next packet's first byte and the rest behind its length.
func (c *raw) read() (first byte, body []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, err
	}
	if first, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return first, body, err
}

// want reads one packet and expects its kind.
func (c *raw) want(first byte) []byte {
	c.t.Helper()
	got, body, err := c.read()
	if err != nil || got != first {
		c.t.Fatalf("a packet %#x %x, %v; want %#x", got, body, err, first)
	}
	return body
}

// ended reads until the broker closes the connection.
func (c *raw) ended() {
	c.t.Helper()
	for {
		if _, _, err := c.read(); errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatal("the connection is still open")
		} else if err != nil {
			return
		}
	}
}

// connect says hello and is let in.
func connect(t *testing.T, addr string, h hello) *raw {
	t.Helper()
	c := dial(t, addr)
	c.send(h.bytes())
	if body := c.want(0x20); body[1] != 0 {
		t.Fatalf("%s: CONNACK %x", h.id, body)
	}
	return c
}

// comeBack says hello again and finds its session.
func comeBack(t *testing.T, addr string, h hello) *raw {
	t.Helper()
	c := dial(t, addr)
	c.send(h.bytes())
	if body := c.want(0x20); body[0] != 1 || body[1] != 0 {
		t.Fatalf("%s: CONNACK %x: no session", h.id, body)
	}
	return c
}

// numbered publishes n to the topic a at QoS 1, and counts it up.
func numbered(t *testing.T, s *Server, n *int) func() {
	return func() {
		t.Helper()
		if err := s.Publish("a", []byte(fmt.Sprint(*n)), 1, false); err != nil {
			t.Fatal(err)
		}
		*n++
	}
}

// refusedWith says hello and gives the code of the CONNACK, which must not be 0.
func refusedWith(t *testing.T, addr string, h hello) byte {
	t.Helper()
	c := dial(t, addr)
	c.send(h.bytes())
	body := c.want(0x20)
	if body[1] == 0 {
		t.Errorf("%+v is let in", h)
	}
	c.ended()
	return body[1]
}

// subscribe asks for one filter of an MQTT 3.1.1 client and gives the answer.
func (c *raw) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.send(packet(0x82, 77, filter, qos))
	return c.want(0x90)[2]
}

// sync returns when the broker has handled what was sent before.
func (c *raw) sync() {
	c.t.Helper()
	c.send(packet(0xc0))
	c.want(0xd0)
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-late:
			t.Fatal(what)
		case <-tick.C:
		}
	}
}

func (s *Server) cutBy(reason string) int     { return count(s.cut.counter, reason) }
func (s *Server) refusedBy(reason string) int { return count(s.refusal.counter, reason) }
func (s *Server) droppedBy(reason string) int { return count(s.drop.counter, reason) }

func count(c *prometheus.CounterVec, reason string) int {
	reg := prometheus.NewRegistry()
	reg.MustRegister(c.WithLabelValues(reason))
	families, err := reg.Gather()
	if err != nil {
		panic(err)
	}
	return int(families[0].GetMetric()[0].GetCounter().GetValue())
}
