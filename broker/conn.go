package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxConnectBytes bounds the first packet of a connection: room for a name, a
// password and a will, and little to take for somebody who is not known yet.
const maxConnectBytes = 256 << 10

// conn is a client's connection with a deadline on every write, and with what
// the broker knows of who is at its other end.
type conn struct {
	net.Conn
	socket       net.Conn // below TLS and WebSocket
	writeTimeout time.Duration
	maxConnect   int
	loopback     bool
	commonName   string // of a verified client certificate
	user         string // set once, before the session is seen by others, as the next
	clientID     string
	rights       atomic.Pointer[rights]
	client       atomic.Pointer[mqtt.Client] // nil until the session is there
	reason       atomic.Pointer[string]      // why the broker ended it
	once         sync.Once
	gone         chan struct{}    // closed when the connection is
	established  chan struct{}    // closed when the session is there, and publishers may add to it
	resumed      chan struct{}    // closed when what waited for the session is sent
	aside        []packets.Packet // what waited, while the library resumes the session
	ended        chan struct{}    // closed when nothing of it is left in the library
	first        []byte           // the first packet's fixed header, while it is not whole
	flow         flow

	asked            string // the topic of a publish that is none
	foreignID, ownID uint16 // of the packet at hand, where its id was taken; the reader's own, as the next
	wild             bool   // the subscription at hand has wildcards
	unlock           func() // of the retained messages, where they are locked
	willStays        bool   // the will is to be retained once it is sent
}

func newConn(c net.Conn, lim *LimitsConfig) *conn {
	w := &conn{Conn: c, socket: c, writeTimeout: lim.WriteTimeout, maxConnect: min(maxConnectBytes, lim.MaxPacketBytes),
		loopback: isLoopback(c.RemoteAddr()), gone: make(chan struct{}), established: make(chan struct{}), resumed: make(chan struct{}), ended: make(chan struct{}), first: make([]byte, 0, 5), flow: newFlow()}
	if t, ok := c.(*tls.Conn); ok {
		w.socket = t.NetConn()
	}
	return w
}

// Read looks at the length of the first packet before the library makes room
// for it.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for _, b := range p[:n] {
		if c.first == nil {
			break
		}
		c.first = append(c.first, b)
		if len(c.first) < 2 || b >= 0x80 && len(c.first) < cap(c.first) {
			continue
		}
		size := 0
		for i, b := range c.first[1:] {
			size |= int(b&0x7f) << (7 * i)
		}
		if size > c.maxConnect {
			return 0, packets.ErrPacketTooLarge
		}
		c.first = nil
	}
	return n, err
}

// send ends the connection when its peer does not take p in time: what is
// written after a part of a packet would be read as something else, and
// publishers must not wait for the same peer again.
func (c *conn) send(p []byte) error {
	err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	if err == nil {
		_, err = c.Conn.Write(p)
	}
	if isTimeout(err) {
		c.cut("write_timeout")
	} else if err != nil {
		c.Close()
	}
	return err
}

// SetDeadline is the library's keep-alive. It must not move the deadline of a
// write that is under way.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *conn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

func (c *conn) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// about is who is at the other end, as far as it is known by the reader.
func (c *conn) about() about {
	remote := c.socket.RemoteAddr()
	if remote.Network() == "unix" { // which has no address
		return about{client: c.clientID, user: c.user, remote: "unix socket"}
	}
	return about{client: c.clientID, user: c.user, remote: remote.String()}
}

// cut ends the connection at once, without TLS's farewell, which a peer that
// reads nothing would hold up. The first reason counts.
func (c *conn) cut(reason string) {
	c.reason.CompareAndSwap(nil, &reason)
	c.socket.Close()
	c.Close()
}

// cause is the reason that a connection's end is counted under, "" where the
// client ended it, or was refused and counted so. err is what the library said.
func (c *conn) cause(err error) string {
	var code packets.Code
	switch reason := c.reason.Load(); {
	case reason != nil:
		return *reason
	case errors.Is(err, packets.ErrPacketTooLarge):
		return "packet_size"
	case isTimeout(err) && c.client.Load() == nil:
		return "connect_timeout"
	case isTimeout(err):
		return "keepalive"
	case errors.Is(err, packets.ErrBadUsernameOrPassword), errors.Is(err, packets.ErrNotAuthorized),
		errors.Is(err, packets.CodeDisconnectWillMessage):
		return ""
	case errors.As(err, &code):
		return "protocol"
	}
	return ""
}

// isTimeout looks for more than os.ErrDeadlineExceeded, which the WebSocket
// library hides.
func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func isLoopback(a net.Addr) bool {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.IsLoopback()
	}
	return a.Network() == "unix"
}

// commonName does the handshake, under the deadline that c already has.
func commonName(c net.Conn) (string, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return "", nil
	}
	if err := t.Handshake(); err != nil {
		return "", err
	}
	if chains := t.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0].Subject.CommonName, nil
	}
	return "", nil
}

// wsConn makes a stream of binary WebSocket messages.
type wsConn struct {
	*websocket.Conn
	r io.Reader
}

func (w *wsConn) Read(p []byte) (int, error) {
	for {
		if w.r == nil {
			kind, r, err := w.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("a text message, MQTT comes in binary ones: %w", packets.ErrProtocolViolation)
			}
			w.r = r
		}
		n, err := w.r.Read(p)
		if err == io.EOF {
			w.r = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (w *wsConn) Write(p []byte) (int, error) {
	if err := w.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *wsConn) SetDeadline(t time.Time) error {
	if err := w.SetReadDeadline(t); err != nil {
		return err
	}
	return w.SetWriteDeadline(t)
}
