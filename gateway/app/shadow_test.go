package app

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"edgegateway/gateway/rollout"
	"edgegateway/infer/store"
	"edgegateway/internal/link"
)

// traffic sends numbers of several sources until it is stopped, a little ahead of
// what was answered.
type traffic struct {
	g    *gateway
	stop func()

	mu  sync.Mutex
	by  map[string]map[string]int // source: version: results
	say func(r heardResult)       // nil: nobody
}

type heardResult struct{ ID, Source, Version string }

func (g *gateway) traffic(sources int) *traffic {
	g.t.Helper()
	f := &traffic{g: g, by: map[string]map[string]int{}}
	room := make(chan struct{}, 200)
	results := g.client("counter")
	if err := results.Subscribe(g.t.Context(), []string{"results/#"}, 1, func(m link.Msg) {
		var r heardResult
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			g.t.Error(err)
			return
		}
		f.mu.Lock()
		if f.by[r.Source] == nil {
			f.by[r.Source] = map[string]int{}
		}
		f.by[r.Source][r.Version]++
		say := f.say
		f.mu.Unlock()
		if say != nil {
			say(r)
		}
		select {
		case <-room:
		default:
		}
	}); err != nil {
		g.t.Fatal(err)
	}
	c := g.client("traffic")
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case room <- struct{}{}:
			}
			if err := c.Publish(g.t.Context(), link.Msg{Topic: fmt.Sprint("x/", i%sources), Payload: fmt.Appendf(nil, `{"x":%v}`, float64(i%600)/100), QoS: 1}); err != nil {
				if g.t.Context().Err() == nil { // the test goes on
					g.t.Error(err)
				}
				return
			}
		}
	}()
	f.stop = sync.OnceFunc(func() { close(end); <-done })
	g.t.Cleanup(f.stop)
	return f
}

// versions are the versions that answered each source since they were asked for
// last.
func (f *traffic) versions() map[string]map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	by := f.by
	f.by = map[string]map[string]int{}
	return by
}

const bothStages = `
rollout:
  models:
    sine:
      shadow: {share: 1, keep: 20, tolerance: 0.05, promote: "samples >= 200 && agreement > 0.5 && errors == 0", withdraw: "samples >= 50 && agreement < 0.3"}
      canary: {share: 0.5, promote: PROMOTE, withdraw: "errors > 0"}
`

// A version goes through the shadow and the canary to all streams, each step is
// said, and the inputs on which the versions differ are kept.
func TestShadowCanaryLive(t *testing.T) {
	g := versioned(t, t.TempDir(), strings.ReplaceAll(bothStages, "PROMOTE", `"samples >= 200"`))
	s := outside(t, g)
	in := g.subscribe("models/#")
	f := g.traffic(20)
	last := map[string]string{}
	f.mu.Lock()
	f.say = func(r heardResult) { // one after the other
		if last[r.Source] == "1" && r.Version != "1" {
			t.Errorf("%s: version %q answered behind version 1", r.ID, r.Version)
		}
		last[r.Source] = r.Version
	}
	f.mu.Unlock()
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "1")
	if st := in.step(rollout.StepShadow, "1"); st.Version != "" || st.Wanted == nil || st.By != "test" {
		t.Errorf("%+v", st)
	}
	until(t, "counters are shown", func() bool { p, ok := g.roll.Progress("sine"); return ok && p.Samples > 0 })
	st := in.step(rollout.StepCanary, "1")
	if !strings.Contains(st.Why, "promoted by its rule samples >= 200 && agreement > 0.5 && errors == 0: ") {
		t.Errorf("%+v", st)
	}
	st = in.step(rollout.StepLive, "1")
	if st.Version != "1" || st.Previous != "0" || st.Wanted != nil || !strings.Contains(st.Why, "promoted by its rule samples >= 200: ") {
		t.Errorf("%+v", st)
	}
	until(t, "nothing is beside it any more", func() bool { _, ok := g.roll.Progress("sine"); return !ok })
	var over rollout.Progress
	in.wait("the counters of the shadow", func(m link.Msg) bool {
		return m.Topic == "models/sine/rollout" && json.Unmarshal(m.Payload, &over) == nil && over.Stage == store.Shadow
	})
	if over.Samples < 200 || over.Agreement < 0.5 || over.P99 <= 0 || over.Live.Samples == 0 || over.Live.Version != "" || over.Version != "1" || over.Over == "" {
		t.Errorf("%+v", over)
	}
	if over.Agreement < 1 {
		until(t, "inputs are kept", func() bool {
			for _, d := range g.sets.Status() {
				if d.Stream == "s.differ" && d.Samples > 0 && d.Samples <= 20 {
					return true
				}
			}
			return false
		})
	}
}

// What a rule withdraws never answers; the next wish is done beside a stage that
// goes on, and a command ends it or makes it live.
func TestShadowDecided(t *testing.T) {
	g := versioned(t, t.TempDir(), `
rollout:
  models:
    sine: {shadow: {share: 0.5, promote: "", withdraw: "samples >= 50 && agreement <= 1"}}
`)
	s := outside(t, g)
	in := g.subscribe("models/#")
	f := g.traffic(4)
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "1")
	st := in.step(rollout.StepWithdrawn, "1")
	if st.Version != "" || st.Wanted != nil || !strings.Contains(st.Why, "withdrawn by its rule samples >= 50 && agreement <= 1: ") {
		t.Errorf("%+v", st)
	}
	state, err := s.State()
	if v := state.Models["sine"].Find("1"); err != nil || v.Stage != store.Withdrawn || v.Why != st.Why {
		t.Errorf("%+v, %v", v, err)
	}
	for source, by := range f.versions() {
		if by["1"] > 0 {
			t.Errorf("source %s was answered by it: %v", source, by)
		}
	}
	g.change("samples >= 50 && agreement <= 1", "samples < 0")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	addVersion(t, s, "sine@2", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "2")
	in.step(rollout.StepShadow, "2")
	if _, err := g.command(t.Context(), "model/withdraw", []byte(`{"model":"sine@2"}`)); err != nil {
		t.Fatal(err)
	}
	in.step(rollout.StepWithdrawn, "2")
	if _, err := g.command(t.Context(), "model/withdraw", []byte(`{"model":"sine"}`)); err == nil || !strings.Contains(err.Error(), "no version is beside the live one") {
		t.Errorf("of a withdrawal with nothing beside: %v", err)
	}
	if _, err := g.command(t.Context(), "model/activate", []byte(`{"model":"sine","version":3}`)); err == nil || !strings.Contains(err.Error(), `"version" is a JSON number, and has to be a string`) {
		t.Errorf("of a version without quotes: %v", err)
	}
	addVersion(t, s, "sine@2.1", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "2.1")
	in.step(rollout.StepShadow, "2.1")
	addVersion(t, s, "sine@3", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "3") // in the place of 2.1
	if st := in.step(rollout.StepWithdrawn, "2.1"); st.Why != "withdrawn: a rollout of version 3 is wanted" {
		t.Errorf("%+v", st)
	}
	in.step(rollout.StepShadow, "3")
	// What is beside a model that a reload exchanges begins anew.
	g.change("output: regression", "output: regression, top: 3")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	in.wait("the shadow begins anew", func(m link.Msg) bool {
		s := statusOf(m)
		return s.Step == rollout.StepShadow && s.Of == "3" && s.Why == "the version that it is beside of changed"
	})
	until(t, "it is asked", func() bool {
		p, ok := g.roll.Progress("sine")
		return ok && p.Version == "3" && p.Samples > 0 && p.Live.Samples > 0
	})
	_, metrics := get(t, "http://"+g.DashboardAddr()+"/metrics")
	if !strings.Contains(metrics, `edgegateway_model_beside_samples{model="sine"} `) || strings.Contains(metrics, `edgegateway_model_beside_samples{model="sine"} 0`) {
		t.Error("the metrics do not tell of it")
	}
	if _, err := g.command(t.Context(), "model/promote", []byte(`{"model":"sine"}`)); err != nil {
		t.Fatal(err)
	}
	st = in.step(rollout.StepLive, "3")
	if st.Version != "3" || st.By != fromCloud {
		t.Errorf("%+v", st)
	}
	if _, err := g.command(t.Context(), "model/promote", []byte(`{"model":"sine"}`)); err == nil || !strings.Contains(err.Error(), "no version is beside the live one") {
		t.Error(err)
	}
	f.versions()
	until(t, "all sources are answered by it", func() bool {
		by := f.versions()
		for _, v := range by {
			if v["3"] == 0 {
				return false
			}
		}
		return len(by) > 0
	})
}

// A gateway that ends while a version is a canary begins there again.
func TestCanaryAfterRestart(t *testing.T) {
	dir := t.TempDir()
	config := strings.ReplaceAll(bothStages, "PROMOTE", `"false"`)
	g := versioned(t, dir, config)
	s := outside(t, g)
	in := g.subscribe("models/#")
	f := g.traffic(20)
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "1")
	in.step(rollout.StepCanary, "1")
	f.stop()
	g.stop()
	state, err := s.State()
	if m := state.Models["sine"]; err != nil || m.Want == nil || m.Find("1").Stage != store.Canary {
		t.Fatalf("%+v, %v", m, err)
	}
	g = versioned(t, dir, config)
	in = g.subscribe("models/#")
	f = g.traffic(20)
	in.wait("the canary again", func(m link.Msg) bool {
		s := statusOf(m)
		return s.Step == rollout.StepCanary && s.Why == "it was when the gateway ended"
	})
	until(t, "some sources are answered by it, and some are not", func() bool {
		one, other := 0, 0
		for _, by := range f.versions() {
			one += by["1"]
			other += by[""]
		}
		return one > 0 && other > 0
	})
	f.versions()
	by := map[string]map[string]int{}
	until(t, "all sources are answered", func() bool {
		for source, versions := range f.versions() {
			if by[source] == nil {
				by[source] = map[string]int{}
			}
			for v, n := range versions {
				by[source][v] += n
			}
		}
		for _, versions := range by {
			if versions["1"]+versions[""] < 10 {
				return false
			}
		}
		return len(by) == 20
	})
	canaries := 0
	for source, versions := range by {
		if len(versions) != 1 {
			t.Errorf("source %s is answered by %v", source, versions)
		}
		if versions["1"] > 0 {
			canaries++
		}
	}
	if canaries < 3 || canaries > 17 {
		t.Errorf("%d canaries: %v", canaries, by)
	}
}

// Labels that arrive later decide by accuracy: a version that is right less often
// is withdrawn in the shadow, and taken back where it went live all the same.
func TestLabelsArrive(t *testing.T) {
	dir := t.TempDir()
	copyModel(t, "hello_world_float", filepath.Join(dir, "sine.tflite"))
	g := begin(t, dir, "edge", `
models: {sine: {file: sine.tflite, output: classes, label_list: [wave]}}
streams: {s: {topics: [x/+], input: {json: [x]}, model: sine, workers: 2}}
rollout:
  accuracy: 0.05
  models:
    sine:
      labels: {topic: truth/+}
      canary: {share: 0.5, promote: "false", withdraw: "labels >= 50 && live.labels >= 50 && accuracy < live.accuracy - 0.5"}
`)
	s := outside(t, g)
	in := g.subscribe("models/#")
	teacher := g.client("teacher")
	f := g.traffic(20)
	f.mu.Lock()
	f.say = func(r heardResult) { // the model has the one class
		right := "no wave"
		if r.Version == "" || r.Version == "0" {
			right = "wave"
		}
		_ = teacher.Publish(t.Context(), link.Msg{Topic: "truth/x", Payload: fmt.Appendf(nil, `{"id":%q,"label":%q}`, r.ID, right)})
	}
	f.mu.Unlock()
	addVersion(t, s, "sine@1", "hello_world_int8")
	wantVersion(t, s, store.DoRollout, "1")
	st := in.step(rollout.StepWithdrawn, "1")
	if !strings.Contains(st.Why, "accuracy 0.0000 of ") || !strings.Contains(st.Why, "(live 1.0000 of ") {
		t.Errorf("%+v", st)
	}
	addVersion(t, s, "sine@2", "hello_world_int8")
	wantVersion(t, s, store.DoActivate, "2")
	in.step(rollout.StepLive, "2")
	st = in.step(rollout.StepRolledBack, "2")
	if st.Version != "0" || !strings.Contains(st.Why, "its accuracy is 0.0000 of ") {
		t.Errorf("%+v", st)
	}
}
