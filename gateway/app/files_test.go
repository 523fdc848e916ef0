package app

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/testkit"
)

// A model that is missing or broken, its labels, and a stream that can never
// fill its model are refused with the place and the way out: by a check, at
// the start and at a reload alike.
func TestModelFilesAreHeldAgainstStreams(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"text.tflite": "this is a text", "bad.txt": "\n", "right.txt": "a\nb\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range map[string]string{"sine": "hello_world_float", "noise": "ad01_fp32", "person": "vww_96_int8", "words": "kws_ref_model", "faces": "face_detection_front"} {
		if err := os.Symlink(testkit.Shared(t, "models/"+file+".tflite"), filepath.Join(dir, name+".tflite")); err != nil {
			t.Fatal(err)
		}
	}
	const right = "models: {m: {file: sine.tflite}}\nstreams: {s: {topics: [a], input: {json: [x]}, model: m}}\n"
	g := begin(t, dir, "running", right)
	const top = "gateway: bad\ndata: other\nbroker: {listeners: [{tcp: '127.0.0.1:0'}]}\n\n\n" // as many lines as begin writes
	for name, tt := range map[string]struct {
		config string
		absent bool // a check only tells it
		want   []string
	}{
		"fits":            {config: right},
		"missing":         {"models: {m: {file: gone.tflite}}\n", true, []string{":6:14: models.m.file: ", "gone.tflite: no such file"}},
		"text":            {"models: {m: {file: text.tflite}}\n", false, []string{":6:14: models.m.file: ", "text.tflite: not a valid .tflite file"}},
		"labels":          {"models: {m: {file: sine.tflite, labels: gone.txt}}\n", true, []string{":6:33: models.m.labels: ", "gone.txt: no such file"}},
		"bad labels":      {"models: {m: {file: sine.tflite, labels: bad.txt}}\n", false, []string{":6:33: models.m.labels: ", "bad.txt"}},
		"too many labels": {"models: {m: {file: sine.tflite, output: classes, labels: right.txt}}\n", false, []string{":6:50: models.m.labels: ", "right.txt: 2 labels, and output"}},
		"too long a list": {"models: {m: {file: sine.tflite, output: classes, label_list: [a, b]}}\n", false, []string{":6:50: models.m.label_list: 2 labels"}},
		"detection":       {"models: {m: {file: faces.tflite, output: detection}}\n", false, []string{":6:34: models.m.output: a detection needs 4 outputs (boxes, classes, scores, count), the model has 2"}},
		"reconstruction":  {"models: {m: {file: faces.tflite, output: reconstruction}}\n", false, []string{":6:34: models.m.output: a reconstruction needs an output as large as the input"}},
		"no class vector": {"models: {m: {file: faces.tflite, output: classes}}\n", false, []string{":6:34: models.m.output: classes need an output with one number a class, output \"regressors\" is [1 896 16]"}},
		"no faces":        {"models: {m: {file: sine.tflite, output: blazeface}}\n", false, []string{":6:33: models.m.output: blazeface needs a square picture"}},
		"face threshold":  {"models: {m: {file: faces.tflite, threshold: 50}}\n", false, []string{":6:34: models.m.threshold: 50 is not in 0..1"}},
		"class threshold": {"models: {m: {file: words.tflite, threshold: -0.1}}\n", false, []string{":6:34: models.m.threshold: -0.1 is not in 0..1"}},
		"right threshold": {config: "models: {m: {file: faces.tflite, threshold: 1}, n: {file: sine.tflite, output: classes, threshold: 50}}\n"},
		"right labels":    {config: "models: {m: {file: words.tflite, labels: right.txt}}\n"},
		"library":         {"infer: {library: gone.so}\nmodels: {m: {file: sine.tflite}}\n", true, []string{":6:9: infer.library: ", "gone.so"}},
		"picture model, numbers": {"models: {m: {file: person.tflite}}\nstreams: {s: {topics: [a], input: {json: [x, y]}, model: m}}\n", false,
			[]string{":7:51: streams.s.model: \"m\" takes 27648 numbers (1x96x96x3 int8), a message gives 2; ", "input: {image: auto}"}},
		"number model, pictures": {"models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {image: jpeg}, model: m}}\n", false,
			[]string{`streams.s.model: "m" takes 1x640 float32 and no pictures`}},
		"picture fits":   {config: "models: {m: {file: person.tflite}}\nstreams: {s: {topics: [a], input: {image: jpeg}, model: m}}\n"},
		"one number":     {"models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {number: true}, model: m}}\n", false, []string{"takes 640 numbers (1x640 float32), a message gives 1; window: {size: 640} fits"}},
		"csv":            {"models: {m: {file: sine.tflite}}\nstreams: {s: {topics: [a], input: {csv: {columns: [x, y]}}, model: m}}\n", false, []string{"takes 1 number (1x1 float32), a message gives 2"}},
		"window":         {"models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {json: [x, y]}, window: {size: 64}, model: m}}\n", false, []string{"a window of size 64 gives 128; window: {size: 320} fits"}},
		"window fits":    {config: "models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {json: [x, y]}, window: {size: 320}, model: m}}\n"},
		"window by time": {config: "models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {json: [x, y]}, window: {size: 10s}, model: m}}\n"},
		"features":       {"models: {m: {file: sine.tflite}}\nstreams: {s: {topics: [a], input: {json: [x, y]}, window: {size: 10s}, features: [mean], model: m}}\n", false, []string{"the features of a window are 2"}},
		"features fit":   {config: "models: {m: {file: sine.tflite}}\nstreams: {s: {topics: [a], input: {json: [x]}, window: {size: 10s}, features: [mean], model: m}}\n"},
		"channels":       {"models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {raw: f32le, channels: [x, y, z]}, model: m}}\n", false, []string{"a message gives whole readings of 3"}},
		"channels fit":   {config: "models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {raw: f32le, channels: [x, y]}, model: m}}\n"},
		"any length":     {config: "models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {json: ['x[*]']}, model: m}, r: {topics: [b], input: {raw: f32le}, model: m}}\n"},
		"normalise":      {"models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {raw: f32le}, normalise: {mean: [1, 2, 3]}, model: m}}\n", false, []string{"streams.s.normalise.mean: 3 numbers do not go into the 640"}},
		"normalise fits": {config: "models: {m: {file: noise.tflite}}\nstreams: {s: {topics: [a], input: {raw: f32le}, normalise: {mean: [1, 2]}, model: m}}\n"},
		"tensor":         {config: "models: {m: {file: person.tflite}}\nstreams: {s: {topics: [a], input: {raw: tensor}, model: m}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "bad.yaml")
			if err := os.WriteFile(file, []byte(top+tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := LoadConfig(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Data = t.TempDir()
			says := func(who string, err error) {
				t.Helper()
				var config *ConfigError
				if (err != nil) != (tt.want != nil) || err != nil && !errors.As(err, &config) {
					t.Fatalf("%s says %v", who, err)
				}
				for _, w := range tt.want {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%s says %v, without %q", who, err, w)
					}
				}
			}
			warning, absent, err := cfg.CheckFiles()
			switch {
			case tt.absent:
				says("the check", absent)
				if err != nil {
					t.Error(err)
				}
			default:
				says("the check", err)
				if (warning != nil) != (name == "right labels") {
					t.Errorf("the check warns: %v", warning)
				}
				if absent != nil {
					t.Error(absent)
				}
			}
			a, err := New(cfg, nil, nil, zerolog.Nop(), prometheus.NewRegistry())
			if err == nil {
				err = a.Close()
			}
			says("the start", err)
			if name == "library" {
				return // cannot change
			}
			g.change(right, tt.config)
			says("the reload", g.Reload())
			g.change(tt.config, right)
			if err := g.Reload(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Labels that name a part of the classes are served, and a check and the log
// say so.
func TestLabelsOfAPart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	text := "broker: {listeners: [{tcp: '127.0.0.1:0'}]}\nmodels: {m: {file: '" + testkit.Shared(t, "models/kws_ref_model.tflite") + "', label_list: [down, go]}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = filepath.Join(dir, "data")
	const want = "label_list: names 2 of the 12 classes; the others are reported by their numbers, from 2 on"
	warning, absent, err := cfg.CheckFiles()
	if absent != nil || err != nil || warning == nil || !strings.HasSuffix(warning.Error(), ": models.m."+want) {
		t.Errorf("the check says %v, %v, %v", warning, absent, err)
	}
	var out bytes.Buffer
	a, err := New(cfg, nil, nil, zerolog.New(&out), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), want); n != 1 || !strings.Contains(out.String(), `"level":"warn"`) {
		t.Errorf("the log says it %d times: %s", n, out.String())
	}
}
