package broker

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// When a session resumes, the library sends what waits for it all at once, in
// the order of the second, among what is published now and whatever window the
// client names, and what is kept for the session in the moment of its handing
// over stays with the connection that is gone. So what waits is put aside
// while the library resumes the session, goes out in its order and in the
// client's window, and what is new comes behind it.

// unstamped is above every stamp: the library writes the second here.
const unstamped = 0

// stamp gives a message that is kept for a session its place in the order of
// all; it is its time of creation, which the library looks at nowhere else.
func (s *Server) stamp() int64 { return s.order.Add(1) - 1<<62 }

// kept follows a message that the library has just put to what cl has not
// acknowledged: where the session was handed over meanwhile, to who has it now.
func (s *Server) kept(cl *mqtt.Client, pk packets.Packet) {
	pk.Created = s.stamp()
	cl.State.Inflight.Set(pk)
	for cl.IsTakenOver() {
		now := s.heir(cl)
		if now == nil {
			return // the session is over
		}
		cl = now
		if m, ok := cl.State.Inflight.Get(pk.PacketID); ok && m.Created == pk.Created {
			continue
		}
		id, err := cl.NextPacketID()
		if err != nil {
			s.dropped("session_full", cl, pk.TopicName)
			return
		}
		pk.PacketID = uint16(id)
		if cl.State.Inflight.Set(pk) {
			atomic.AddInt64(&s.mqtt.Info.Inflight, 1)
		}
		if c, ok := cl.Net.Conn.(*conn); ok && !cl.Closed() {
			late := time.AfterFunc(c.writeTimeout, func() { c.cut("slow_subscriber") })
			_ = s.resend(c, cl, pk) // where it fails, the session has it
			late.Stop()
		}
	}
}

// heir is the client that took a session over, once what waited for it is sent
// or the connection gone; nil where there is none.
func (s *Server) heir(cl *mqtt.Client) *mqtt.Client {
	for {
		s.mu.Lock()
		c := s.ids[cl.ID]
		s.mu.Unlock()
		now, ok := s.mqtt.Clients.Get(cl.ID)
		if ok && now != cl {
			c, ok = now.Net.Conn.(*conn)
		}
		if !ok || c == nil {
			return nil
		}
		c.settled()
		if now != cl {
			late := time.NewTimer(c.writeTimeout)
			defer late.Stop()
			c.wait(c.resumed, late)
			return now
		}
	}
}

// putAside takes what waits for the session of c out of the library's hands,
// between the CONNACK and its sending again. Nobody else changes it meanwhile:
// publishers wait until it is settled.
func (s *Server) putAside(c *conn, cl *mqtt.Client) {
	for _, pk := range cl.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type != packets.Publish {
			continue
		}
		cl.State.Inflight.Delete(pk.PacketID)
		if pk.Created >= unstamped {
			pk.Created = s.stamp()
		}
		c.aside = append(c.aside, pk)
	}
	slices.SortFunc(c.aside, func(a, b packets.Packet) int { return cmp.Compare(a.Created, b.Created) })
}

// putBack gives the session what was put aside.
func (c *conn) putBack(cl *mqtt.Client) (list []packets.Packet) {
	list, c.aside = c.aside, nil
	for _, pk := range list {
		cl.State.Inflight.Set(pk)
	}
	return list
}

// resume lets publishers go on and sends what was put aside.
func (s *Server) resume(c *conn, cl *mqtt.Client) {
	list := c.putBack(cl)
	close(c.established)
	if len(list) == 0 {
		close(c.resumed)
		return
	}
	s.wg.Go(func() {
		defer close(c.resumed)
		for _, pk := range list {
			if s.resend(c, cl, pk) != nil {
				return
			}
			c.flow.again.Add(1)
		}
	})
}

// resend sends a message that waited. One that is larger than the client takes
// would end every connection of its session.
func (s *Server) resend(c *conn, cl *mqtt.Client, pk packets.Packet) error {
	pk.FixedHeader.Dup = true
	err := cl.WritePacket(pk)
	if !errors.Is(err, packets.ErrPacketTooLarge) {
		return err
	}
	if cl.State.Inflight.Delete(pk.PacketID) {
		atomic.AddInt64(&s.mqtt.Info.Inflight, -1)
		c.flow.free()
	}
	s.dropped("too_large", cl, pk.TopicName)
	return nil
}
