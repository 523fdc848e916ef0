package upstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/upstream"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// TestMain lets the test run itself as the gateway that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("UPSTREAM_TEST_CHILD"); dir != "" {
		if err := child(dir, os.Getenv("UPSTREAM_TEST_URL")); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func quick(url string) upstream.Config {
	cfg := upstream.DefaultConfig()
	cfg.URL = url
	cfg.Timeout = 2 * time.Second
	cfg.RetryMin, cfg.RetryMax = 20*time.Millisecond, 200*time.Millisecond
	return cfg
}

func record(source string, n int) upstream.Record {
	return upstream.Record{
		Class: upstream.Results, Stream: "host", Topic: "results/host/" + source,
		Payload: fmt.Appendf(nil, `{"id":"host/%s/1-%d","seq":%d,"values":[%s]}`, source, n, n, strings.Repeat("0.5,", 40)+"1"),
	}
}

const sources = 8

var nop = zerolog.Nop()

// unbounded keeps mosquitto from dropping what its subscriber is slow to take.
const unbounded = "max_queued_messages 0"

// fill puts n records of several sources in line.
func fill(o *upstream.Outbox, n int) error {
	for i := 0; i < n; i += 200 {
		var recs []upstream.Record
		for j := i; j < min(i+200, n); j++ {
			recs = append(recs, record(fmt.Sprint("s", j%sources), j/sources))
		}
		if err := o.Append(recs...); err != nil {
			return err
		}
	}
	return nil
}

// cloud is who subscribes at the cloud broker.
type cloud struct {
	t    testing.TB
	conn *link.Conn
	mu   sync.Mutex
	cond *sync.Cond
	last map[string]int // by topic, the highest seq
	seen map[string][]byte
	dups int
	msgs []link.Msg // what is no result
	// beforeAlert is how many results had come when the last alert came.
	beforeAlert int
}

// listener is a cloud to which something else brings what arrives.
func listener(t testing.TB) *cloud {
	c := &cloud{t: t, last: map[string]int{}, seen: map[string][]byte{}}
	c.cond = sync.NewCond(&c.mu)
	return c
}

func newCloud(t testing.TB, cfg link.Config) *cloud {
	t.Helper()
	c := listener(t)
	cfg.ClientID = "cloud"
	conn, err := link.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c.conn = conn
	if err := conn.Subscribe(t.Context(), []string{"gateways/#"}, 1, c.take); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cloud) take(m link.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.cond.Broadcast()
	if !strings.Contains(m.Topic, "/results/") {
		if strings.Contains(m.Topic, "/alerts/") {
			c.beforeAlert = len(c.seen)
		}
		c.msgs = append(c.msgs, m)
		return
	}
	var r struct {
		ID  string
		Seq int
	}
	if err := json.Unmarshal(m.Payload, &r); err != nil {
		c.t.Errorf("%s: %v", m.Topic, err)
		return
	}
	if before, ok := c.seen[r.ID]; ok {
		c.dups++
		if !bytes.Equal(before, m.Payload) {
			c.t.Errorf("%s came again with another payload", r.ID)
		}
		return
	}
	c.seen[r.ID] = m.Payload
	if last, ok := c.last[m.Topic]; ok && r.Seq != last+1 || !ok && r.Seq != 0 {
		c.t.Errorf("%s: %d after %d", m.Topic, r.Seq, last)
	}
	c.last[m.Topic] = r.Seq
}

// wait returns when ok does, which may look at all of c.
func (c *cloud) wait(what string, ok func() bool) {
	c.t.Helper()
	late := time.AfterFunc(60*time.Second, func() { c.mu.Lock(); defer c.mu.Unlock(); c.t = nil; c.cond.Broadcast() })
	defer late.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.t
	for !ok() {
		if c.cond.Wait(); c.t == nil {
			c.t = t
			t.Fatalf("no %s within a minute; %d results, %d duplicates, %v", what, len(c.seen), c.dups, c.last)
		}
	}
}

func (c *cloud) waitResults(n int) {
	c.t.Helper()
	c.wait(fmt.Sprint(n, " results"), func() bool { return len(c.seen) >= n })
}

func (c *cloud) waitMsg(topic, holds string) link.Msg {
	c.t.Helper()
	var found link.Msg
	c.wait(topic+" with "+holds, func() bool {
		i := slices.IndexFunc(c.msgs, func(m link.Msg) bool { return m.Topic == topic && strings.Contains(string(m.Payload), holds) })
		if i >= 0 {
			found = c.msgs[i]
			c.msgs = slices.Delete(c.msgs, i, i+1)
		}
		return i >= 0
	})
	return found
}

// start opens an outbox in dir and runs its bridge until the test ends or
// stop is called.
func start(t testing.TB, dir string, cfg upstream.Config, handle upstream.Handler) (o *upstream.Outbox, b *upstream.Bridge, stop func()) {
	t.Helper()
	return startWith(t, dir, cfg, handle, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), prometheus.NewRegistry())
}

func startWith(t testing.TB, dir string, cfg upstream.Config, handle upstream.Handler, log zerolog.Logger, reg *prometheus.Registry) (o *upstream.Outbox, b *upstream.Bridge, stop func()) {
	t.Helper()
	return startFetching(t, dir, cfg, handle, log, reg, nil)
}

// startFetching starts a bridge over which models come too.
func startFetching(t testing.TB, dir string, cfg upstream.Config, handle upstream.Handler, log zerolog.Logger, reg *prometheus.Registry, in *upstream.Incoming) (o *upstream.Outbox, b *upstream.Bridge, stop func()) {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	o, err := upstream.OpenOutbox(dir, cfg, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	b, err = upstream.NewBridge("cloud", "hall-7", cfg, o, handle, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	b.Fetch(in)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the bridge ended with %v", err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return o, b, stop
}

// Birth, alerts before results, retained alerts, the reply to commands, a
// clean good-bye; and a restart sends nothing twice.
func TestBridge(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	dir := t.TempDir()
	cfg := quick("tcp://" + addr)
	cfg.Window = 16

	// Alerts that come after results overtake them: the outbox is filled
	// while there is no bridge.
	o, err := upstream.OpenOutbox(dir, cfg, zerolog.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(o, 1000); err != nil {
		t.Fatal(err)
	}
	if err := o.Append(upstream.Record{Class: upstream.Alerts, Stream: "porch", Topic: "alerts/somebody/porch", Payload: []byte(`{"state":"raised"}`), Retain: true}); err != nil {
		t.Fatal(err)
	}
	o.Close()
	c.mu.Lock()
	c.msgs = nil
	c.mu.Unlock()
	ran := make(chan string, 10)
	_, b, stop := start(t, dir, cfg, func(_ context.Context, name string, payload []byte) ([]byte, error) {
		ran <- name
		switch name {
		case "status":
			return []byte(`{"ready":true}`), nil
		case "model/list":
			return []byte("no json"), nil
		}
		return nil, fmt.Errorf("unknown command %q", name)
	})
	c.waitMsg("gateways/hall-7/status", `"online":true`)
	c.waitMsg("gateways/hall-7/alerts/somebody/porch", "raised")
	c.waitResults(1000)
	if c.beforeAlert != 0 {
		t.Errorf("%d results came before the alert", c.beforeAlert)
	}

	// Who comes later sees what is raised: alerts go up retained.
	late, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + addr, ClientID: "late"})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	l := listener(t)
	if err := late.Subscribe(t.Context(), []string{"gateways/+/alerts/#"}, 1, l.take); err != nil {
		t.Fatal(err)
	}
	l.waitMsg("gateways/hall-7/alerts/somebody/porch", "raised")

	for _, cmd := range []struct{ topic, payload, reply string }{
		{"status", `{"id":7}`, `{"id":7,"ok":true,"result":{"ready":true}}`},
		{"status", `{"id":7}`, `{"id":7,"ok":true,"result":{"ready":true}}`}, // answered, not executed
		{"status", ``, `{"ok":true,"result":{"ready":true}}`},
		{"model/list", `{"id":"x"}`, `{"id":"x","ok":true,"result":"no json"}`},
		{"dance", `{"id":"y"}`, `{"id":"y","ok":false,"error":"unknown command \"dance\""}`},
	} {
		if err := c.conn.Publish(t.Context(), link.Msg{Topic: "gateways/hall-7/commands/" + cmd.topic, Payload: []byte(cmd.payload), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		if m := c.waitMsg("gateways/hall-7/replies/"+cmd.topic, ""); string(m.Payload) != cmd.reply {
			t.Errorf("reply to %s %s is %s", cmd.topic, cmd.payload, m.Payload)
		}
	}
	if n := len(ran); n != 4 {
		t.Errorf("%d commands ran, want 4", n)
	}
	if st := b.Status(); !st.Connected || st.Acked != 1001 || st.LastError != "" {
		t.Errorf("status %+v", st)
	}
	stop()
	c.waitMsg("gateways/hall-7/status", `"reason":"stopped"`)

	_, _, stop = start(t, dir, cfg, nil)
	c.waitMsg("gateways/hall-7/status", `"online":true`)
	stop()
	c.waitMsg("gateways/hall-7/status", `"online":false`)
	if c.dups != 0 {
		t.Errorf("%d results were sent twice over a clean restart", c.dups)
	}
}

// The link is cut and stalled again and again in the middle of 20,000
// results, while more are appended: all arrive, in order, and what comes
// twice is the same.
func TestCloudAway(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	proxy := testkit.NewProxy(t, addr)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	cfg := quick("tcp://" + proxy.Addr())
	cfg.Timeout = 300 * time.Millisecond
	o, b, _ := start(t, t.TempDir(), cfg, nil)
	const total = 20000
	filled := make(chan error)
	go func() { filled <- fill(o, total) }()
	for i := range 6 {
		c.waitResults((i + 1) * 2500)
		if i%2 == 0 {
			proxy.Cut()
		} else {
			proxy.Stall()
		}
		for b.Status().Connected { // only the time-out ends it
			time.Sleep(time.Millisecond)
		}
		if b.Status().LastError == "" {
			t.Error("no error in the status while the cloud is away")
		}
		proxy.Cut()
		proxy.Resume()
	}
	c.waitResults(total)
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	waitEmpty(o)
	t.Logf("%d duplicates", c.dups)
}

func waitEmpty(o *upstream.Outbox) {
	for {
		if a, r := o.Pending(); a+r == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// child is the gateway that is killed: it fills its outbox once, says so, and
// drains it.
func child(dir, url string) error {
	cfg := quick(url)
	o, err := upstream.OpenOutbox(filepath.Join(dir, "outbox"), cfg, zerolog.Nop(), nil)
	if err != nil {
		return err
	}
	b, err := upstream.NewBridge("cloud", "hall-7", cfg, o, nil, zerolog.Nop(), nil)
	if err != nil {
		return err
	}
	filled := filepath.Join(dir, "filled")
	if _, err := os.Stat(filled); err != nil {
		if err := fill(o, 20000); err != nil {
			return err
		}
		if err := os.WriteFile(filled, nil, 0o600); err != nil {
			return err
		}
	}
	fmt.Println("queued")
	return b.Run(context.Background())
}

// The gateway is killed with 20,000 results queued, at the start and in the
// middle of draining; the will says so; all arrive.
func TestKilled(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	dir := t.TempDir()
	for i, after := range []int{0, 4000, 9000, 20000} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "UPSTREAM_TEST_CHILD="+dir, "UPSTREAM_TEST_URL=tcp://"+addr)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, 7)
		if _, err := out.Read(said); string(said) != "queued\n" {
			t.Fatalf("the child said %q, %v", said, err)
		}
		c.waitResults(after)
		if i > 0 {
			c.waitMsg("gateways/hall-7/status", `"online":true`)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if i > 0 {
			c.waitMsg("gateways/hall-7/status", `"reason":"the connection was lost"`)
		} else {
			c.mu.Lock()
			c.msgs = nil
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, last := range maps.All(c.last) {
		if last != 20000/sources-1 {
			t.Errorf("%s ends with %d", topic, last)
		}
	}
	t.Logf("%d duplicates", c.dups)
}

// A changed configuration takes the link elsewhere and keeps what waits.
func TestReload(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	o, b, _ := start(t, t.TempDir(), quick("tcp://"+testkit.FreeAddr(t)), nil)
	if err := fill(o, 1000); err != nil {
		t.Fatal(err)
	}
	for b.Status().LastError == "" {
		time.Sleep(time.Millisecond)
	}
	cfg := quick("tcp://" + addr)
	cfg.RetryMin = time.Hour
	if err := b.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	c.waitResults(1000)
	cfg.Prefix = "gateways/other"
	if err := b.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	c.waitMsg("gateways/hall-7/status", "stopped")
	c.waitMsg("gateways/other/status", `"online":true`)
	cfg.Prefix = "gateways/+"
	if err := b.Reload(cfg); err == nil {
		t.Error("a wildcard in the prefix was taken")
	}
}
