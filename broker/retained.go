package broker

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The library looks for the retained messages of a filter with wildcards
// without the lock under which others change them. It is asked to publish
// between two of these hooks, and to read between two others. What it keeps
// under $SYS it writes again as it is.

// lockRetained is let go by OnRetainMessage.
func (s *Server) lockRetained(c *conn) {
	s.retained.Lock()
	c.unlock = s.retained.Unlock
}

// readRetained is let go when the subscription is dealt with.
func (s *Server) readRetained(c *conn) {
	s.retained.RLock()
	c.unlock = s.retained.RUnlock
}

func (c *conn) release() {
	if c.unlock != nil {
		c.unlock()
		c.unlock = nil
	}
}

func (h *hook) OnRetainMessage(cl *mqtt.Client, _ packets.Packet, _ int64) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.release()
	} else {
		h.s.retained.Unlock()
	}
}

// OnRetainPublished lets publishers in between two messages: the subscriber may
// be slow.
func (h *hook) OnRetainPublished(cl *mqtt.Client, _ packets.Packet) {
	if c, ok := cl.Net.Conn.(*conn); ok && c.unlock != nil {
		c.release()
		h.s.readRetained(c)
	}
}

// OnWill keeps the library from retaining a will that waits: it asks nobody
// before. Who subscribed before gets that one without the retain flag.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	c, ok := cl.Net.Conn.(*conn)
	switch {
	case !ok || !will.Retain:
	case will.WillDelayInterval > 0:
		c.willStays, will.Retain = true, false
	default:
		h.s.lockRetained(c)
	}
	return will, nil
}

// retainWill retains a will that waited.
func (s *Server) retainWill(pk packets.Packet) {
	s.retained.Lock()
	defer s.retained.Unlock()
	s.mqtt.Topics.RetainMessage(pk.Copy(false))
}
