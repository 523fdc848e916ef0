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
		sub = comeBack(t, addr, h)
	}
	for _, reason := range []string{"queue_full", "slow_subscriber", "session_full", "too_large"} {
		if got := s.droppedBy(reason); got != 0 {
			t.Errorf("%d dropped: %s", got, reason)
		}
	}
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
	// Receive Maximum 3, Maximum Packet Size 100.
	sub = comeBack(t, addr, hello{version: 5, id: "sub", keep: true, props: []byte{0x21, 0, 3, 0x27, 0, 0, 0, 100, 0x11, 0, 0, 1, 0}})
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
	publish := numbered(t, s, &n)
	for range 500 {
		publish()
	}
	sub = comeBack(t, addr, h)
	for s.cutBy("slow_subscriber") == 0 {
		publish()
	}
	sub.ended()
	sub = comeBack(t, addr, h)
	for i := range n {
		if _, got := sub.payload(true); got != strconv.Itoa(i) {
			t.Fatalf("%s comes, %d is due", got, i)
		}
	}
}
