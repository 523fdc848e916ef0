package app

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"edgegateway/broker"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// Every gateway and client of these tests ends without leaving a goroutine,
// but for the client library's call that sits out its time limit where the
// connection went while it published.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/eclipse/paho%2emqtt%2egolang.(*client).Publish"))
}

// patience is how long a test waits for what must come; only a failure uses
// it up.
const patience = time.Minute

// gateway is a whole gateway at work on free ports.
type gateway struct {
	*App
	t    *testing.T
	file string // its configuration
	log  *testkit.Buffer
	url  string // of its broker
	stop func() // ends it cleanly, once
}

// rest is what every configuration of these tests begins with.
const rest = `
broker: {listeners: [{tcp: "127.0.0.1:0"}], limits: {max_packet_bytes: 12582912}}
dashboard: {listen: "127.0.0.1:0"}
infer: {delegate: builtin}
`

// begin starts a gateway in a folder that may hold an earlier one's data.
func begin(t *testing.T, dir, name, config string) *gateway {
	t.Helper()
	g := &gateway{t: t, file: filepath.Join(dir, name+".yaml"), log: &testkit.Buffer{}}
	g.write("gateway: " + name + "\ndata: " + filepath.Join(dir, name) + rest + config)
	load := func() (Config, error) { return LoadConfig(g.file) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if g.App, err = New(cfg, load, nil, zerolog.New(g.log), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, g.log)
		}
	})
	t.Cleanup(g.stop)
	<-g.BrokerReady()
	g.url = g.Addrs()[0]
	return g
}

func (g *gateway) write(config string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, []byte(config), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// change replaces words of the configuration file.
func (g *gateway) change(pairs ...string) {
	g.t.Helper()
	b, err := os.ReadFile(g.file)
	if err != nil {
		g.t.Fatal(err)
	}
	g.write(strings.NewReplacer(pairs...).Replace(string(b)))
}

// client is a real MQTT client.
func (g *gateway) client(id string) *link.Conn {
	g.t.Helper()
	c, err := link.Connect(g.t.Context(), link.Config{URL: g.url, ClientID: id, Timeout: patience})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

// inbox is what a subscriber got.
type inbox struct {
	t    *testing.T
	mu   sync.Mutex
	msgs []link.Msg
	more chan struct{} // closed and replaced with each message
}

// subscribe is a real subscriber. The broker lets go of what a slow one does
// not take: who counts every message uses tapped.
func (g *gateway) subscribe(filters ...string) *inbox {
	g.t.Helper()
	in := &inbox{t: g.t, more: make(chan struct{})}
	c := g.client("subscriber-" + filters[0])
	if err := c.Subscribe(g.t.Context(), filters, 1, in.add); err != nil {
		g.t.Fatal(err)
	}
	return in
}

// tapped is each message that clients bring to the gateway's broker, before
// it is acknowledged: none is missed.
func (g *gateway) tapped(filters ...string) *inbox {
	g.t.Helper()
	in := &inbox{t: g.t, more: make(chan struct{})}
	if _, err := g.broker.Tap(filters, func(m broker.Message) { in.add(link.Msg{Topic: m.Topic, Payload: m.Payload}) }); err != nil {
		g.t.Fatal(err)
	}
	return in
}

func (in *inbox) add(m link.Msg) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.msgs = append(in.msgs, m)
	close(in.more)
	in.more = make(chan struct{})
}

func (in *inbox) len() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.msgs)
}

func (in *inbox) all() []link.Msg {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]link.Msg(nil), in.msgs...)
}

// wait gives the first message that fits, when it is there.
func (in *inbox) wait(what string, fits func(link.Msg) bool) link.Msg {
	in.t.Helper()
	deadline := time.After(patience)
	for seen := 0; ; {
		in.mu.Lock()
		for ; seen < len(in.msgs); seen++ {
			if m := in.msgs[seen]; fits(m) {
				in.mu.Unlock()
				return m
			}
		}
		more := in.more
		in.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			in.t.Fatalf("%s does not come; %d messages came, the first: %.2000s", what, seen, fmt.Sprint(in.all()[:min(seen, 5)]))
		}
	}
}

// on waits for a message on a topic whose payload holds text.
func (in *inbox) on(topic, text string) link.Msg {
	in.t.Helper()
	return in.wait(topic+" with "+text, func(m link.Msg) bool { return m.Topic == topic && strings.Contains(string(m.Payload), text) })
}

// until waits for what another goroutine brings about.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited long enough", what)
		}
	}
}

func decode[T any](t *testing.T, payload []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(payload, &v); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return v
}

// result is a result as its readers see it.
type result struct {
	ID, Stream, Source, Model, Label string
	Seq                              uint64
	Score                            float64
	Features                         map[string]float64
	Values                           []float64
}

// publish sends messages at QoS 1 and waits for all acknowledgements.
func publish(t *testing.T, c *link.Conn, topic string, payloads ...string) {
	t.Helper()
	msgs := make([]link.Msg, len(payloads))
	for i, p := range payloads {
		msgs[i] = link.Msg{Topic: topic, Payload: []byte(p), QoS: 1}
	}
	if n, err := c.Window(t.Context(), msgs); err != nil {
		t.Fatalf("%d of %d acknowledged: %v", n, len(msgs), err)
	}
}
