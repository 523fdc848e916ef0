package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/rollout"
	"edgegateway/infer/store"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// versioned is a gateway with the model sine, from a file of its own.
func versioned(t *testing.T, dir, more string) *gateway {
	t.Helper()
	copyModel(t, "hello_world_float", filepath.Join(dir, "sine.tflite"))
	return begin(t, dir, "edge", `
models: {sine: {file: sine.tflite, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x]}, model: sine, workers: 1}}
`+more)
}

func copyModel(t *testing.T, name, to string) {
	t.Helper()
	b, err := os.ReadFile(testkit.Shared(t, "models/"+name+".tflite"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// outside is the store as another process has it open.
func outside(t *testing.T, g *gateway) *store.Store {
	t.Helper()
	s, err := store.Open(store.Dir(g.data.dir), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func addVersion(t *testing.T, s *store.Store, ref, model string) {
	t.Helper()
	if _, err := s.Add(t.Context(), ref, testkit.Shared(t, "models/"+model+".tflite"), "test"); err != nil {
		t.Fatal(err)
	}
}

func wantVersion(t *testing.T, s *store.Store, do, version string) {
	t.Helper()
	if err := s.Want("sine", store.Want{Do: do, Version: version, By: "test"}); err != nil {
		t.Fatal(err)
	}
}

// lives waits for a version to be the live one.
func lives(t *testing.T, s *store.Store, version string) {
	t.Helper()
	until(t, "version "+version+" is live", func() bool {
		st, err := s.State()
		return err == nil && st.Models["sine"].Live == version && st.Models["sine"].Want == nil
	})
}

// answering sends x and gives the version that answered.
func (g *gateway) answering(c *link.Conn, in *inbox, seq int) string {
	g.t.Helper()
	publish(g.t, c, "x/a", fmt.Sprintf(`{"x":%d.25}`, seq))
	m := in.wait(fmt.Sprint("the result of ", seq), func(m link.Msg) bool {
		return strings.HasPrefix(m.Topic, "results/s/") && strings.Contains(string(m.Payload), fmt.Sprintf(`"x":%d.25`, seq))
	})
	return decode[struct{ Version string }](g.t, m.Payload).Version
}

func statusOf(m link.Msg) (s rollout.Status) {
	_ = json.Unmarshal(m.Payload, &s) // what is no status has no step
	return s
}

// step waits for a status message.
func (in *inbox) step(step, of string) rollout.Status {
	in.t.Helper()
	return statusOf(in.wait(step+" of "+of, func(m link.Msg) bool {
		s := statusOf(m)
		return m.Topic == "models/sine/status" && s.Step == step && s.Of == of
	}))
}

// The life of a model whose first version is the configuration's file: another
// version is added by another process, goes live, goes back, is live after a
// restart; and the file's owner has the last word when it changes the file.
func TestVersions(t *testing.T) {
	dir := t.TempDir()
	cloud := begin(t, t.TempDir(), "cloud", "")
	g := versioned(t, dir, cloudOf(cloud.url))
	up := cloud.subscribe("gateways/edge/models/#")
	s := outside(t, g)
	c := g.client("sensor")
	in := g.subscribe("results/#", "models/+/status")
	is := func(seq int, want string) {
		t.Helper()
		if v := g.answering(c, in, seq); v != want {
			t.Errorf("message %d: version %q answered, not %q", seq, v, want)
		}
	}
	is(1, "")
	addVersion(t, s, "sine", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "1")
	if st := in.step(rollout.StepLive, "1"); st.Version != "1" || st.Previous != "0" || st.By != "test" || st.Wanted != nil {
		t.Errorf("%+v", st)
	}
	is(2, "1")
	up.wait("the status at the cloud", func(m link.Msg) bool {
		return m.Topic == "gateways/edge/models/sine/status" && statusOf(m).Version == "1"
	})
	if m := g.engine.Models()[0]; m.Version != "1" {
		t.Errorf("%+v", m)
	}
	// A reload that changes nothing of it leaves it at work, and so does one of
	// something else.
	g.change("workers: 1", "workers: 2")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	is(3, "1")
	wantVersion(t, s, store.DoRollback, "")
	in.step(rollout.StepLive, "0")
	is(4, "0")
	if _, err := g.command(t.Context(), "model/activate", []byte(`{"id":7,"model":"sine@1"}`)); err != nil {
		t.Fatal(err)
	}
	lives(t, s, "1")
	g.stop()

	g = begin(t, dir, "edge", strings.SplitN(string(must(os.ReadFile(g.file))), "infer: {delegate: builtin}\n", 2)[1])
	c, in = g.client("sensor"), g.subscribe("results/#", "models/+/status")
	in.step(rollout.StepLive, "1") // it stays on its topic
	is(5, "1")

	copyModel(t, "hello_world_int8", filepath.Join(dir, "sine.tflite"))
	is(6, "1") // nobody said so yet
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	in.step(rollout.StepLive, "0.1")
	is(7, "0.1")
	wantVersion(t, s, store.DoRollback, "")
	lives(t, s, "1") // an earlier message said the same
	is(8, "1")
	if err := g.Reload(); err != nil { // the file was heard already
		t.Fatal(err)
	}
	is(9, "1")

	var steps []string
	log, err := os.ReadFile(filepath.Join(store.Dir(g.data.dir), "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		e := decode[rollout.Entry](t, line)
		steps = append(steps, strings.TrimSpace(e.Step+" "+e.Version))
	}
	if got := strings.Join(steps, ", "); got != "added 0, live 1, live 0, live 1, stop, start, added 0.1, live 0.1, live 1" {
		t.Errorf("the audit log says %s", got)
	}
}

// What does not fit is refused with its reason, and the version at work serves
// on; what is not there is refused at once.
func TestVersionsRefused(t *testing.T) {
	g := versioned(t, t.TempDir(), "")
	s := outside(t, g)
	c, in := g.client("sensor"), g.subscribe("results/#", "models/+/status")
	addVersion(t, s, "sine@2", "ad01_int8")
	wantVersion(t, s, store.DoActivate, "2")
	st := in.step(rollout.StepFailed, "2")
	if st.Version != "" || !strings.Contains(st.Why, "streams.s.model: it takes 640 numbers, the version at work takes 1") && !strings.Contains(st.Why, `streams.s.model: "sine" takes 640 numbers`) {
		t.Errorf("%+v", st)
	}
	if v := g.answering(c, in, 1); v != "" {
		t.Errorf("version %q answers", v)
	}
	if state, err := s.State(); err != nil || state.Models["sine"].Find("2").Stage != store.Failed || state.Models["sine"].Want != nil {
		t.Errorf("%+v, %v", state.Models["sine"], err)
	}
	for command, want := range map[string]string{
		`model/activate {"model":"sine@9"}`:               "not in the store; there are 2",
		`model/activate {"model":"sine@2","version":"3"}`: "both version 2 and 3",
		`model/activate {"model":"cosine@1"}`:             "not in the store",
		`model/rollback {"model":"sine"}`:                 "no version before the live one",
		`model/activate {"name":"sine"}`:                  `the command is {"model": NAME`,
		`model/show {"model":"sine"}`:                     "no version of it is live",
		`model/rm {"model":"sine@7"}`:                     "not in the store",
	} {
		name, payload, _ := strings.Cut(command, " ")
		if _, err := g.command(t.Context(), name, []byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", command, err, want)
		}
	}
	listed := decode[[]ListedModel](t, must(g.command(t.Context(), "model/list", nil)))
	if len(listed) != 1 || listed[0].Delegate != "builtin" || len(listed[0].Versions) != 1 || listed[0].Versions[0].Stage != store.Failed {
		t.Errorf("%+v", listed)
	}
	addVersion(t, s, "sine@3", "hello_world_int8")
	for command, want := range map[string]string{
		`model/show {"model":"sine@2"}`:                      `"stage":"failed"`,
		`model/diff {"model":"sine@2","to":"3"}`:             "differences",
		`model/rm {"model":"sine","version":"2","id":[1,2]}`: `"removed":"2"`,
	} {
		name, payload, _ := strings.Cut(command, " ")
		if command == `model/rm {"model":"sine","version":"2","id":[1,2]}` {
			continue // the others read it first
		}
		if b, err := g.command(t.Context(), name, []byte(payload)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s, %v, want %s", command, b, err, want)
		}
	}
	if b, err := g.command(t.Context(), "model/rm", []byte(`{"model":"sine","version":"2","id":[1,2]}`)); err != nil || !strings.Contains(string(b), `"removed":"2"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// A version that does worse than its limits is taken back by itself, with the
// reason, and marked.
func TestTakenBack(t *testing.T) {
	g := versioned(t, t.TempDir(), "rollout: {after: 10, p99_ms: 0.000001}\n")
	s := outside(t, g)
	c, in := g.client("sensor"), g.subscribe("results/#", "models/+/status")
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "1")
	in.step(rollout.StepLive, "1")
	for i := range 20 {
		if v := g.answering(c, in, i); v != "1" && v != "0" {
			t.Errorf("version %q answers", v)
		}
	}
	st := in.step(rollout.StepRolledBack, "1")
	if st.Version != "0" || !strings.Contains(st.Why, "its p99 is ") || !strings.Contains(st.Why, "the limit is 1e-06 ms; version 0 answers again") {
		t.Errorf("%+v", st)
	}
	if v := g.answering(c, in, 99); v != "0" {
		t.Errorf("version %q answers", v)
	}
	if state, err := s.State(); err != nil || state.Models["sine"].Find("1").Stage != store.Failed {
		t.Errorf("%+v, %v", state, err)
	}
}

// While clients publish, versions are exchanged and the configuration is
// reloaded: every message becomes one result, in order, signed by one of the
// versions, whose answer it is.
func TestSwapsLoseNothing(t *testing.T) {
	cloud := begin(t, t.TempDir(), "cloud", "")
	up := cloud.tapped("gateways/edge/results/#")
	dir := t.TempDir()
	copyModel(t, "hello_world_float", filepath.Join(dir, "sine.tflite"))
	g := begin(t, dir, "edge", `
models: {sine: {file: sine.tflite, output: regression}}
streams: {s: {topics: [x/+], input: {json: [x], seq: n}, model: sine, workers: 2}}
`+cloudOf(cloud.url))
	s := outside(t, g)
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "1")
	lives(t, s, "1")
	const each, swaps = 1200, 12
	sources := []string{"a", "b", "c"}
	var clients sync.WaitGroup
	for _, source := range sources {
		c := g.client(source)
		clients.Go(func() {
			msgs := make([]link.Msg, each)
			for n := range msgs {
				msgs[n] = link.Msg{Topic: "x/" + source, Payload: fmt.Appendf(nil, `{"x":%d,"n":%d}`, n%6, n+1), QoS: 1}
			}
			if n, err := c.Window(context.Background(), msgs); err != nil {
				t.Errorf("%s: %d acknowledged: %v", source, n, err)
			}
		})
	}
	for i := range swaps {
		came := up.len()
		until(t, "results between the swaps", func() bool { return up.len() > came || up.len() == len(sources)*each })
		if _, err := g.command(t.Context(), "model/rollback", []byte(`{"model":"sine"}`)); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			g.change("workers: 2", "workers: 1", "workers: 1", "workers: 2")
			if err := g.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		lives(t, s, fmt.Sprint(i%2))
	}
	clients.Wait()
	until(t, "all results", func() bool { return up.len() >= len(sources)*each })
	next, answers := map[string]uint64{}, map[string]float64{}
	for _, m := range up.all() {
		r := decode[struct {
			result
			Version string
		}](t, m.Payload)
		if next[m.Topic]++; r.Seq != next[m.Topic] || r.Version != "0" && r.Version != "1" || len(r.Values) != 1 {
			t.Fatalf("%s: %s after %d", m.Topic, m.Payload, next[m.Topic]-1)
		}
		said := fmt.Sprint(r.Version, " of ", (r.Seq-1)%6)
		if v, ok := answers[said]; ok && v != r.Values[0] {
			t.Fatalf("%s: version %s, and it was %v", m.Payload, said, v)
		}
		answers[said] = r.Values[0]
	}
	for _, s := range g.pipe.Status() {
		for reason, n := range s.Drops {
			if n > 0 {
				t.Errorf("%d dropped: %s", n, reason)
			}
		}
	}
}

// What is dropped into the inbox comes into the store, and no further.
func TestInbox(t *testing.T) {
	dir := t.TempDir()
	box := filepath.Join(dir, "inbox")
	if err := os.Mkdir(box, 0o700); err != nil {
		t.Fatal(err)
	}
	g := versioned(t, dir, "store: {inbox: "+box+"}\n")
	in := g.subscribe("models/+/status")
	copyModel(t, "hello_world_int8", filepath.Join(box, "sine.tflite"))
	if st := in.step(rollout.StepAdded, "1"); st.Version != "" || st.By != "sine.tflite" {
		t.Errorf("%+v", st)
	}
	if m := g.engine.Models()[0]; m.Version != "" {
		t.Errorf("version %q serves", m.Version)
	}
}

// A version that kills the process again and again does not come back.
func TestDeadlyVersion(t *testing.T) {
	dir := t.TempDir()
	g := versioned(t, dir, "")
	s := outside(t, g)
	in := g.subscribe("models/+/status")
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "1")
	in.step(rollout.StepLive, "1")
	// As one that is killed: Run, which says that it stops, is not what ends.
	g.stop()
	audit := filepath.Join(store.Dir(filepath.Join(dir, "edge")), "audit.jsonl")
	log, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSpace(log), []byte("\n"))
	if err := os.WriteFile(audit, bytes.Join(lines[:len(lines)-1], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	serving := func() string {
		t.Helper()
		cfg, err := LoadConfig(g.file)
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		return a.engine.Models()[0].Version
	}
	var got []string
	for range 4 {
		got = append(got, serving())
	}
	if strings.Join(got, " ") != "1 1 0 0" {
		t.Errorf("at each start served %v", got)
	}
	if state, err := s.State(); err != nil || state.Models["sine"].Find("1").Stage != store.Failed || !strings.Contains(state.Models["sine"].Find("1").Why, "ended without a word 3 times") {
		t.Errorf("%+v, %v", state.Models["sine"], err)
	}
}

// A model may have no file where a version of it is live, and a stream may be
// pinned; what cannot be served is refused by name.
func TestModelWithoutFile(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(store.Dir(filepath.Join(dir, "edge")), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	config := `
models: {sine: {output: regression}}
streams:
  s: {topics: [x/+], input: {json: [x]}, model: sine}
  old: {topics: [x/+], input: {json: [x]}, model: sine, version: 1.0}
`
	file := filepath.Join(dir, "edge.yaml")
	if err := os.WriteFile(file, []byte("gateway: edge\ndata: "+filepath.Join(dir, "edge")+rest+config), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func() string {
		t.Helper()
		cfg, err := LoadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		a, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry())
		if err == nil {
			a.Close()
			return ""
		}
		return err.Error()
	}
	addVersion(t, s, "sine@2", "hello_world_int8")
	if why := refused(); !strings.Contains(why, "models.sine.file: is missing, and the model has no live version") || !strings.Contains(why, "streams.old.version: ") {
		t.Error(why)
	}
	if err := s.Activate("sine", "2", "test"); err != nil {
		t.Fatal(err)
	}
	if why := refused(); strings.Contains(why, "models.sine") || !strings.Contains(why, "streams.old.version: ") || !strings.Contains(why, "1.0") {
		t.Error(why)
	}
	addVersion(t, s, "sine@1.0", "hello_world_float")
	g := begin(t, dir, "edge", config)
	c, in := g.client("sensor"), g.subscribe("results/#")
	if v := g.answering(c, in, 1); v != "2" {
		t.Errorf("version %q answers", v)
	}
	if v := decode[struct{ Version string }](t, in.on("results/old/a", "1.25").Payload).Version; v != "1.0" {
		t.Errorf("the pinned stream is answered by %q", v)
	}
	cfg, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if warning, gone, err := cfg.CheckFiles(); warning != nil || gone != nil || err != nil {
		t.Errorf("check says %v, %v, %v", warning, gone, err)
	}
	if _, err := g.command(t.Context(), "model/rm", []byte(`{"model":"sine@1.0"}`)); err == nil || !strings.Contains(err.Error(), "a stream is pinned to it") {
		t.Error(err)
	}
}

func FuzzModelCommand(f *testing.F) {
	f.Add([]byte(`{"id":1,"model":"door@3","version":"3","to":"2","force":true}`))
	f.Add([]byte(`{"model":"` + strings.Repeat("a", 70) + `"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := ParseModelCommand(payload)
		if err != nil {
			return
		}
		if store.CheckName(c.Model) != nil || strings.Contains(c.Model, "@") {
			t.Errorf("%q gives the model %q", payload, c.Model)
		}
	})
}

// What became of a version reaches each cloud that anything goes to, also one
// that gets results alone.
func TestStatusOfResultsAlone(t *testing.T) {
	for _, send := range []string{"results", "alerts"} {
		t.Run(send, func(t *testing.T) {
			cloud := begin(t, t.TempDir(), "cloud", "")
			up := cloud.subscribe("gateways/edge/models/#")
			g := versioned(t, t.TempDir(), strings.Replace(cloudOf(cloud.url), "alerts, results", send, 1))
			s := outside(t, g)
			addVersion(t, s, "sine", "hello_world_int8")
			wantVersion(t, s, store.DoActivate, "1")
			up.wait("the status at the cloud", func(m link.Msg) bool {
				return m.Topic == "gateways/edge/models/sine/status" && statusOf(m).Version == "1"
			})
		})
	}
}
