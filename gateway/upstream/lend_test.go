package upstream_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"edgegateway/gateway/upstream"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// heard is what a part of the program hears over a lent connection.
type heard struct {
	mu  sync.Mutex
	got map[string]int
}

func (h *heard) take(m link.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got[m.Topic+" "+string(m.Payload)]++
}

func (h *heard) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got[text] > 0
}

// poll waits for what no message tells.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

func up(t *testing.T, l *upstream.Lent) {
	t.Helper()
	select {
	case <-l.Up():
	case <-time.After(20 * time.Second):
		t.Fatal("the link does not come")
	}
}

// A part of the program uses the link's connection beside the results: it hears
// what it listens to over each connection, gets what is retained, sends with
// the topic as it stands, and is told when there is no link.
func TestLent(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	all := &heard{got: map[string]int{}}
	if err := c.conn.Subscribe(t.Context(), []string{"fl/#"}, 1, all.take); err != nil {
		t.Fatal(err)
	}
	c.publish(link.Msg{Topic: "fl/a/task", Payload: []byte("task"), QoS: 1, Retain: true},
		link.Msg{Topic: "fl/a/model/x/0", Payload: []byte("weights"), QoS: 1, Retain: true})
	proxy := testkit.NewProxy(t, addr)
	proxy.Stall()
	cfg := quick("tcp://" + proxy.Addr())
	cfg.RetryMax, cfg.Rate = cfg.RetryMin, 200
	o, b, _ := start(t, t.TempDir(), cfg, nil)
	one, two := b.Lend(), b.Lend()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	first, second := &heard{got: map[string]int{}}, &heard{got: map[string]int{}}
	if err := one.Subscribe(t.Context(), []string{"fl/+/task"}, first.take); err != nil { // before there is a link
		t.Fatal(err)
	}
	if err := one.Publish(t.Context(), link.Msg{Topic: "fl/a/from/g/hello"}); err == nil {
		t.Error("sent without a link")
	}
	proxy.Resume()
	up(t, one)
	up(t, two)
	if err := two.Subscribe(ctx, []string{"fl/a/to/g"}, second.take); err != nil {
		t.Fatal(err)
	}
	if b, err := two.Get(t.Context(), "fl/a/model/x/0"); err != nil || string(b) != "weights" {
		t.Errorf("%q, %v", b, err)
	}
	if err := fill(o, 200); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := one.Publish(t.Context(), link.Msg{Topic: "fl/a/from/g/update", Payload: []byte("moved")}); err != nil {
			t.Error(err)
		}
	}
	poll(t, "what was sent", func() bool { return all.has("fl/a/from/g/update moved") })
	c.waitResults(200)
	if err := one.Publish(t.Context(), link.Msg{Topic: "fl/a/from/g/update", Payload: make([]byte, 2<<20)}); err == nil || !strings.Contains(err.Error(), "max_payload_bytes") {
		t.Errorf("a message over the bound: %v", err)
	}
	proxy.Cut()
	poll(t, "end of the link", func() bool { return !b.Status().Connected })
	proxy.Resume()
	up(t, one)
	up(t, two)
	c.publish(link.Msg{Topic: "fl/a/to/g", Payload: []byte("call"), QoS: 1, Retain: true}, link.Msg{Topic: "fl/b/task", Payload: []byte("another"), QoS: 1})
	poll(t, "message for both after the cut", func() bool {
		return first.has("fl/a/task task") && first.has("fl/b/task another") && second.has("fl/a/to/g call")
	})
	leave()
	two.Return()
	c.publish(link.Msg{Topic: "fl/a/to/g", Payload: []byte("late"), QoS: 1}, link.Msg{Topic: "fl/c/task", Payload: []byte("end"), QoS: 1})
	poll(t, "message for the one that stays", func() bool { return first.has("fl/c/task end") })
	if second.has("fl/a/to/g late") {
		t.Error("who left hears yet")
	}
}

// A cloud that ends the link at what another part listens to, or sends, costs
// no result: it is left out after two links.
func TestLentUnwelcome(t *testing.T) {
	for name, sends := range map[string]bool{"listening": false, "sending": true} {
		t.Run(name, func(t *testing.T) {
			c := listener(t)
			addr := testkit.FreeAddr(t)
			m := &mortal{take: c.take, end: func(topic string) bool { return strings.HasPrefix(topic, "fl/") }}
			m.start(t, addr)
			cfg := quick("tcp://" + addr)
			cfg.RetryMax = cfg.RetryMin
			o, b, _ := start(t, t.TempDir(), cfg, nil)
			l := b.Lend()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if sends {
				go func() {
					for ctx.Err() == nil {
						select {
						case <-l.Up():
							_ = l.Publish(ctx, link.Msg{Topic: "fl/a/from/g/hello"})
						case <-ctx.Done():
						}
					}
				}()
			} else if err := l.Subscribe(ctx, []string{"fl/+/task"}, func(link.Msg) {}); err != nil {
				t.Fatal(err)
			}
			if err := fill(o, 300); err != nil {
				t.Fatal(err)
			}
			c.waitResults(300)
			waitEmpty(o)
			poll(t, "link that stays", func() bool { return b.Status().Connected && m.connects.Load() >= 3 })
			if n := m.connects.Load(); n > 4 {
				t.Errorf("%d connections", n)
			}
		})
	}
}
