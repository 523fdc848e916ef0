package broker

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// What the broker library gets wrong, and what is in front of it: each of
// these tests fails without the guard that it names.

// An MQTT 5 SUBSCRIBE without its options byte panics in the library. The
// connection ends, its will is sent, and nothing of the session is left.
func TestPanicLeavesNothing(t *testing.T) {
	s, addr := start(t, Config{})
	other := connect(t, addr, hello{id: "other"})
	other.subscribe("#", 0)
	// The session is one that would be kept.
	c := connect(t, addr, hello{version: 5, id: "z", keep: true, will: "wills/z", props: []byte{0x11, 0, 0, 1, 0}})
	c.send(packet(0x82, 1, byte(0), "a/b", byte(1)))
	c.want(0x90)
	c.send([]byte("\x82\x08\x00\x01\x00\x00\x03\x61\x2f\x23"))
	c.ended()
	if got := other.want(0x30); !bytes.Equal(got, []byte("\x00\x07wills/zgone")) {
		t.Errorf("instead of the will: %q", got)
	}
	eventually(t, "the session is left", func() bool {
		_, ok := s.mqtt.Clients.Get("z")
		return !ok && s.Clients() == 1
	})
	if left := s.mqtt.Topics.Subscribers("a/b").Subscriptions; len(left) != 1 {
		t.Errorf("subscribers of a/b: %v", left)
	}
	if n := s.cutBy("panic"); n != 1 {
		t.Errorf("%d panics counted", n)
	}
	other.sync()
}

// A subscriber that reads nothing holds a publisher up once, by the write
// timeout, and is cut, even where it goes on sending.
func TestStuckSubscriberIsCut(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: 100 * time.Millisecond}})
		stuck := connect(t, addr, hello{id: "stuck", keep: true})
		stuck.subscribe("big", qos)
		// Each packet moves the library's deadline, which is of reads and writes.
		alive := make(chan struct{})
		go func() {
			defer close(alive)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := stuck.Write(packet(0x30, "alive")); err != nil {
					return
				}
			}
		}()
		pub := connect(t, addr, hello{id: "pub"})
		big := packet(0x32, "big", 9, make([]byte, 512<<10))
		for s.cutBy("write_timeout")+s.cutBy("slow_subscriber") == 0 {
			pub.send(big)
			pub.want(0x40)
		}
		<-alive
		// Cut is cut: its session waits, and nobody for it.
		eventually(t, "the subscriber is still there", func() bool { return s.Clients() == 1 })
		pub.send(big)
		pub.want(0x40)
	}
}

// The library looks at will messages no more: they are judged at CONNECT.
func TestWillIsChecked(t *testing.T) {
	s, addr := start(t, Config{Anonymous: &AnonymousConfig{Publish: []string{"mine/%c", "$SYS/#", "$share/#"}, Subscribe: []string{"#"}}})
	for _, topic := range []string{"$SYS/broker/version", "other/c", "mine/+", "mine/#", "mine/other", "$share/g/mine"} {
		for _, version := range []byte{4, 5} {
			refusedWith(t, addr, hello{version: version, id: "c", will: topic})
		}
	}
	if n := s.refusedBy("will"); n != 12 {
		t.Errorf("%d refused for their wills", n)
	}
	sub := connect(t, addr, hello{id: "sub"})
	sub.subscribe("mine/#", 0)
	connect(t, addr, hello{id: "c", will: "mine/c"}).Close()
	if got := sub.want(0x30); !bytes.Equal(got, []byte("\x00\x06mine/cgone")) {
		t.Errorf("instead of the will: %q", got)
	}
}

// A client id belongs to the user who has it, while it is connected and while
// its session waits.
func TestClientIDBelongsToItsUser(t *testing.T) {
	all := UserConfig{Password: "x", Subscribe: []string{"#"}}
	s, addr := start(t, Config{Users: map[string]UserConfig{"ann": all, "bob": all}, Anonymous: &AnonymousConfig{Subscribe: []string{"#"}}})
	ann := hello{id: "press", user: "ann", password: "x", keep: true}
	c := connect(t, addr, ann)
	c.subscribe("orders", 1)
	steal := func() {
		t.Helper()
		for _, thief := range []hello{{id: "press", user: "bob", password: "x", keep: true}, {id: "press", keep: true}, {id: "press", version: 5, user: "bob", password: "x"}} {
			refusedWith(t, addr, thief)
		}
	}
	steal()
	c.sync() // still there
	c.send(packet(0xe0))
	c.ended()
	eventually(t, "the client is still there", func() bool { return s.Clients() == 0 })
	steal()
	if err := s.Publish("orders", []byte("1"), 1, false); err != nil {
		t.Fatal(err)
	}
	c = dial(t, addr)
	c.send(ann.bytes())
	if body := c.want(0x20); !bytes.Equal(body, []byte{1, 0}) {
		t.Errorf("her own session: CONNACK %x", body)
	}
	c.want(0x3a) // QoS 1, again
	if n := s.refusedBy("client_id"); n != 6 {
		t.Errorf("%d takeovers refused", n)
	}
}

// slowly holds a client up between its password and its session.
type slowly struct {
	mqtt.HookBase
	came, on chan struct{}
}

func (h *slowly) ID() string           { return "slowly" }
func (h *slowly) Provides(b byte) bool { return b == mqtt.OnSessionEstablish }
func (h *slowly) OnSessionEstablish(*mqtt.Client, packets.Packet) {
	select {
	case h.came <- struct{}{}:
	default:
	}
	<-h.on
}

// A client id belongs to its user from the password on, before the library
// knows the session.
func TestClientIDBelongsToWhoComes(t *testing.T) {
	all := UserConfig{Password: "x"}
	s, addr := start(t, Config{Users: map[string]UserConfig{"ann": all, "bob": all}})
	h := &slowly{came: make(chan struct{}, 1), on: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(h.on) })
	defer goOn()
	if err := s.mqtt.AddHook(h, nil); err != nil {
		t.Fatal(err)
	}
	ann := dial(t, addr)
	ann.send(hello{id: "press", user: "ann", password: "x"}.bytes())
	<-h.came
	bob := dial(t, addr)
	bob.send(hello{id: "press", user: "bob", password: "x"}.bytes())
	eventually(t, "bob is not refused", func() bool { return s.refusedBy("client_id") == 1 })
	bob.ended()
	goOn()
	if body := ann.want(0x20); body[1] != 0 {
		t.Errorf("CONNACK %x", body)
	}
	ann.sync()
}

// Sockets that do not say who they are leave in time and are not many.
func TestSilentSockets(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{Connections: 3, ConnectTimeout: 200 * time.Millisecond}})
	in := connect(t, addr, hello{id: "in"})
	silent, half := dial(t, addr), dial(t, addr)
	half.send([]byte{0x10, 20, 0, 4})
	dial(t, addr).ended() // the fourth
	if n := s.cutBy("connections"); n != 1 {
		t.Errorf("%d sockets were too many", n)
	}
	silent.ended()
	half.ended()
	eventually(t, "silent sockets are not counted", func() bool { return s.cutBy("connect_timeout") == 2 })
	in.sync() // who said so stays
	connect(t, addr, hello{id: "next"})
}

// What a header promises is not made room for: before CONNECT little may come,
// after it the largest packet of the configuration.
func TestPacketSize(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{MaxPacketBytes: 1 << 20}})
	for _, header := range []string{"\x10\xff\xff\xff\x7f", "\x10\x81\x80\x10", "\x10\xff\xff\xff\xff\x7f", "\x30\xff\xff\xff\x7f"} {
		c := dial(t, addr)
		for _, b := range []byte(header) { // as the network may bring them
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
		}
		c.ended()
	}
	eventually(t, "large first packets are not counted", func() bool { return s.cutBy("packet_size") == 4 })
	c := connect(t, addr, hello{id: "c"})
	c.send(packet(0x32, "a", 1, make([]byte, 1<<20-100)))
	c.want(0x40)
	c.send([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	c.ended()
	eventually(t, "the large packet is not counted", func() bool { return s.cutBy("packet_size") == 5 })
}

// An MQTT 5 session that expired takes its subscriptions with it.
func TestExpiredSessionLeaves(t *testing.T) {
	s, addr := start(t, Config{})
	c := connect(t, addr, hello{version: 5, id: "c", keep: true, props: []byte{0x11, 0, 0, 0, 1}})
	c.send(packet(0x82, 1, byte(0), "a/b", byte(1)))
	c.want(0x90)
	c.send(packet(0xe0))
	c.ended()
	eventually(t, "the session does not expire", func() bool { _, ok := s.mqtt.Clients.Get("c"); return !ok })
	if left := s.mqtt.Topics.Subscribers("a/b").Subscriptions; len(left) != 0 {
		t.Errorf("subscribers of a/b: %v", left)
	}
}

// No session is kept for longer than a day, whatever its client asks for when
// it comes or when it goes.
func TestSessionExpiryIsCapped(t *testing.T) {
	s, addr := start(t, Config{})
	c := dial(t, addr)
	c.send(hello{version: 5, id: "c", keep: true, props: []byte{0x11, 0xff, 0xff, 0xff, 0xff}}.bytes())
	day := []byte{0x11, 0, 1, 0x51, 0x80}
	if body := c.want(0x20); !bytes.Contains(body, day) {
		t.Errorf("the client is not told of a day: CONNACK %x", body)
	}
	c.send(packet(0xe0, byte(0), byte(5), []byte{0x11, 0xff, 0xff, 0xff, 0xff}))
	c.ended()
	eventually(t, "the client is still there", func() bool { return s.Clients() == 0 })
	cl, ok := s.mqtt.Clients.Get("c")
	if !ok {
		t.Fatal("the session is gone")
	}
	if n := cl.Properties.Props.SessionExpiryInterval; n != 24*60*60 {
		t.Errorf("the session is kept for %d seconds", n)
	}
	if n := s.mqtt.Options.Capabilities.MaximumSessionExpiryInterval; n != 24*60*60 { // of clients of 3.1.1, who name none
		t.Errorf("sessions are kept for %d seconds", n)
	}
}

// MQTT 3.1 is told apart and refused in its own words.
func TestOldProtocolIsRefused(t *testing.T) {
	s, addr := start(t, Config{})
	c := dial(t, addr)
	c.send(packet(0x10, "MQIsdp", byte(3), byte(2), 60, "old"))
	if body := c.want(0x20); !bytes.Equal(body, []byte{0, 1}) { // unacceptable protocol version
		t.Errorf("CONNACK %x", body)
	}
	c.ended()
	eventually(t, "not counted", func() bool { return s.cutBy("protocol") == 1 })
}

// One and a half times the keep-alive must fit 16 bits.
func TestKeepAliveOverflow(t *testing.T) {
	_, addr := start(t, Config{})
	for _, keepalive := range []int{43690, 43691, 65535} {
		connect(t, addr, hello{id: "c", keepalive: keepalive}).sync()
		c := dial(t, addr)
		c.send(hello{version: 5, id: "d", keepalive: keepalive}.bytes())
		told := bytes.Contains(c.want(0x20), []byte{0x13, 0xaa, 0xaa})
		if told != (keepalive > 43690) {
			t.Errorf("keep-alive %d: the client is told to take 43690: %v", keepalive, told)
		}
		c.sync()
	}
}

// A retained message stays, however old, unless its publisher named a time.
func TestRetainedStays(t *testing.T) {
	s, addr := start(t, Config{})
	c := connect(t, addr, hello{version: 5, id: "c"})
	c.send(packet(0x31, "old", byte(0), []byte("x")), packet(0x31, "brief", byte(5), []byte{2, 0, 0, 0, 1}, []byte("x")))
	c.sync()
	for topic, pk := range s.mqtt.Topics.Retained.GetAll() {
		if topic == "old" {
			pk.Created -= int64((10 * 365 * 24 * time.Hour).Seconds())
			s.mqtt.Topics.Retained.Add(topic, pk)
		}
	}
	eventually(t, "the brief message does not expire", func() bool { _, ok := s.mqtt.Topics.Retained.Get("brief"); return !ok })
	c.send(packet(0x82, 1, byte(0), "old", byte(0)))
	c.want(0x90)
	if got := c.want(0x31); !bytes.Equal(got, []byte("\x00\x03old\x00x")) {
		t.Errorf("the retained message: %q", got) // and no expiry that nobody asked for
	}
}

// A client's own packet ids do not name messages that wait for its
// acknowledgement.
func TestPacketIDsOfTwoDirections(t *testing.T) {
	s, addr := start(t, Config{})
	h := hello{id: "c", keep: true}
	c := connect(t, addr, h)
	c.subscribe("orders", 1)
	if err := s.Publish("orders", []byte("1"), 1, false); err != nil {
		t.Fatal(err)
	}
	order := c.want(0x32)
	id := order[8:10]
	c.send(packet(0x32, "own", id, []byte("x")))
	if got := c.want(0x40); !bytes.Equal(got, id) {
		t.Errorf("PUBACK %x, want %x", got, id)
	}
	c.send(packet(0x82, id, "more", byte(1)))
	if got := c.want(0x90); !bytes.Equal(got, slices.Concat(id, []byte{1})) {
		t.Errorf("SUBACK %x", got)
	}
	c.send(packet(0xa2, id, "more"))
	if got := c.want(0xb0); !bytes.Equal(got, id) {
		t.Errorf("UNSUBACK %x", got)
	}
	c.Close()
	c = dial(t, addr)
	c.send(h.bytes())
	c.want(0x20)
	if again := c.want(0x3a); !bytes.Equal(again, order) {
		t.Errorf("the order comes again as %q", again)
	}
}

// The connection of a client that sends no MQTT ends, counted.
func TestProtocolError(t *testing.T) {
	s, addr := start(t, Config{})
	dial(t, addr).send([]byte("GET / HTTP/1.1\r\n\r\n"))
	c := connect(t, addr, hello{id: "c"})
	c.send([]byte{0x36, 5, 0, 1, 'a', 0, 1})
	c.ended()
	eventually(t, "not counted", func() bool { return s.cutBy("protocol") == 2 })
}
