package broker

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	mqtt "github.com/mochi-mqtt/server/v2"
)

// conn is a client's connection with a deadline on every write, and with what
// the broker knows of who is at its other end.
type conn struct {
	net.Conn
	writeTimeout time.Duration
	loopback     bool
	commonName   string // of a verified client certificate
	user         string // set once, before the session is seen by others
	rights       atomic.Pointer[rights]
	client       atomic.Pointer[mqtt.Client] // nil until the session is there
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
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
				return 0, websocket.ErrBadHandshake
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
