package broker

import (
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook answers the broker library's questions.
type hook struct {
	mqtt.HookBase
	s *Server
}

func (h *hook) ID() string { return "edgegateway" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnClientExpired,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketSent, mqtt.OnPacketProcessed, mqtt.OnSubscribe, mqtt.OnQosPublish, mqtt.OnPublishDropped, mqtt.OnWill, mqtt.OnWillSent,
		mqtt.OnRetainMessage, mqtt.OnRetainPublished:
		return true
	}
	return false
}

// OnConnect caps the keep-alive: one and a half times it must fit 16 bits.
func (h *hook) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	if cl.State.Keepalive > 43690 {
		cl.State.Keepalive, cl.State.ServerKeepalive = 43690, true
	}
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.flow.open(cl, h.s.limits.Load().Inflight)
	}
	return nil
}

func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	r := h.s.rules.Load()
	user := string(pk.Connect.Username)
	refused := func(reason, topic string) bool {
		h.s.refusal.add(reason, about{cl.ID, user, c.about().remote, topic}, nil)
		return false
	}
	if user == "" {
		if _, ok := r.users[c.commonName]; ok {
			user = c.commonName
		}
	}
	// Without users there are no names to check: whoever gives one is anonymous.
	if len(r.users) == 0 {
		user = ""
	}
	if user != "" && user != c.commonName && !r.password(user, pk.Connect.Password) {
		return refused("password", "")
	}
	rights, ok := r.of(user, cl.ID, c.loopback)
	if !ok {
		return refused("identity", "")
	}
	// A will is published past every later check.
	if w := cl.Properties.Will; w.Flag == 1 && (ValidTopic(w.TopicName) != nil || !rights.mayPublish(w.TopicName)) {
		return refused("will", w.TopicName)
	}
	before, ok := h.s.claim(cl.ID, user, c)
	if !ok || before != nil && !h.s.succeed(c, before) {
		return refused("client_id", "")
	}
	c.rights.Store(rights)
	return true
}

func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return
	}
	if old, ok := h.s.mqtt.Clients.Get(cl.ID); ok { // its subscriptions may be inherited
		for _, sub := range old.State.Subscriptions.GetAll() {
			if sub.Qos > 0 {
				c.flow.waited.Store(true)
			}
		}
	}
	c.client.Store(cl)
}

func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		h.s.resume(c, cl)
	}
}

func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	if cl.Net.Inline {
		return true
	}
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	r := c.rights.Load()
	if r == nil {
		return false
	}
	if write && !r.mayPublish(topic) {
		if topic == noTopic {
			topic = c.asked
		}
		return h.refused("publish", c, topic)
	}
	if write {
		return true
	}
	if !r.maySubscribe(topic) {
		return h.refused("subscribe", c, topic)
	}
	// What the library publishes by itself, under $SYS, waits for nobody.
	if topic[0] != '$' && !cl.Closed() && !c.admit(cl) {
		h.s.dropped("slow_subscriber", cl, topic)
		return false
	}
	return true
}

// noTopic stands for a topic that no client may publish to.
const noTopic = "$"

func (h *hook) refused(reason string, c *conn, topic string) bool {
	a := c.about()
	a.topic = topic
	h.s.refusal.add(reason, a, nil)
	return false
}

// dropped counts a message that cl does not get.
func (s *Server) dropped(reason string, cl *mqtt.Client, topic string) {
	a := about{client: cl.ID, topic: topic}
	if c, ok := cl.Net.Conn.(*conn); ok {
		a.user, a.remote = c.user, c.about().remote
	}
	s.drop.add(reason, a, nil)
}

func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok || cl.Net.Inline {
		if pk.FixedHeader.Retain {
			h.s.retained.Lock()
		}
		return pk, nil
	}
	c.flow.setBusy(true)
	h.s.intake.RLock()
	defer h.s.intake.RUnlock()
	if h.s.held {
		h.refused("stopping", c, pk.TopicName)
		return pk, packets.ErrRejectPacket
	}
	h.s.hand(cl, c, pk)
	if pk.FixedHeader.Retain {
		h.s.lockRetained(c)
	}
	return pk, nil
}

// OnWillSent hands wills on, which the library publishes by itself.
func (h *hook) OnWillSent(cl *mqtt.Client, pk packets.Packet) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		if c.willStays {
			pk.FixedHeader.Retain = true
			h.s.retainWill(pk)
		}
		h.s.intake.RLock()
		defer h.s.intake.RUnlock()
		if !h.s.held {
			h.s.hand(cl, c, pk)
		}
	}
}

// hand gives a message to the taps that want it.
func (s *Server) hand(cl *mqtt.Client, c *conn, pk packets.Packet) {
	taps := s.taps.Load()
	if taps == nil {
		return
	}
	m := Message{Topic: pk.TopicName, Payload: pk.Payload, ClientID: cl.ID, User: c.user,
		QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain, Received: time.Now()}
	if pk.ProtocolVersion == 5 {
		p := &pk.Properties
		m.Properties = Properties{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData}
		for _, u := range p.User {
			m.Properties.User = append(m.Properties.User, UserProperty{u.Key, u.Val})
		}
	}
	for _, t := range *taps {
		if anyCovers(t.filters, pk.TopicName) {
			t.handle(m)
		}
	}
}

// OnPacketRead keeps the packet ids of the two directions apart, which share
// one table in the library: a client's own id must not name a message that it
// has not acknowledged. Its acknowledgements carry its own ids again.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Pubcomp:
		c.flow.free()
	case packets.Pubrec:
		if pk.ReasonCode >= packets.ErrUnspecifiedError.Code { // the message ends here
			c.flow.free()
		}
	case packets.Disconnect: // the library caps what CONNECT asks for alone
		pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval, sessionSeconds)
	case packets.Publish, packets.Subscribe, packets.Unsubscribe:
		// The library lets deep topics through, which cost it dearly, and has no
		// answer to $SYS: this one is refused like any that is not allowed.
		if t := pk.TopicName; t != "" && (t[0] == '$' || ValidTopic(t) != nil) {
			c.asked, pk.TopicName = t, noTopic
		}
		c.foreignID, c.ownID = 0, 0
		// Nothing of ours waits for this client, or its id comes in more packets.
		if pk.PacketID == 0 || !c.flow.waited.Load() || pk.FixedHeader.Qos == 2 {
			break
		}
		if id, err := cl.NextPacketID(); err == nil {
			c.foreignID, c.ownID = pk.PacketID, uint16(id)
			pk.PacketID = c.ownID
		}
	}
	return pk, nil
}

func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if !c.next(cl, pk) {
			h.s.dropped("too_large", cl, "") // it was the one before this
		}
	case packets.Puback, packets.Suback, packets.Unsuback: // written by the client's reader alone
		if c.ownID != 0 && pk.PacketID == c.ownID {
			pk.PacketID = c.foreignID
		}
	}
	return pk
}

func (h *hook) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	c, ok := cl.Net.Conn.(*conn)
	switch {
	case !ok:
	case pk.FixedHeader.Type == packets.Connack:
		h.s.putAside(c, cl)
	case pk.FixedHeader.Type == packets.Suback && c.wild:
		h.s.readRetained(c)
	case pk.FixedHeader.Type == packets.Publish && !pk.FixedHeader.Dup:
		c.flow.unsent = false
	}
}

func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.flow.setBusy(true) // retained messages are next
		c.wild = false
		for i, f := range pk.Filters {
			c.wild = c.wild || strings.ContainsAny(f.Filter, "+#")
			if f.Qos > 0 {
				c.flow.waited.Store(true)
			}
			if ValidFilter(f.Filter) != nil {
				h.refused("subscribe", c, f.Filter)
				pk.Filters[i].Filter = "" // which the library refuses
			}
		}
	}
	return pk
}

func (h *hook) OnPacketProcessed(cl *mqtt.Client, _ packets.Packet, _ error) {
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.release()
		c.flow.setBusy(false)
	}
}

// OnQosPublish bounds what is kept for a session whose client is away.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	if pk.FixedHeader.Type != packets.Publish {
		return
	}
	h.s.kept(cl, pk)
	if cl.Closed() && cl.State.Inflight.Len() > h.s.limits.Load().Inflight && cl.State.Inflight.Delete(pk.PacketID) {
		atomic.AddInt64(&h.s.mqtt.Info.Inflight, -1)
		h.s.dropped("session_full", cl, pk.TopicName)
	}
}

// OnPublishDropped is told of what the library drops at a full queue.
func (h *hook) OnPublishDropped(cl *mqtt.Client, pk packets.Packet) {
	h.s.dropped("queue_full", cl, pk.TopicName)
}

// OnClientExpired removes what the library leaves in the topic tree.
func (h *hook) OnClientExpired(cl *mqtt.Client) { h.s.mqtt.UnsubscribeClient(cl) }

// abandon does what the library skips when a connection's goroutine panics:
// the will is sent and the session removed, so that nothing is left.
func (s *Server) abandon(c *conn) {
	cl := c.client.Load()
	if cl == nil {
		return
	}
	if w := cl.Properties.Will; atomic.SwapUint32(&cl.Properties.Will.Flag, 0) == 1 {
		if err := s.Publish(w.TopicName, w.Payload, w.Qos, w.Retain); err != nil {
			s.log.Warn().Err(err).Str("client", cl.ID).Msg("will of a broken connection")
		}
		(&hook{s: s}).OnWillSent(cl, packets.Packet{TopicName: w.TopicName, Payload: w.Payload,
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: w.Qos, Retain: w.Retain}})
	}
	if !cl.IsTakenOver() {
		cl.ClearInflights()
		s.mqtt.UnsubscribeClient(cl)
		s.mqtt.Clients.Delete(cl.ID)
	}
}
