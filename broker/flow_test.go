package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"edgegateway/internal/testkit"
)

// payload is what follows the topic of a PUBLISH that a client received; the
// packet is acknowledged at QoS 1.
func (c *raw) payload(v5 bool) (topic, payload string) {
	c.t.Helper()
	first, body, err := c.read()
	if err != nil || first&0xf0 != 0x30 {
		c.t.Fatalf("a packet %#x %x, %v; want a PUBLISH", first, body, err)
	}
	n := int(binary.BigEndian.Uint16(body))
	topic, body = string(body[2:2+n]), body[2+n:]
	if first&6 != 0 {
		c.send(packet(0x40, body[:2]))
		body = body[2:]
	}
	if v5 {
		body = body[1+body[0]:]
	}
	return topic, string(body)
}

// burst publishes n messages at each of four clients and the broker itself,
// as fast as it goes.
func burst(t *testing.T, s *Server, addr string, n int) {
	t.Helper()
	var all sync.WaitGroup
	for p := range 4 {
		pub := connect(t, addr, hello{id: fmt.Sprint("pub", p)})
		topic := fmt.Sprint("burst/", p)
		all.Go(func() {
			for i := range n {
				pub.send(packet(0x32, topic, i+1, []byte(fmt.Sprint(i))))
			}
		})
		all.Go(func() {
			for range n {
				pub.want(0x40)
			}
		})
	}
	all.Go(func() {
		for i := range n {
			if err := s.Publish("burst/own", []byte(fmt.Sprint(i)), 1, false); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
}

// A QoS 1 subscriber that reads as fast as it can gets everything, in the
// order of each publisher, whatever window it names, and no more than that at
// a time.
func TestQoS1SubscriberGetsAll(t *testing.T) {
	const n = 4000
	for name, h := range map[string]hello{
		"3.1.1":                   {},
		"5":                       {version: 5},
		"5, Receive Maximum 20":   {version: 5, props: []byte{0x21, 0, 20}},
		"5, Receive Maximum 1":    {version: 5, props: []byte{0x21, 0, 1}},
		"5, Receive Maximum 1000": {version: 5, props: []byte{0x21, 3, 0xe8}},
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
			h.id = "sub"
			sub := connect(t, addr, h)
			if h.version == 5 {
				sub.send(packet(0x82, 1, byte(0), "burst/#", byte(1)))
				sub.want(0x90)
			} else {
				sub.subscribe("burst/#", 1)
			}
			done := make(chan struct{})
			go func() { defer close(done); burst(t, s, addr, n) }()
			next := map[string]int{}
			for range 5 * n {
				topic, payload := sub.payload(h.version == 5)
				if payload != fmt.Sprint(next[topic]) {
					t.Fatalf("%s: %s comes, %d is due", topic, payload, next[topic])
				}
				next[topic]++
			}
			<-done
			for _, reason := range []string{"queue_full", "slow_subscriber", "session_full", "too_large"} {
				if got := s.droppedBy(reason); got != 0 {
					t.Errorf("%d dropped: %s", got, reason)
				}
			}
		})
	}
}

// The window that a client names is never exceeded.
func TestReceiveMaximumHolds(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	sub := connect(t, addr, hello{version: 5, id: "sub", props: []byte{0x21, 0, 3}})
	sub.send(packet(0x82, 1, byte(0), "a", byte(1)))
	sub.want(0x90)
	for i := range 50 {
		if err := s.Publish("a", []byte(fmt.Sprint(i)), 1, false); err != nil {
			t.Fatal(err)
		}
	}
	var ids [][]byte
	for i := 0; i < 50; {
		for len(ids) < 3 && i < 50 {
			ids = append(ids, sub.want(0x32)[3:5])
			i++
		}
		sub.sync() // nothing between: the window is closed, and an answer comes all the same
		sub.send(packet(0x40, ids[0]))
		ids = ids[1:]
	}
}

// A session that resumes with messages unacknowledged goes on behind them: the
// library, which looks at the Receive Maximum again then, holds nothing back.
func TestReceiveMaximumAfterResume(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	h := hello{version: 5, id: "sub", keep: true, props: []byte{0x21, 0, 2, 0x11, 0, 0, 1, 0}}
	sub := connect(t, addr, h)
	sub.send(packet(0x82, 1, byte(0), "a", byte(1)))
	sub.want(0x90)
	n := 0
	publish := numbered(t, s, &n)
	publish()
	sub.want(0x32) // and not acknowledged
	sub.Close()
	eventually(t, "the client is still there", func() bool { return s.Clients() == 0 })
	sub = comeBack(t, addr, h)
	for n < 50 {
		publish()
	}
	for n := range 50 {
		if _, got := sub.payload(true); got != fmt.Sprint(n) {
			t.Fatalf("%s comes, %d is due", got, n)
		}
	}
	sub.sync()
}

// Real clients of MQTT 5: mosquitto names a Receive Maximum of 20 by itself.
func TestMosquittoGetsAll(t *testing.T) {
	for _, version := range []string{"mqttv311", "mqttv5"} {
		s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
		host, port, _ := strings.Cut(addr, ":")
		sub := exec.Command(testkit.Program(t, "mosquitto_sub"), "-V", version, "-h", host, "-p", port, "-q", "1", "-t", "burst/#", "-C", "10000", "-F", "%t %p")
		var out bytes.Buffer
		sub.Stdout, sub.Stderr = &out, &out
		if err := sub.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "mosquitto_sub does not subscribe", func() bool { return len(s.mqtt.Topics.Subscribers("burst/x").Subscriptions) == 1 })
		burst(t, s, addr, 2000)
		if err := sub.Wait(); err != nil {
			t.Errorf("%s: %v\n%.300s", version, err, out.String())
		}
		next := map[string]int{}
		for line := range strings.Lines(out.String()) {
			topic, payload, _ := strings.Cut(strings.TrimSpace(line), " ")
			if payload != fmt.Sprint(next[topic]) {
				t.Fatalf("%s %s: %s comes, %d is due", version, topic, payload, next[topic])
			}
			next[topic]++
		}
	}
}

// A QoS 0 subscriber that does not read loses messages, counted, and holds
// nobody up.
func TestQoS0SubscriberLosesCounted(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: time.Hour}})
	slow := connect(t, addr, hello{id: "slow"})
	slow.subscribe("big", 0)
	pub := connect(t, addr, hello{id: "pub"})
	big := packet(0x32, "big", 9, make([]byte, 256<<10))
	for s.droppedBy("slow_subscriber") < 10 {
		pub.send(big)
		pub.want(0x40)
	}
	slow.Close()
}

// A QoS 1 subscriber that acknowledges nothing is cut once somebody waited for
// it; what its session missed is counted, and what it kept comes again.
func TestSlowSubscriberIsCut(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: 50 * time.Millisecond, Inflight: 2000}})
	h := hello{version: 5, id: "slow", keep: true, props: []byte{0x21, 0, 2, 0x11, 0, 0, 1, 0}}
	slow := connect(t, addr, h)
	slow.send(packet(0x82, 1, byte(0), "a", byte(1)))
	slow.want(0x90)
	n := 0
	publish := numbered(t, s, &n)
	for s.cutBy("slow_subscriber") == 0 {
		publish()
	}
	slow.ended()
	for s.droppedBy("session_full") < 10 {
		publish()
	}
	slow = comeBack(t, addr, h)
	seen := map[string]bool{}
	for range 2000 {
		_, payload := slow.payload(true)
		seen[payload] = true
	}
	slow.sync()
	if lost := n - len(seen); lost != s.droppedBy("session_full") {
		t.Errorf("%d published, %d come again, %d counted as dropped", n, len(seen), s.droppedBy("session_full"))
	}
}

// Clients that publish to themselves and to each other see no acknowledgement
// while they are waited for: nothing waits for itself.
func TestNoWaitInACircle(t *testing.T) {
	const n = 5000
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience, Inflight: 16}})
	clients := map[string]*raw{}
	for _, name := range []string{"a", "b"} {
		clients[name] = connect(t, addr, hello{id: name})
		clients[name].subscribe("ring/#", 1)
	}
	var all sync.WaitGroup
	for name, c := range clients {
		all.Go(func() {
			for i := range n {
				c.send(packet(0x32, "ring/"+name, i+1, []byte("x")))
			}
		})
		all.Go(func() {
			for acks, msgs := 0, 0; acks < n || msgs < 2*n; {
				first, body, err := c.read()
				switch {
				case err != nil:
					t.Errorf("%s, after %d acknowledgements and %d messages: %v", name, acks, msgs, err)
					return
				case first == 0x40:
					acks++
				default:
					msgs++
					c.send(packet(0x40, body[8:10]))
				}
			}
		})
	}
	all.Wait()
	if got := s.droppedBy("queue_full"); got != 0 {
		t.Error(got, "dropped")
	}
}

// A QoS 2 message that is sent twice goes on once, to taps and subscribers,
// and the window of a QoS 2 subscriber opens again.
func TestQoS2(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	var tapped atomic.Int32
	if _, err := s.Tap([]string{"a"}, func(m Message) { tapped.Add(int32(m.QoS)) }); err != nil {
		t.Fatal(err)
	}
	sub := connect(t, addr, hello{version: 5, id: "sub", props: []byte{0x21, 0, 1}})
	sub.send(packet(0x82, 1, byte(0), "a", byte(2)))
	sub.want(0x90)
	pub := connect(t, addr, hello{id: "pub"})
	for id := 1; id <= 10; id++ {
		pub.send(packet(0x34, "a", id, []byte("x")), packet(0x3c, "a", id, []byte("x")))
		for range 2 {
			if body := pub.want(0x50); body[1] != byte(id) {
				t.Errorf("PUBREC %x", body)
			}
		}
		pub.send(packet(0x62, id))
		pub.want(0x70)
	}
	for range 10 {
		id := sub.want(0x34)[3:5]
		sub.send(packet(0x50, id))
		sub.want(0x62)
		sub.sync() // nothing more before the end of this one
		sub.send(packet(0x70, id))
	}
	sub.sync()
	if n := tapped.Load(); n != 20 {
		t.Errorf("the tap saw %d / 2 messages", n)
	}
	program := testkit.Program(t, "mosquitto_pub")
	_, port, _ := strings.Cut(addr, ":")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		if out, err := exec.Command(program, "-V", version, "-p", port, "-q", "2", "-t", "b", "-m", "x").CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", version, err, out)
		}
	}
}

// A message that a client said it is too small for is not sent, and takes no
// place in its window.
func TestTooLargeForTheClient(t *testing.T) {
	s, addr := start(t, Config{})
	sub := connect(t, addr, hello{version: 5, id: "sub", props: []byte{0x21, 0, 1, 0x27, 0, 0, 0, 50}})
	sub.send(packet(0x82, 1, byte(0), "a", byte(1)))
	sub.want(0x90)
	for _, payload := range []string{"1", strings.Repeat("x", 100), strings.Repeat("y", 100), "2"} {
		if err := s.Publish("a", []byte(payload), 1, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"1", "2"} {
		if _, got := sub.payload(true); got != want {
			t.Errorf("%q comes, want %q", got, want)
		}
	}
	if n := s.droppedBy("too_large"); n != 2 {
		t.Errorf("%d counted", n)
	}
}

// All that is retained comes to a new subscriber, however much it is.
func TestAllRetainedCome(t *testing.T) {
	const n = 5000
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	for i := range n {
		if err := s.Publish(fmt.Sprint("r/", i), []byte("x"), 1, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, qos := range []byte{0, 1} {
		c := connect(t, addr, hello{id: "c"})
		c.subscribe("r/#", qos)
		seen := map[string]bool{}
		for range n {
			topic, _ := c.payload(false)
			seen[topic] = true
		}
		if len(seen) != n {
			t.Errorf("QoS %d: %d of %d topics", qos, len(seen), n)
		}
		c.Close()
	}
}

// A client that goes and comes back at once, under its id, has what it
// subscribes to then: the library clears up behind the old connection by the
// id. Messages are under way to the old one, which makes it slow to end.
func TestBackAtOnce(t *testing.T) {
	s, addr := start(t, Config{})
	noise := make(chan struct{}, 1) // a burst for each client, no endless loop: it may have the only processor
	var busy sync.WaitGroup
	busy.Go(func() {
		for range noise {
			for range 200 {
				s.Publish("noise", make([]byte, 2000), 1, false)
			}
		}
	})
	defer busy.Wait()
	defer close(noise)
	for round := range 400 {
		c := connect(t, addr, hello{id: "panel"})
		c.send(packet(0x82, 77, "mine", byte(1)), packet(0x82, 78, "noise", byte(0)))
		for { // what was on its way to the one before may come first
			if first, _, err := c.read(); err != nil {
				t.Fatalf("round %d: %v", round, err)
			} else if first == 0x90 {
				break
			}
		}
		select {
		case noise <- struct{}{}:
		default:
		}
		// Beside the reading: it waits for this client where its queue is full.
		busy.Go(func() {
			if err := s.Publish("mine", []byte{byte(round)}, 1, false); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
		for {
			first, body, err := c.read()
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if first>>4 == 3 && bytes.Contains(body, []byte("mine")) {
				break
			}
		}
		switch round % 3 {
		case 0:
			c.send(packet(0xe0))
		case 1:
			c.Conn.Close()
		} // else it is taken over
	}
}

// greeter publishes while the library is about to write a CONNACK.
type greeter struct {
	mqtt.HookBase
	s    *Server
	came chan struct{} // closed when the client has something
}

func (g *greeter) ID() string           { return "greeter" }
func (g *greeter) Provides(b byte) bool { return b == mqtt.OnPacketEncode }

func (g *greeter) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.SessionPresent {
		g.s.Publish("news", []byte("early"), 0, false)
		select { // what would be wrong comes at once, what is right not before this ends
		case <-g.came:
		case <-time.After(200 * time.Millisecond):
		}
	}
	return pk
}

// The first that a client gets is its CONNACK, also where its session has a
// message for it already.
func TestNothingBeforeTheConnack(t *testing.T) {
	s, addr := start(t, Config{})
	h := hello{id: "panel", keep: true}
	c := connect(t, addr, h)
	if code := c.subscribe("news", 0); code != 0 {
		t.Fatalf("SUBACK %#x", code)
	}
	c.Close()
	g := &greeter{s: s, came: make(chan struct{})}
	if err := s.mqtt.AddHook(g, nil); err != nil {
		t.Fatal(err)
	}
	c = dial(t, addr)
	c.send(h.bytes())
	first, _, err := c.read()
	close(g.came)
	if err != nil || first != 0x20 {
		t.Fatalf("a packet %#x, %v comes first", first, err)
	}
	if body := c.want(0x30); !bytes.HasSuffix(body, []byte("early")) {
		t.Errorf("got %x", body)
	}
}

// As many messages as the configuration allows are unacknowledged at a client
// that names no bound of its own; the next comes with an acknowledgement.
func TestInflightWindow(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{Inflight: 2}})
	c := connect(t, addr, hello{id: "slow"})
	if code := c.subscribe("a", 1); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	c.sync() // its SUBSCRIBE is done with: until then the window is open, for what is retained
	for n := range 4 {
		if err := s.Publish("a", []byte{byte(n)}, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	first := c.want(0x32)
	c.want(0x32)
	c.sync() // a third would come before the answer
	c.send(packet(0x40, first[3:5]))
	if third := c.want(0x32); third[len(third)-1] != 2 {
		t.Errorf("got %x", third)
	}
	c.sync()
}

// A reload that takes a subscription ends the connection: its client learns
// of it when it comes back, and gets nothing until then.
func TestReloadTakesSubscriptions(t *testing.T) {
	cfg := Config{Users: map[string]UserConfig{"ann": {Password: "x", Subscribe: []string{"a/#", "b/#"}}}}
	s, addr := start(t, cfg)
	h := hello{id: "panel", user: "ann", password: "x"}
	c := connect(t, addr, h)
	if code := c.subscribe("a/#", 0); code != 0 {
		t.Fatalf("SUBACK %#x", code)
	}
	next := s.cfg
	next.Users = map[string]UserConfig{"ann": {Password: "x", Subscribe: []string{"b/#"}}}
	if err := s.Reload(next); err != nil {
		t.Fatal(err)
	}
	c.ended()
	eventually(t, "the cut is not counted", func() bool { return s.cutBy("reload") == 1 })
	c = connect(t, addr, h)
	if code := c.subscribe("a/#", 0); code != 0x80 {
		t.Errorf("SUBACK %#x", code)
	}
}
