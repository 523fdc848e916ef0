package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"

	"edgegateway/fl"
	"edgegateway/fl/fltest"
	"edgegateway/gateway/app"
	"edgegateway/gateway/dataset"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// edgeKeys makes a pair of keys in files.
func edgeKeys(t *testing.T, dir, name string) (private, public string, key ed25519.PrivateKey) {
	t.Helper()
	a, b, _, err := keyfile.New()
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	for path, content := range map[string][]byte{private: a, public: b} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if key, err = keyfile.ReadPrivate(private); err != nil {
		t.Fatal(err)
	}
	return private, public, key
}

func edgeTask(rounds int) fl.Task {
	task := fl.DefaultTask()
	task.Name, task.Model.Preset, task.Model.Input, task.Model.Classes = "rings", "mlp", []int{6}, []string{"low", "high"}
	task.Data.Stream, task.Data.Minimum, task.Data.Holdout = "press", flSamples, 0.2
	task.Local.Epochs, task.Local.Batch = 40, 10
	task.Rounds, task.Cohort.Quorum, task.Cohort.WaitFor = rounds, 2, 2
	task.Compression.Kind = "int8"
	task.Publish.Model, task.Publish.When, task.Publish.Quantize = "m", "final", "int8"
	return task
}

const flSamples = 150

// flEdge is a gateway of its own: a process with a broker, a stream that records,
// and a model that is right by chance.
type flEdge struct {
	t                           *testing.T
	name, dir, local, web, file string
	p                           *testkit.Process
}

// first is the .tflite of the weights that a task begins with.
func flFirst(t *testing.T, task *fl.Task) []byte {
	t.Helper()
	if task.Model.Data != nil {
		return task.Model.Data
	}
	n, err := task.Network()
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.TwoClasses().Export("untrained", task.Model.Classes)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newFLEdge(t *testing.T, name, cloud, trusted string, task *fl.Task, more string) (*flEdge, ed25519.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	e := &flEdge{t: t, name: name, dir: dir, local: testkit.FreeAddr(t), web: testkit.FreeAddr(t), file: filepath.Join(dir, "gateway.yaml")}
	private, _, key := edgeKeys(t, dir, name)
	if err := os.WriteFile(filepath.Join(dir, "m.tflite"), flFirst(t, task), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`
gateway: %s
data: %s
broker: {listeners: [{tcp: "%s"}]}
dashboard: {listen: "%s"}
infer: {delegate: builtin}
models: {m: {file: m.tflite, output: classes}}
streams:
  press: {topics: [x/+], input: {json: [a, b, c, d, e, f]}, model: m, record: {label: {topic: labels/+}}}
rollout: {watch: 0s, preflight: {calls: 20, eager: true}} # a busy machine lets nothing idle run
upstream: {cloud: {url: "tcp://%s", send: [], retry_min: 50ms, retry_max: 200ms}}
fl: {key: %s, keys: [%s], least: 5, limits: {eager: true}%s}
`, name, filepath.Join(dir, "data"), e.local, e.web, cloud, private, trusted, more)
	if err := os.WriteFile(e.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return e, key.Public().(ed25519.PublicKey)
}

func (e *flEdge) begin() {
	e.t.Helper()
	e.p = testkit.Start(e.t, testkit.Command(e.t, "run", "--config", e.file))
	e.p.Line(` ready `)
}

// secret is a number that none but this gateway knows: sample i's of its name.
func (e *flEdge) secret(i int) float64 {
	r := rand.New(rand.NewPCG(uint64(len(e.name)), uint64(i)))
	return math.Round(r.NormFloat64()*1e9) / 1e10
}

// feed publishes labelled samples, a few of them with a label of its own.
func (e *flEdge) feed(n int) {
	e.t.Helper()
	c, err := link.Connect(e.t.Context(), link.Config{URL: "tcp://" + e.local, ClientID: "sensor", Timeout: time.Minute})
	if err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	msgs := []link.Msg{}
	for source, label := range map[string]string{"cellar-low": "low", "cellar-high": "high", "cellar-odd": flLabel} {
		msgs = append(msgs, link.Msg{Topic: "labels/" + source, Payload: []byte(label), QoS: 1})
	}
	if _, err := c.Window(e.t.Context(), msgs); err != nil {
		e.t.Fatal(err)
	}
	msgs = msgs[:0]
	for i := range n + n/10 {
		source, at := []string{"cellar-low", "cellar-high"}[i%2], float64(i%2)
		if i >= n {
			source = "cellar-odd"
		}
		values := []string{}
		for k := range 6 {
			values = append(values, fmt.Sprintf(`"%c":%v`, 'a'+k, at*0.6+e.secret(6*i+k)))
		}
		msgs = append(msgs, link.Msg{Topic: "x/" + source, Payload: []byte("{" + strings.Join(values, ",") + "}"), QoS: 1})
	}
	if _, err := c.Window(e.t.Context(), msgs); err != nil {
		e.t.Fatal(err)
	}
}

// flLabel is a label that the task does not know.
const flLabel = "cracked-by-hand"

func (e *flEdge) status() (s app.Status) {
	res, err := http.Get("http://" + e.web + "/api/status")
	if err != nil {
		return s // it is not there now
	}
	defer res.Body.Close()
	_ = json.NewDecoder(res.Body).Decode(&s)
	return s
}

// until waits for what a gateway's status says.
func (e *flEdge) until(what string, ok func(app.Status) bool) {
	e.t.Helper()
	var s app.Status
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if s = e.status(); ok(s) {
			return
		}
		if time.Now().After(end) {
			b, _ := json.MarshalIndent(s, "", " ")
			e.t.Fatalf("%s: no %s\n%s\n%s", e.name, what, b, e.p.Output())
		}
	}
}

func (e *flEdge) doing(s app.Status) string {
	if s.FL == nil || len(s.FL.Tasks) != 1 {
		return ""
	}
	return s.FL.Tasks[0].Doing
}

// labelled is what the gateway recorded, as a child process reads it.
func (e *flEdge) labelled(task *fl.Task) *dataset.Labelled {
	return &dataset.Labelled{Dir: dataset.Dir(filepath.Join(e.dir, "data"), "press"), Input: task.Model.Input, Classes: task.Model.Classes}
}

// expected is what the same task gives in this process, over the same samples.
func flExpected(t *testing.T, task fl.Task, edges []*flEdge) fl.Hash {
	t.Helper()
	_, _, boss := edgeKeys(t, t.TempDir(), "boss")
	id, err := task.ID()
	if err != nil {
		t.Fatal(err)
	}
	b := fltest.NewBroker(fltest.Faults{})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	keys := fl.KeyMap{}
	for _, e := range edges {
		_, _, key := edgeKeys(t, t.TempDir(), e.name)
		keys[e.name] = key.Public().(ed25519.PublicKey)
		p, err := fl.NewParticipant(e.name, fl.NewMemory(), key, []ed25519.PublicKey{boss.Public().(ed25519.PublicKey)}, fl.ParticipantConfig{Task: id})
		if err != nil {
			t.Fatal(err)
		}
		l := e.labelled(&task)
		all.Go(func() {
			err := fl.ServeParticipant(ctx, b.Connect(e.name), p, fl.ParticipantLoop{Dataset: counted{l}, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
				d, err := l.Load(ctx, job.Samples)
				if err != nil {
					return nil, err
				}
				return fl.Train(ctx, job, d, nil)
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	c, err := fl.NewCoordinator(task, fl.CoordinatorConfig{}, fl.NewMemory(), boss, keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := fl.ServeCoordinator(ctx, b.Connect("boss"), []*fl.Coordinator{c}, fl.CoordinatorLoop{}); err != nil {
		t.Fatal(err)
	}
	return c.Weights().Hash()
}

type counted struct{ *dataset.Labelled }

func (c counted) Count(ctx context.Context) (int, error) {
	return dataset.NewCounter(*c.Labelled).Count(ctx)
}

// flLead leads a task until stop, or the test's end. The coordinator is to be
// looked at after stop alone; its status at any time.
func flLead(t *testing.T, addr string, task fl.Task, boss ed25519.PrivateKey, keys fl.KeyMap) (c *fl.Coordinator, now func() fl.Status, stop func()) {
	t.Helper()
	c, err := fl.NewCoordinator(task, fl.CoordinatorConfig{}, fl.NewMemory(), boss, keys)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var st fl.Status
	now = func() fl.Status {
		mu.Lock()
		defer mu.Unlock()
		return st
	}
	var led sync.WaitGroup
	tr := flLink(t, addr, "boss-"+task.Name)
	led.Go(func() {
		err := fl.ServeCoordinator(ctx, tr, []*fl.Coordinator{c}, fl.CoordinatorLoop{Stay: true, Step: func(c *fl.Coordinator) {
			mu.Lock()
			defer mu.Unlock()
			st = c.Status()
		}})
		if err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); led.Wait() }
	t.Cleanup(stop)
	return c, now, stop
}

// flCloud is everything that was published to a broker.
type flCloud struct {
	mu   sync.Mutex
	msgs []link.Msg
}

func (c *flCloud) all() []link.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.msgs)
}

func flListen(t *testing.T, addr string) *flCloud {
	t.Helper()
	conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + addr, ClientID: "listener", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	c := &flCloud{}
	if err := conn.Subscribe(t.Context(), []string{"#"}, 1, func(m link.Msg) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.msgs = append(c.msgs, m)
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// Two gateways learn from what their streams recorded, one of them killed while
// it trains. The model is the one that this process makes of the same samples, to
// the last bit; it goes live on both; and nothing of the samples went up.
func TestGatewaysLearn(t *testing.T) {
	t.Parallel()
	task := edgeTask(3)
	addr := testkit.Mosquitto(t, "max_queued_messages 0")
	cloud := flListen(t, addr)
	_, trusted, boss := edgeKeys(t, t.TempDir(), "boss")
	keys := fl.KeyMap{}
	var edges []*flEdge
	for _, name := range []string{"north", "south"} {
		e, public := newFLEdge(t, name, addr, trusted, &task, "")
		keys[name] = public
		edges = append(edges, e)
		e.begin()
		e.feed(flSamples)
	}
	c, now, stop := flLead(t, addr, task, boss, keys)
	victim := edges[0]
	victim.until("training", func(s app.Status) bool { return victim.doing(s) == "training" })
	victim.p.Kill()
	victim.begin()
	for _, e := range edges {
		e.until("live model", func(s app.Status) bool {
			return s.FL != nil && len(s.FL.Tasks) == 1 && s.FL.Tasks[0].Model != nil && s.FL.Tasks[0].Model.State == "live"
		})
		e.until("answers of version 1", func(s app.Status) bool { return len(s.Models) == 1 && s.Models[0].Version == "1" })
		o := e.status().FL.Tasks[0].Model
		if o.New.Samples < 10 || o.New.Accuracy < 0.8 || o.Old.Samples != o.New.Samples || o.Old.Accuracy > o.New.Accuracy {
			t.Errorf("%s: %+v", e.name, o)
		}
	}
	heard := func(want map[string]string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			s := now()
			if slices.IndexFunc(s.Gateways, func(g fl.Gateway) bool { return g.Report == nil || g.Report.State != want[g.Name] }) < 0 && len(s.Gateways) == 2 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the coordinator does not hear what became of its model: %+v", s)
			}
		}
	}
	heard(map[string]string{"north": "live", "south": "live"})
	if got, want := c.Weights().Hash(), flExpected(t, task, edges); got != want {
		t.Errorf("the gateways' model is %s, this process makes %s of the same samples", got, want)
	}
	// Whoever takes it back has the one before, and keeps it.
	s, err := store.Open(store.Dir(filepath.Join(victim.dir, "data")), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, err := s.State()
	if err != nil {
		t.Fatal(err)
	}
	if v := state.Models["m"].Find("1"); v == nil || !strings.Contains(v.From, "task rings") || v.Report == "" {
		t.Errorf("%+v", v)
	}
	f, err := s.Files("m", "1")
	if err != nil || !strings.Contains(f.Manifest.Provenance, "after round 3") {
		t.Errorf("%+v, %v", f.Manifest, err)
	}
	if err := s.Want("m", store.Want{Do: store.DoRollback, By: "test"}); err != nil {
		t.Fatal(err)
	}
	back := func(s app.Status) bool { return len(s.Models) == 1 && s.Models[0].Version == "0" }
	victim.until("way back", back)
	heard(map[string]string{"north": "withdrawn", "south": "live"})
	for _, g := range now().Gateways {
		if g.Name == "north" && (!strings.Contains(g.Report.Why, "version 1") || g.Report.New.Samples < 10) {
			t.Errorf("%+v", g.Report)
		}
	}
	stop()
	victim.p.Kill()
	victim.begin() // the task is over, and its model was here
	victim.until("task after a restart", func(s app.Status) bool {
		return s.FL != nil && len(s.FL.Tasks) == 1 && s.FL.Tasks[0].State == "done" && back(s)
	})
	victim.until("way back that is written down", func(app.Status) bool {
		state, err := s.State()
		return err == nil && state.Models["m"].Live == "0" && state.Models["m"].Want == nil
	})
	if state, err = s.State(); err != nil || len(state.Models["m"].Versions) != 2 {
		t.Errorf("after the way back: %+v, %v", state.Models["m"], err)
	}
	nothingLeaves(t, cloud.all(), edges)
}

// nothingLeaves looks for the samples in all that was published: as text, as
// binary numbers, in what unpacks.
func nothingLeaves(t *testing.T, msgs []link.Msg, edges []*flEdge) {
	t.Helper()
	var secrets [][]byte
	for _, e := range edges {
		for _, text := range []string{flLabel, "cellar", e.dir, "m.tflite", "00000001"} {
			secrets = append(secrets, []byte(text))
		}
		for i := range 6 * flSamples {
			v := float64(i/6%2)*0.6 + e.secret(i)
			secrets = append(secrets, fmt.Append(nil, v))
			for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
				secrets = append(secrets, order.AppendUint64(nil, math.Float64bits(v)))
				if i%6 > 0 { // two in a row: four bytes alone may come by chance
					before := float64(i/6%2)*0.6 + e.secret(i-1)
					secrets = append(secrets, order.AppendUint32(order.AppendUint32(nil, math.Float32bits(float32(before))), math.Float32bits(float32(v))))
				}
			}
		}
	}
	all, updates := flUnpacked(t, msgs)
	for _, s := range secrets {
		if bytes.Contains(all, s) {
			t.Errorf("%q is in what was published", s)
		}
	}
	if updates < 6 {
		t.Errorf("only %d updates were seen", updates)
	}
	for _, m := range msgs {
		if !strings.HasPrefix(m.Topic, "fl/") && !slices.Contains([]string{"gateways/north/status", "gateways/south/status"}, m.Topic) {
			t.Errorf("something went to %s", m.Topic)
		}
	}
	// It would have been seen: a report that says a sample, packed as reports are.
	_, _, key := edgeKeys(t, t.TempDir(), "leak")
	body, err := fl.Pack(fl.Report{State: "failed", Why: "the sample " + string(secrets[5])})
	if err != nil {
		t.Fatal(err)
	}
	leak, err := fl.Seal(fl.Header{Kind: fl.KindReport, Task: "rings", Seq: 1, From: "north"}, body, 0, key)
	if err != nil {
		t.Fatal(err)
	}
	if all, _ := flUnpacked(t, []link.Msg{{Topic: leak[0].Topic, Payload: leak[0].Payload}}); !bytes.Contains(all, secrets[5]) {
		t.Error("a sample in a packed message is not found")
	}
}

// flUnpacked is all that messages hold, one behind the other: as they came, and
// the bodies of what gateways say put together and unpacked. updates is how many
// of these were updates.
func flUnpacked(t *testing.T, msgs []link.Msg) (all []byte, updates int) {
	t.Helper()
	unzip, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unzip.Close()
	bodies := map[string]map[int][]byte{} // by topic and sequence
	for _, m := range msgs {
		all = append(append(all, 0), m.Payload...)
		if !strings.Contains(m.Topic, "/from/") {
			continue
		}
		h, err := fl.Peek(fl.Message{Topic: m.Topic, Payload: m.Payload})
		var envelope []any
		if err == nil {
			err = cbor.Unmarshal(m.Payload, &envelope)
		}
		if err != nil {
			t.Fatalf("%s: %v", m.Topic, err)
		}
		key := fmt.Sprint(m.Topic, h.Seq)
		if bodies[key] == nil {
			bodies[key] = map[int][]byte{}
		}
		bodies[key][h.Chunk] = envelope[1].([]byte)
		if len(bodies[key]) < h.Chunks {
			continue
		}
		var whole []byte
		for i := range h.Chunks {
			whole = append(whole, bodies[key][i]...)
		}
		plain, err := unzip.DecodeAll(whole, nil)
		if err != nil {
			t.Fatalf("%s: %v", m.Topic, err)
		}
		all = append(append(all, 0), plain...)
		if h.Kind == fl.KindUpdate {
			updates++
		}
	}
	return all, updates
}
