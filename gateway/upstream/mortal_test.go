package upstream_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"edgegateway/internal/link"
)

// mortal is a cloud broker that can be killed, withholds acknowledgements and
// refuses topics: what it acknowledged was given to take before.
type mortal struct {
	mochi.HookBase
	take     func(link.Msg)
	withhold atomic.Bool                         // a result gets no answer
	allow    func(topic string, write bool) bool // nil: all
	end      func(topic string) bool             // ends the link at a topic; nil: at none
	web      bool                                // it speaks WebSocket
	connects atomic.Int32
}

func (m *mortal) Provides(b byte) bool {
	return b == mochi.OnPublish || b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}

func (m *mortal) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool {
	m.connects.Add(1)
	return true
}

func (m *mortal) OnACLCheck(c *mochi.Client, topic string, write bool) bool {
	if m.end != nil && m.end(topic) {
		c.Stop(errors.New("policy"))
		return false
	}
	return m.allow == nil || m.allow(topic, write)
}

func (m *mortal) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	m.take(link.Msg{Topic: pk.TopicName, Payload: bytes.Clone(pk.Payload), QoS: 1})
	if m.withhold.Load() && bytes.Contains([]byte(pk.TopicName), []byte("/results/")) {
		return pk, packets.ErrRejectPacket // no PUBACK, and the link goes on
	}
	return pk, nil
}

func (m *mortal) start(t *testing.T, addr string) (kill func()) {
	t.Helper()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	err := s.AddHook(m, nil)
	var l listeners.Listener = listeners.NewTCP(listeners.Config{ID: "l", Address: addr})
	if m.web {
		l = listeners.NewWebsocket(listeners.Config{ID: "l", Address: addr})
	}
	if err == nil {
		err = s.AddListener(l)
	}
	if err == nil {
		err = s.Serve()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { s.Close() })
	t.Cleanup(kill)
	return kill
}
