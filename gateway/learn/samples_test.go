package learn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/fl"
	"edgegateway/gateway/dataset"
	"edgegateway/gateway/pipeline"
	"edgegateway/infer/train"
)

// Where a task finds no samples, the gateway says why, and the coordinator hears
// of no other stream.
func TestLacking(t *testing.T) {
	data := t.TempDir()
	csv := filepath.Join(data, "press.csv")
	if err := os.WriteFile(csv, []byte("a,b,class\n1,2,good\n3,4,worn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := dataset.ImportCSV(data, "press", csv, train.CSVConfig{Target: []string{"class"}}, nil); err != nil {
		t.Fatal(err)
	}
	g := &Gateway{Data: data, Streams: func() map[string]pipeline.Config {
		return map[string]pipeline.Config{"press": {Record: &pipeline.RecordConfig{}}, "porch": {}}
	}}
	for want, set := range map[string]func(*fl.Task){
		"": func(*fl.Task) {},
		"no stream pres records here; those that do: press":                                      func(t *fl.Task) { t.Data.Stream = "pres" },
		"no stream porch records here; those that do: press":                                     func(t *fl.Task) { t.Data.Stream = "porch" },
		"2 samples of stream press do not fit the task: it has 2 values, and not 3":              func(t *fl.Task) { t.Model.Input = []int{3} },
		`1 samples of stream press do not fit the task: its label "worn" is none of the classes`: func(t *fl.Task) { t.Model.Classes = []string{"good", "bad"} },
	} {
		task := fl.DefaultTask()
		task.Data.Stream, task.Model.Input, task.Model.Classes = "press", []int{2}, []string{"good", "worn"}
		set(&task)
		s := newSamples(g, &task)
		if _, err := s.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.lacking(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if _, err := s.Load(t.Context(), 1); err != nil && strings.Contains(err.Error(), "press") && task.Data.Stream != "press" {
			t.Errorf("the coordinator is told %v", err)
		}
	}
}
