package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
	"edgegateway/sensors"
)

// press is a stream of two values that records.
func press(label *pipeline.LabelConfig) pipeline.Config {
	cfg := pipeline.DefaultConfig()
	cfg.Topics = []string{"press/+"}
	cfg.Input = sensors.DefaultInputConfig()
	cfg.Input.JSON = []string{"x", "y"}
	cfg.Record = &pipeline.RecordConfig{Every: "1", MaxSamples: 1000, MaxBytes: 1 << 20, Label: label}
	return cfg
}

func result(source string, at time.Time, x float64) *pipeline.Result {
	return &pipeline.Result{ID: fmt.Sprint(x), Stream: "press", Source: source, Time: at, Received: at, Features: []pipeline.Feature{{Name: "x", Value: x}, {Name: "y", Value: 0}}}
}

// labelled records one sample a second for a source and gives their labels.
func labelled(t *testing.T, r *Recorder, data string, stop func(), n int) (list []string) {
	t.Helper()
	for i := range n {
		res := result("a", noon.Add(time.Duration(i)*time.Second), float64(i))
		r.Record(res, []float64{float64(i), 0})
	}
	stop()
	samples, _ := all(t, Dir(data, "press"))
	for _, s := range samples {
		list = append(list, s.ID+s.Label)
	}
	return list
}

// Labels of a topic hold from their message on, for their time, for their
// source or all; a sample that waited gets the label of when it came.
func TestLabelOfTopic(t *testing.T) {
	data := t.TempDir()
	r, stop := recorder(t, data, map[string]pipeline.Config{"press": recording(t, press(&pipeline.LabelConfig{Topic: "state/+", Path: "state", For: 3 * time.Second, Unlabelled: true}))})
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	r.Hear("press", "a", []byte(`{"state":"run"}`), at(1))
	r.Hear("press", "b", []byte(`{"state":"other"}`), at(2))
	r.Hear("press", "a", []byte(`{"state":7}`), at(6))
	r.Hear("press", "a", []byte(`{"status":"x"}`), at(7)) // ends it
	r.Hear("press", "", []byte(`{"state":"all"}`), at(8))
	got := labelled(t, r, data, stop, 10)
	want := []string{"0", "1run", "2run", "3run", "4", "5", "67", "7", "8all", "9all"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A command is before the topic, for its time; the rule fills what is left,
// and what has no label still is not kept, and counted.
func TestLabelOfCommandAndRule(t *testing.T) {
	data := t.TempDir()
	r, stop := recorder(t, data, map[string]pipeline.Config{"press": recording(t, press(&pipeline.LabelConfig{Topic: "state", Rule: `x > 8 ? "hot" : ""`}))})
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	r.Hear("press", "", []byte(" topic \n"), at(1))
	for _, c := range []Command{{Stream: "press", Label: "hand", For: "2s"}, {Stream: "press", Source: "b", Label: "no"}} {
		if err := r.Label(c, at(3)); err != nil {
			t.Fatal(err)
		}
	}
	r.Hear("press", "", nil, at(6))
	got := labelled(t, r, data, stop, 11)
	want := []string{"1topic", "2topic", "3hand", "4hand", "5topic", "9hot", "10hot"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if st := r.Status()[0]; st.Samples != 7 || st.Recorded != 7 || st.Dropped != 4 || st.Bytes == 0 || st.Error != "" {
		t.Errorf("status %+v", st)
	}
	for _, c := range []Command{{Stream: "other", Label: "x"}, {Stream: "press", Label: "x", For: "soon"}, {Stream: "press", For: "-1s"}} {
		if err := r.Label(c, noon); err == nil {
			t.Errorf("%+v: taken", c)
		}
	}
	for text, want := range map[string]string{"fault": "fault", `{"label":"a","for":"1s"}`: "a", `{"label":`: "!", "": ""} {
		if c, err := ParseCommand([]byte(text)); (err != nil) != (want == "!") || err == nil && c.Label != want {
			t.Errorf("%q: %+v %v", text, c, err)
		}
	}
}

// The model's own label where it is sure, by a rule over the result.
func TestRuleOverModel(t *testing.T) {
	cfg := press(&pipeline.LabelConfig{Rule: `score > 0.9 ? label : ""`})
	cfg.Model = "m"
	s, err := newStream("press", recording(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	for score, want := range map[float64]string{0.95: "face", 0.5: ""} {
		res := result("a", noon, 1)
		res.Infer = infer.Result{Model: "m", Label: "face", Score: score}
		if got := s.label(res); got != want {
			t.Errorf("score %v: %q", score, got)
		}
	}
	cfg.Record.Label.Rule = "score > 0.9"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "record.label.rule") {
		t.Errorf("a rule that gives no text: %v", err)
	}
	cfg.Record.Label.Rule = `scroe > 0.9 ? "a" : ""`
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "score") {
		t.Errorf("a wrong name: %v", err)
	}
}

// A disk that does not come along holds up no stream: what is over the queue
// is dropped and counted, by number and by bytes.
func TestFullQueueDoesNotWait(t *testing.T) {
	data := t.TempDir()
	streams := map[string]pipeline.Config{"press": recording(t, press(nil))}
	r, stop := recorder(t, data, streams)
	stop() // nobody takes any more
	for i := range queueSamples + 5 {
		r.Record(result("a", noon, float64(i)), []float64{1, 2})
	}
	if st := r.Status()[0]; st.Dropped != 5 {
		t.Errorf("%d dropped", st.Dropped)
	}
	r, stop = recorder(t, data, streams)
	stop()
	big := make([]float64, queueBytes/8/4+1)
	for range 5 {
		r.Record(result("a", noon, 0), big)
	}
	if st := r.Status()[0]; st.Dropped != 2 {
		t.Errorf("%d dropped by bytes", st.Dropped)
	}
}

// A disk that takes nothing is said, and when it does again the stream goes
// on recording.
func TestDiskTakesNothing(t *testing.T) {
	data := t.TempDir()
	block := blocked(t, filepath.Join(data, "datasets"))
	r, stop := recorder(t, data, map[string]pipeline.Config{"press": recording(t, press(nil))})
	defer stop()
	until(t, func() bool { return r.Status()[0].Error != "" })
	r.Record(result("a", noon, 1), []float64{1, 0})
	until(t, func() bool { return r.Status()[0].Dropped == 1 })
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	r.Record(result("a", noon, 2), []float64{2, 0})
	until(t, func() bool { st := r.Status()[0]; return st.Recorded == 1 && st.Error == "" })
	if got, _ := all(t, Dir(data, "press")); len(got) != 1 || got[0].ID != "2" {
		t.Errorf("%v", got)
	}
}

// blocked puts a file where a folder should be.
func blocked(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func until(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited long enough")
		}
	}
}
