package upstream_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/gateway/upstream"
	"edgegateway/internal/link"
	"edgegateway/internal/offer"
	"edgegateway/internal/testkit"
)

// shelf is where the tests' versions go: their bytes by name, once whole.
type shelf struct {
	mu     sync.Mutex
	whole  map[string][]byte
	stages map[string]string
	bases  map[string]bool
	refuse error
	calls  int
}

func newShelf() *shelf {
	return &shelf{whole: map[string][]byte{}, stages: map[string]string{}, bases: map[string]bool{}}
}

func (s *shelf) Has(sum string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bases[sum]
}

func (s *shelf) Standing(name, version, _ string) (state, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stages[name+"@"+version], ""
}

func (s *shelf) stage(ref, stage string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stages[ref] = stage
}

func (s *shelf) Refuses(o *offer.Offer) error {
	if o.Name == "unwanted" {
		return errors.New("there with other content")
	}
	return nil
}

func (s *shelf) Receive(_ context.Context, o *offer.Offer, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.refuse != nil {
		return s.refuse
	}
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		s.whole[o.Name] = b
	}
	if s.stages[o.Name+"@"+o.Version] == "" {
		s.stages[o.Name+"@"+o.Version] = offer.Got
	}
	return nil
}

func (s *shelf) has(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole[name]
}

// fetching is a gateway with a way down over a link that is up when wanted.
func fetching(t testing.TB, dir string, cfg upstream.Config, models upstream.Models) (o *upstream.Outbox, reg *prometheus.Registry, stop func()) {
	t.Helper()
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.DebugLevel)
	in, err := upstream.OpenIncoming(filepath.Join(dir, "incoming"), "hall-7", models, log)
	if err != nil {
		t.Fatal(err)
	}
	reg = prometheus.NewRegistry()
	o, _, stop = startFetching(t, filepath.Join(dir, "outbox"), cfg, nil, log, reg, in)
	return o, reg, stop
}

// made is a file that nothing makes smaller, and its offer.
func made(name string, size int, chunks ...int) ([]byte, offer.Offer) {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(b)
	return b, offerOf(name, b, chunks...)
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func offerOf(name string, b []byte, chunks ...int) offer.Offer {
	if len(chunks) == 0 {
		chunks = []int{96 << 10, 32 << 10, 8 << 10}
	}
	sum := sumOf(b)
	return offer.Offer{ID: "push-" + name, Name: name, Version: "2", Model: sum,
		Files: []offer.File{{SHA256: sum, Bytes: int64(len(b)), Topic: "models/" + sum, Chunks: chunks}}}
}

// chunks are the retained messages of a file.
func chunks(f *offer.File, b []byte) (msgs []link.Msg) {
	for _, size := range f.Chunks {
		for n := range f.Count(size) {
			at := n * size
			msgs = append(msgs, link.Msg{Topic: f.ChunkTopic(size, n), Payload: b[at : at+f.Length(size, n)], QoS: 1, Retain: true})
		}
	}
	return msgs
}

func (c *cloud) publish(msgs ...link.Msg) {
	c.t.Helper()
	for i := 0; i < len(msgs); i += 50 {
		if _, err := c.conn.Window(c.t.Context(), msgs[i:min(i+50, len(msgs))]); err != nil {
			c.t.Fatal(err)
		}
	}
}

// offer offers what lies there in chunks.
func (c *cloud) offer(o offer.Offer) {
	c.t.Helper()
	c.publish(link.Msg{Topic: "gateways/hall-7/models/offers/" + o.Name, Payload: offer.Encode(o), QoS: 1, Retain: true})
}

func (c *cloud) report(name, holds string) *offer.Report {
	c.t.Helper()
	r, err := offer.ParseReport(c.waitMsg("gateways/hall-7/models/reports/"+name, holds).Payload)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func push(c *cloud, o offer.Offer, b []byte) {
	c.t.Helper()
	c.publish(chunks(&o.Files[0], b)...)
	c.offer(o)
}

// Over links that break a model arrives whole, and what it takes on the wire is
// near to its length: counted by a proxy, both ways, reconnects included.
// With Debian's mosquitto as the cloud, and with our own broker.
func TestThinLink(t *testing.T) {
	const size = 4 << 20
	for _, tt := range []struct {
		name  string
		every int64
		most  float64 // times the size
		own   bool
	}{
		{"whole", 0, 1.02, false},
		{"cut every 1 MB", 1_000_000, 1.05, false},
		{"cut every 1 MB, our own broker", 1_000_000, 1.05, true},
		{"cut every 100 KB", 100_000, 1.25, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := ""
			if tt.own {
				addr = ourBroker(t)
			} else {
				addr = testkit.Mosquitto(t, unbounded)
			}
			c := newCloud(t, link.Config{URL: "tcp://" + addr})
			b, o := made("digits", size)
			push(c, o, b)
			proxy := testkit.NewProxy(t, addr)
			proxy.CutEvery(tt.every)
			cfg := quick("tcp://" + proxy.Addr())
			cfg.RetryMax = cfg.RetryMin
			s := newShelf()
			fetching(t, t.TempDir(), cfg, s)
			r := c.report("digits", `"state":"got"`)
			got := proxy.Carried()
			if !bytes.Equal(s.has("digits"), b) {
				t.Fatal("what arrived is not what was pushed")
			}
			wire := float64(got.Up+got.Down) / size
			t.Logf("%d bytes of a model: %d down and %d up, %+.1f %%, over %d connections of which %d broke; chunks of %d at last",
				size, got.Down, got.Up, (wire-1)*100, got.Links, got.Cuts, r.Chunk)
			if wire > tt.most {
				t.Errorf("%.3f times its size went over the wire, more than %.2f", wire, tt.most)
			}
			if want := map[int64]int{0: 32 << 10, 1_000_000: 32 << 10, 100_000: 8 << 10}[tt.every]; r.Chunk != want || r.Bytes != size {
				t.Errorf("%+v; chunks of %d were wanted at last", r, want)
			}
		})
	}
}

// A gateway that is stopped in the middle goes on where it was, and one that
// was away finds what was pushed meanwhile, with nobody there who pushes.
func TestGoesOnAfterARestart(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	b, o := made("digits", 4<<20)
	push(c, o, b)
	proxy, dir := testkit.NewProxy(t, addr), t.TempDir()
	cfg := quick("tcp://" + proxy.Addr())
	cfg.RetryMin, cfg.RetryMax = time.Hour, time.Hour
	for i := range 3 {
		proxy.CutEvery([]int64{1_400_000, 1_400_000, 0}[i])
		s := newShelf()
		_, _, stop := fetching(t, dir, cfg, s)
		if i < 2 {
			waitCuts(t, proxy, i+1)
		} else if r := c.report("digits", `"state":"got"`); r.Bytes != 4<<20 || !bytes.Equal(s.has("digits"), b) {
			t.Errorf("%+v, %d bytes", r, len(s.has("digits")))
		}
		stop()
	}
	got := proxy.Carried()
	if t.Logf("%+v for %d bytes", got, len(b)); got.Down > int64(len(b))*105/100 {
		t.Errorf("%+v for %d bytes: what was there was fetched again", got, len(b))
	}
}

func waitCuts(t *testing.T, p *testkit.Proxy, n int) {
	t.Helper()
	late := time.Now().Add(time.Minute)
	for p.Carried().Cuts < n {
		if time.Now().After(late) {
			t.Fatalf("%+v, not %d cuts", p.Carried(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// What is wrong with an offer, its chunks or the file is said in the report,
// and costs the gateway no more than that.
func TestRefusedOffers(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	cfg := quick("tcp://" + addr)
	cfg.MaxModelBytes = 200_000
	s := newShelf()
	dir := t.TempDir()
	o, _, _ := fetching(t, dir, cfg, s)
	refused := func(name, state, why string) {
		t.Helper()
		if r := c.report(name, `"state":"`+state+`"`); !strings.Contains(r.Why, why) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	raw := func(name, payload string) {
		c.publish(link.Msg{Topic: "gateways/hall-7/models/offers/" + name, Payload: []byte(payload), QoS: 1, Retain: true})
	}
	raw("junk", "{")
	refused("junk", offer.Refused, "offer: ")
	_, of := made("other", 1000)
	raw("misnamed", string(offer.Encode(of)))
	refused("misnamed", offer.Refused, `it names the model "other"`)

	_, of = made("large", 300_000)
	c.offer(of)
	refused("large", offer.Refused, "over max_model_bytes (200000)")

	_, of = made("unwanted", 1000) // nothing of it is fetched
	c.offer(of)
	refused("unwanted", offer.Refused, "there with other content")

	var b []byte
	b, of = made("late", 1000)
	of.Until = time.Now().Add(-time.Hour)
	push(c, of, b)
	refused("late", offer.Refused, "it counted until")

	b, of = made("short", 50_000)
	msgs := chunks(&of.Files[0], b)
	msgs[len(msgs)-1].Payload = msgs[len(msgs)-1].Payload[1:]
	for i := range msgs {
		msgs[i].Payload = msgs[i].Payload[:len(msgs[i].Payload)-1]
	}
	c.publish(msgs...)
	c.offer(of)
	refused("short", offer.Refused, "the chunk at models/")

	b, of = made("damaged", 50_000)
	wrong := bytes.Clone(b)
	wrong[49_999]++
	c.publish(chunks(&of.Files[0], wrong)...)
	c.offer(of)
	refused("damaged", offer.Refused, "have the SHA-256 "+sumOf(wrong))

	b, of = made("thin", 1000)
	of.Files[0].Base = sumOf([]byte("base"))
	push(c, of, b)
	refused("thin", offer.Waiting, "builds on the model with SHA-256 "+of.Files[0].Base)

	s.mu.Lock()
	s.refuse = errors.New("nobody trusted signed it")
	s.mu.Unlock()
	b, of = made("unsigned", 1000)
	push(c, of, b)
	refused("unsigned", offer.Refused, "nobody trusted signed it")
	s.mu.Lock()
	s.refuse = nil
	s.mu.Unlock()

	// After all that a good one arrives, and nothing is left of the others.
	b, of = made("good", 150_000)
	push(c, of, b)
	c.report("good", `"state":"got"`)
	if !bytes.Equal(s.has("good"), b) || s.has("damaged") != nil || s.has("late") != nil {
		t.Error("what arrived is not what was pushed")
	}
	if err := fill(o, 100); err != nil {
		t.Fatal(err)
	}
	c.waitResults(100)
	if left, _ := filepath.Glob(filepath.Join(dir, "incoming", "*", "file")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A delta is taken where the base is there, the whole where it is not; what
// became of the version is reported until the offer is withdrawn, and the
// report goes with it.
func TestDeltaAndFollow(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	s := newShelf()
	base := sumOf([]byte("base"))
	full, of := made("digits", 100_000)
	delta, d := made("delta", 5000)
	d.Files[0].Base = base
	of.Files = []offer.File{d.Files[0], of.Files[0]}
	of.Then = offer.Activate
	c.publish(chunks(&of.Files[0], delta)...)
	c.publish(chunks(&of.Files[1], full)...)
	c.offer(of)
	_, reg, _ := fetching(t, t.TempDir(), quick("tcp://"+addr), s)
	c.report("digits", `"state":"got"`)
	if !bytes.Equal(s.has("digits"), full) {
		t.Error("without the base the whole was not fetched")
	}
	for _, stage := range []string{"trying", offer.Live} {
		s.stage("digits@2", stage)
		c.report("digits", `"state":"`+stage+`"`)
	}
	s.mu.Lock()
	s.bases[base] = true
	s.mu.Unlock()
	of.ID, of.Version = "again", "3"
	c.offer(of)
	for c.report("digits", `"state":"got"`).ID != "again" {
	}
	if !bytes.Equal(s.has("digits"), delta) {
		t.Error("with the base the delta was not fetched")
	}
	// A version that is there already is not fetched, and what the offer wants is done.
	of.ID = "third"
	before := counted(t, reg, "edgegateway_upstream_model_bytes_total")
	c.offer(of)
	for c.report("digits", `"state":"got"`).ID != "third" {
	}
	if after := counted(t, reg, "edgegateway_upstream_model_bytes_total"); after != before || s.calls != 3 || before != 105_000 {
		t.Errorf("%v bytes, then %v; %d calls", before, after, s.calls)
	}
	c.publish(link.Msg{Topic: "gateways/hall-7/models/offers/digits", QoS: 1, Retain: true})
	c.wait("an empty report", func() bool {
		for _, m := range c.msgs {
			if m.Topic == "gateways/hall-7/models/reports/digits" && len(m.Payload) == 0 {
				return true
			}
		}
		return false
	})
}

func counted(t *testing.T, reg *prometheus.Registry, name string) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// An offer that is withdrawn or replaced in the middle is fetched no further,
// and the next in line is.
func TestWithdrawn(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	s, dir := newShelf(), t.TempDir()
	fetching(t, dir, quick("tcp://"+addr), s)
	b, of := made("never", 1<<20)
	msgs := chunks(&of.Files[0], b)
	c.publish(msgs[1:3]...) // the rest never comes
	c.offer(of)
	c.report("never", `"state":"fetching"`)
	b2, next := made("next", 10_000)
	push(c, next, b2)
	c.publish(link.Msg{Topic: "gateways/hall-7/models/offers/never", QoS: 1, Retain: true})
	c.report("next", `"state":"got"`)
	if !bytes.Equal(s.has("next"), b2) || s.has("never") != nil {
		t.Error("what arrived is not what was pushed")
	}
}

// Somebody who floods the topics of chunks and offers costs neither memory
// without bound nor results.
func TestFloodOfChunks(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	s := newShelf()
	o, _, _ := fetching(t, t.TempDir(), quick("tcp://"+addr), s)
	b, of := made("digits", 1<<20)
	msgs := chunks(&of.Files[0], b)
	c.publish(msgs[:len(msgs)-128]...) // none of the smallest, which it begins with
	c.offer(of)
	c.report("digits", `"state":"fetching"`)
	var flood []link.Msg
	for i := range 2000 {
		flood = append(flood, link.Msg{Topic: of.Files[0].ChunkTopic(8<<10, 10+i%100), Payload: make([]byte, 50_000), QoS: 1})
		flood = append(flood, link.Msg{Topic: fmt.Sprint("gateways/hall-7/models/offers/o", i), Payload: []byte("{"), QoS: 1})
	}
	c.publish(flood...)
	if err := fill(o, 500); err != nil {
		t.Fatal(err)
	}
	c.waitResults(500)
	c.publish(msgs[len(msgs)-128:]...)
	c.report("digits", `"state":"got"`)
	if !bytes.Equal(s.has("digits"), b) {
		t.Error("what arrived is not what was pushed")
	}
}

// ourBroker is a cloud of this house's own.
func ourBroker(t *testing.T) string {
	t.Helper()
	cfg := broker.DefaultConfig()
	cfg.Listeners = []broker.ListenerConfig{{TCP: "127.0.0.1:0"}}
	s, err := broker.New(cfg, nop, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-s.Ready()
	return strings.TrimPrefix(s.Addrs()[0], "tcp://")
}

// Results go up while a model comes down over a slow link: all of them are there
// before the model is.
func TestResultsBesideChunks(t *testing.T) {
	addr := testkit.Mosquitto(t, unbounded)
	c := newCloud(t, link.Config{URL: "tcp://" + addr})
	proxy := testkit.NewProxy(t, addr)
	proxy.Slow(400_000)
	b, of := made("digits", 600_000)
	push(c, of, b)
	cfg := quick("tcp://" + proxy.Addr())
	cfg.Timeout = time.Minute // a machine that is slow itself is not what is tested
	s := newShelf()
	o, _, _ := fetching(t, t.TempDir(), cfg, s)
	c.report("digits", `"state":"fetching"`)
	if err := fill(o, 100); err != nil {
		t.Fatal(err)
	}
	c.waitResults(100)
	if s.has("digits") != nil {
		t.Error("the results waited for the model")
	}
	c.report("digits", `"state":"got"`)
}

// A cloud that does not let the gateway ask for models, and says so or ends the
// link, gets results all the same.
func TestNoModels(t *testing.T) {
	isOffers := func(topic string) bool { return strings.Contains(topic, "/models/offers/") }
	for name, m := range map[string]*mortal{
		"refuses":       {allow: func(topic string, _ bool) bool { return !isOffers(topic) }},
		"ends the link": {end: isOffers},
	} {
		t.Run(name, func(t *testing.T) {
			c := listener(t)
			m.take = c.take
			addr := testkit.FreeAddr(t)
			m.start(t, addr)
			cfg := quick("tcp://" + addr)
			cfg.RetryMax = cfg.RetryMin
			o, _, _ := fetching(t, t.TempDir(), cfg, newShelf())
			if err := fill(o, 100); err != nil {
				t.Fatal(err)
			}
			c.waitResults(100)
			waitEmpty(o)
		})
	}
}
