package upstream_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/upstream"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// A record leaves the outbox with the cloud's PUBACK and not sooner: a cloud
// that has it and does not say so gets it again, also after a restart.
func TestWithheldAcknowledgements(t *testing.T) {
	c := listener(t)
	addr, dir := testkit.FreeAddr(t), t.TempDir()
	m := &mortal{take: c.take}
	m.withhold.Store(true)
	m.start(t, addr)
	cfg := quick("tcp://" + addr)
	cfg.Timeout = 300 * time.Millisecond
	o, b, stop := start(t, dir, cfg, nil)
	if err := fill(o, 100); err != nil {
		t.Fatal(err)
	}
	c.waitResults(100)
	c.wait("second round", func() bool { return c.dups >= 1 }) // so the first one's time is over
	if _, r := o.Pending(); r != 100 || b.Status().Acked != 0 {
		t.Errorf("%d wait, %d acknowledged; the cloud acknowledged nothing", r, b.Status().Acked)
	}
	stop()
	o, _, _ = start(t, dir, cfg, nil)
	if _, r := o.Pending(); r != 100 {
		t.Errorf("%d wait after a restart", r)
	}
	m.withhold.Store(false)
	waitEmpty(o)
}

// given is how many records were dropped for a reason.
func given(t *testing.T, reg *prometheus.Registry, class, reason string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "edgegateway_upstream_dropped_total" && labels["class"] == class && labels["reason"] == reason {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// A cloud that ends the link at a long packet, as mosquitto does over its
// max_packet_size, blocks nothing for ever: the record is given up, counted,
// and what stands before and behind it arrives, in order.
func TestTooLongForTheCloud(t *testing.T) {
	for name, at := range map[string]int{"behind others": 300, "the first of all": 0} {
		t.Run(name, func(t *testing.T) {
			addr := testkit.Mosquitto(t, unbounded+"\nmax_packet_size 3000")
			c := newCloud(t, link.Config{URL: "tcp://" + addr})
			cfg := quick("tcp://" + addr)
			cfg.RetryMax = cfg.RetryMin
			dir := t.TempDir()
			o, err := upstream.OpenOutbox(dir, cfg, nop, nil)
			if err != nil {
				t.Fatal(err)
			}
			long := func(class upstream.Class) upstream.Record {
				return upstream.Record{Class: class, Stream: "porch", Topic: "alerts/somebody/porch/picture", Payload: make([]byte, 4000)}
			}
			short := upstream.Record{Class: upstream.Alerts, Stream: "porch", Topic: "alerts/somebody/porch", Payload: []byte(`{"state":"raised"}`)}
			if at == 0 {
				err = o.Append(long(upstream.Results), long(upstream.Alerts), short)
			} else {
				err = o.Append(short, long(upstream.Alerts), short)
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range 600 {
				if i == at && at > 0 {
					if err := o.Append(long(upstream.Results)); err != nil {
						t.Fatal(err)
					}
				}
				if err := o.Append(record("s0", i)); err != nil {
					t.Fatal(err)
				}
			}
			o.Close()
			reg := prometheus.NewRegistry()
			o, b, _ := startWith(t, dir, cfg, nil, nop, reg)
			c.waitResults(600)
			waitEmpty(o)
			if a, r := given(t, reg, "alerts", "refused"), given(t, reg, "results", "refused"); a != 1 || r != 1 {
				t.Errorf("%v alerts and %v results given up", a, r)
			}
			if st := b.Status(); !st.Connected {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A cloud that lets the gateway in and ends the link at each result is met
// with the back-off, one try each time, and costs no result for a long while.
func TestCloudRefusesResults(t *testing.T) {
	c := listener(t)
	m := &mortal{take: c.take, allow: func(topic string, write bool) bool { return !write || !strings.Contains(topic, "/results/") }}
	addr := testkit.FreeAddr(t)
	m.start(t, addr)
	cfg := quick("tcp://" + addr)
	cfg.RetryMin, cfg.RetryMax = time.Hour, time.Hour // the test makes it try
	o, b, _ := start(t, t.TempDir(), cfg, nil)
	if err := fill(o, 100); err != nil {
		t.Fatal(err)
	}
	const tries = 10
	for i := range int32(tries) {
		for st := b.Status(); m.connects.Load() != i+1 || st.Connected || st.LastError == ""; st = b.Status() {
			if m.connects.Load() > i+1 {
				t.Fatalf("%d connections after %d tries", m.connects.Load(), i+1)
			}
			time.Sleep(time.Millisecond)
		}
		if err := b.Reload(cfg); err != nil {
			t.Fatal(err)
		}
	}
	if _, r := o.Pending(); r != 100 {
		t.Errorf("%d wait", r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) != 0 {
		t.Errorf("%d arrived", len(c.seen))
	}
}

// Birth and will are retained: who comes later sees how it stands.
func TestStatusRetained(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	proxy := testkit.NewProxy(t, addr)
	cfg := quick("tcp://" + proxy.Addr())
	_, b, stop := start(t, t.TempDir(), cfg, nil)
	later := func(want string) {
		t.Helper()
		late := newCloud(t, link.Config{URL: "tcp://" + addr})
		if m := late.waitMsg("gateways/hall-7/status", want); !m.Retain {
			t.Errorf("%s is not retained", m.Payload)
		}
		late.conn.Close()
	}
	for !b.Status().Connected {
		time.Sleep(time.Millisecond)
	}
	later(`"online":true`)
	watch := newCloud(t, link.Config{URL: "tcp://" + addr})
	proxy.Cut()
	watch.waitMsg("gateways/hall-7/status", "lost")
	watch.conn.Close()
	later(`"reason":"the connection was lost"`)
	proxy.Resume()
	for !b.Status().Connected {
		time.Sleep(time.Millisecond)
	}
	later(`"online":true`)
	stop()
	later(`"reason":"stopped"`)
}

// A cloud that does not let the gateway subscribe to commands gets results
// all the same; commands: false does not even ask.
func TestNoCommands(t *testing.T) {
	c := listener(t)
	asked := make(chan string, 100)
	m := &mortal{take: c.take, allow: func(topic string, write bool) bool {
		if !write {
			asked <- topic
		}
		return write
	}}
	addr := testkit.FreeAddr(t)
	m.start(t, addr)
	cfg := quick("tcp://" + addr)
	handle := func(context.Context, string, []byte) ([]byte, error) { return nil, nil }
	o, b, _ := start(t, t.TempDir(), cfg, handle)
	if err := fill(o, 100); err != nil {
		t.Fatal(err)
	}
	c.waitResults(100)
	if topic := <-asked; topic != "gateways/hall-7/commands/#" {
		t.Errorf("asked for %s", topic)
	}
	cfg.Commands = false
	if err := b.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	c.waitMsg("gateways/hall-7/status", "stopped")
	c.waitMsg("gateways/hall-7/status", `"online":true`)
	waitEmpty(o)
	if len(asked) > 0 {
		t.Errorf("asked for %s", <-asked)
	}
}

// Commands that come faster than they are done, that are no JSON, or whose
// replies are too long: each is answered, and results go up meanwhile.
func TestManyCommands(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	cfg := quick("tcp://" + addr)
	cfg.MaxPayloadBytes = 1000
	release := make(chan struct{})
	o, _, _ := start(t, t.TempDir(), cfg, func(_ context.Context, name string, _ []byte) ([]byte, error) {
		switch name {
		case "slow":
			<-release
		case "long":
			return fmt.Appendf(nil, "%q", strings.Repeat("x", 2000)), nil
		}
		return []byte("{}"), nil
	})
	c.waitMsg("gateways/hall-7/status", `"online":true`)
	send := func(name, payload string) {
		t.Helper()
		if err := c.conn.Publish(t.Context(), link.Msg{Topic: "gateways/hall-7/commands/" + name, Payload: []byte(payload), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	const many = 100
	for i := range many {
		send("slow", fmt.Sprintf(`{"id":%d}`, i))
	}
	refused := 0
	for range many - 17 { // one runs, sixteen wait
		if m := c.waitMsg("gateways/hall-7/replies/slow", "ask again"); strings.Contains(string(m.Payload), `"ok":false`) {
			refused++
		}
	}
	if err := fill(o, 500); err != nil {
		t.Fatal(err)
	}
	c.waitResults(500)
	close(release)
	for range 17 {
		c.waitMsg("gateways/hall-7/replies/slow", `"ok":true`)
	}
	if refused != many-17 {
		t.Errorf("%d refused", refused)
	}
	for _, tt := range []struct{ name, payload, reply string }{
		{"long", `{"id":1}`, `{"id":1,"ok":false,"error":"the reply of 2030 bytes is over max_payload_bytes (1000)"}`},
		{"long", `{"id":"` + strings.Repeat("i", 900) + `"}`, `{"ok":false,"error":"the reply of 2023 bytes is over max_payload_bytes (1000)"}`},
		{"x", `{`, `{"ok":true,"result":{}}`},
		{"x", "\xff\x00", `{"ok":true,"result":{}}`},
		{"x", `[1,2]`, `{"ok":true,"result":{}}`},
		{"x", strings.Repeat("[", 100000), `{"ok":true,"result":{}}`},
		{"x", `{"id":null}`, `{"ok":true,"result":{}}`},
		{"x/y/z", `{"id":{"a":1}}`, `{"id":{"a":1},"ok":true,"result":{}}`},
		{"", ``, `{"ok":true,"result":{}}`},
	} {
		send(tt.name, tt.payload)
		if m := c.waitMsg("gateways/hall-7/replies/"+tt.name, ""); string(m.Payload) != tt.reply {
			t.Errorf("reply to %s %.40q is %s", tt.name, tt.payload, m.Payload)
		}
	}
}

// No line of the log holds what an address, a password or its file could
// give away.
func TestSecretsNotLogged(t *testing.T) {
	for _, url := range []string{"ws://%s/mqtt?token=s3cret", "tcp://%s"} {
		addr := testkit.FreeAddr(t)
		m := &mortal{take: func(link.Msg) {}, web: true}
		m.start(t, addr)
		cfg := quick(fmt.Sprintf(url, addr))
		cfg.User, cfg.Password = "hall-7", "s3cret"
		log := new(bytes.Buffer) // read after the bridge ended
		_, b, stop := startWith(t, t.TempDir(), cfg, nil, zerolog.New(log), prometheus.NewRegistry())
		if strings.HasPrefix(url, "ws") {
			for !b.Status().Connected {
				time.Sleep(time.Millisecond)
			}
		} else {
			for b.Status().LastError == "" {
				time.Sleep(time.Millisecond)
			}
		}
		stop()
		if text := log.String() + b.Status().LastError; strings.Contains(text, "s3cret") || !strings.Contains(text, "127.0.0.1") {
			t.Errorf("%s", text)
		}
	}
}
