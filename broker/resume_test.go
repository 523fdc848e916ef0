package broker

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A session whose client comes and goes while others publish loses nothing,
// and gets each publisher's messages in order: what is new comes behind what
// the client missed. Repetitions are QoS 1's.
func TestResume(t *testing.T) {
	const publishers, n = 3, 400
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience, Inflight: 65535}})
	h := hello{version: 5, id: "sub", keep: true, props: []byte{0x11, 0, 0, 1, 0}}
	sub := connect(t, addr, h)
	sub.send(packet(0x82, 1, byte(0), "burst/#", byte(1)))
	sub.want(0x90)
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for i := range n {
				if err := s.Publish(fmt.Sprint("burst/", p), []byte(strconv.Itoa(i)), 1, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	next := map[string]int{}
	complete := func() bool {
		for p := range publishers {
			if next[fmt.Sprint("burst/", p)] < n {
				return false
			}
		}
		return true
	}
	for round := 0; !complete(); round++ {
		last := map[string]int{}
		read := 1 + round*7%40
		select {
		case <-done:
			read = publishers * n * 2
		default:
		}
		for range read {
			topic, payload := sub.payload(true)
			got, err := strconv.Atoi(payload)
			if err != nil {
				t.Fatal(err)
			}
			if got > next[topic] {
				t.Fatalf("connection %d, %s: %d comes, %d is due", round, topic, got, next[topic])
			}
			if before, ok := last[topic]; ok && got < before {
				t.Fatalf("connection %d, %s: %d comes behind %d", round, topic, got, before)
			}
			last[topic] = got
			next[topic] = max(next[topic], got+1)
			if complete() {
				break
			}
		}
		sub.Close()
		sub = dial(t, addr)
		sub.send(h.bytes())
		if body := sub.want(0x20); body[0] != 1 {
			t.Fatalf("CONNACK %x: no session", body)
		}
	}
	for _, reason := range []string{"queue_full", "slow_subscriber", "session_full", "too_large"} {
		if got := s.droppedBy(reason); got != 0 {
			t.Errorf("%d dropped: %s", got, reason)
		}
	}
}

// Subscribers with wildcards read the retained messages while others set and
// clear them.
func TestRetainedAtOnce(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	stop := make(chan struct{})
	var all sync.WaitGroup
	for p := range 2 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Publish(fmt.Sprint("state/", p), []byte("on")[:2*(i%2)], 0, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	c := connect(t, addr, hello{id: "sub"})
	for range 3000 {
		c.send(packet(0x82, 77, "+/+", byte(0)))
	}
	for answers := 0; answers < 3000; {
		first, _, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0x90 {
			answers++
		}
	}
	close(stop)
	all.Wait()
}

// What waited for a session comes in its order and in the window that its
// client names; what the client does not take is dropped, counted, and ends no
// connection.
func TestResumeKeepsToWindow(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: patience}})
	sub := connect(t, addr, hello{version: 5, id: "sub", keep: true, props: []byte{0x11, 0, 0, 1, 0}})
	sub.send(packet(0x82, 1, byte(0), "a", byte(1)))
	sub.want(0x90)
	sub.Close()
	eventually(t, "the client is still there", func() bool { return s.Clients() == 0 })
	for i := range 20 {
		payload := []byte{byte(i)}
		if i == 5 {
			payload = make([]byte, 200)
		}
		if err := s.Publish("a", payload, 1, false); err != nil {
			t.Fatal(err)
		}
	}
	sub = dial(t, addr) // Receive Maximum 3, Maximum Packet Size 100
	sub.send(hello{version: 5, id: "sub", keep: true, props: []byte{0x21, 0, 3, 0x27, 0, 0, 0, 100, 0x11, 0, 0, 1, 0}}.bytes())
	if body := sub.want(0x20); body[0] != 1 {
		t.Fatalf("CONNACK %x: no session", body)
	}
	var ids [][]byte
	for want := byte(0); want < 20; want++ {
		if want == 5 {
			continue
		}
		if len(ids) == 3 {
			sub.sync() // nothing between: the window is closed
			sub.send(packet(0x40, ids[0]))
			ids = ids[1:]
		}
		body := sub.want(0x3a)
		if got := body[len(body)-1]; got != want {
			t.Fatalf("%d comes, %d is due", got, want)
		}
		ids = append(ids, body[3:5])
	}
	sub.sync()
	if got := s.droppedBy("too_large"); got != 1 {
		t.Errorf("%d dropped as too large", got)
	}
}

// A client that comes back and acknowledges nothing holds publishers up once,
// and is cut; its session keeps all.
func TestStuckAfterResumeIsCut(t *testing.T) {
	s, addr := start(t, Config{Limits: LimitsConfig{WriteTimeout: 50 * time.Millisecond, Inflight: 65535}})
	h := hello{version: 5, id: "sub", keep: true, props: []byte{0x21, 0, 2, 0x11, 0, 0, 1, 0}}
	sub := connect(t, addr, h)
	sub.send(packet(0x82, 1, byte(0), "a", byte(1)))
	sub.want(0x90)
	sub.Close()
	eventually(t, "the client is still there", func() bool { return s.Clients() == 0 })
	n := 0
	publish := func() {
		if err := s.Publish("a", []byte(strconv.Itoa(n)), 1, false); err != nil {
			t.Fatal(err)
		}
		n++
	}
	for range 500 {
		publish()
	}
	sub = dial(t, addr)
	sub.send(h.bytes())
	sub.want(0x20)
	for s.cutBy("slow_subscriber") == 0 {
		publish()
	}
	sub.ended()
	sub = dial(t, addr)
	sub.send(h.bytes())
	sub.want(0x20)
	for i := range n {
		if _, got := sub.payload(true); got != strconv.Itoa(i) {
			t.Fatalf("%s comes, %d is due", got, i)
		}
	}
}

// A will that waits is retained, like one that does not.
func TestWillThatWaitsIsRetained(t *testing.T) {
	s, addr := start(t, Config{})
	for delay := range byte(2) {
		topic := fmt.Sprint("wills/", delay)
		c := dial(t, addr) // will flag and will retain; Session Expiry Interval; Will Delay Interval
		c.send(packet(0x10, "MQTT", byte(5), byte(0x24), 0, byte(5), []byte{0x11, 0, 0, 1, 0}, fmt.Sprint("c", delay), byte(5), []byte{0x18, 0, 0, 0, delay}, topic, "gone"))
		c.want(0x20)
		c.Close()
		eventually(t, "no will at "+topic, func() bool { _, ok := s.mqtt.Topics.Retained.Get(topic); return ok })
	}
	late := connect(t, addr, hello{id: "late"})
	late.subscribe("wills/+", 0)
	for range 2 {
		late.want(0x31)
	}
}
