package alert

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
)

func newPictureEngine(rules map[string]Config, dir string, w *world) (*Engine, error) {
	fields := func(string) (Fields, error) { return Fields{Model: true}, nil }
	return New(rules, fields, dir, w, zerolog.Nop(), prometheus.NewRegistry())
}

// A condition that cannot be right is refused when the rule is loaded.
func TestConditionsChecked(t *testing.T) {
	for _, c := range []struct {
		when, clear string
		model       bool
		want        string // "": it is right
	}{
		{when: "v > 10"},
		{when: "w.mean > 10 and seq > 3 and stream == 's'"},
		{when: "features['anything.at.all'] > 1"},
		{when: "a.b.mean > 1 or a.b.max > 1"},
		{when: "label == 'cat' and score > 0.5", model: true},
		{when: "any(objects, .label == 'face' and .box[2] - .box[0] > 0.5)", model: true},
		{when: "len(values) > 3 and values[0] > 1", model: true},
		{when: "top[0].label == 'cat'", model: true},
		{when: "v > 10", clear: "v < 5"},
		{when: "v > 10", clear: "90s"},

		{when: "u > 10", want: `alerts.hot.when: "u > 10": unknown name u`},
		{when: "w.max > 10", want: "alerts.hot.when: "},
		{when: "a.b.min > 1", want: "alerts.hot.when: "},
		{when: "label == 'cat'", want: "alerts.hot.when: "},
		{when: "v > 'high'", want: "alerts.hot.when: "},
		{when: "v", want: "alerts.hot.when: "},
		{when: "v >", want: "alerts.hot.when: "},
		{when: "any(objects, .lable == 'face')", model: true, want: "alerts.hot.when: "},
		{when: "label > 3", model: true, want: "alerts.hot.when: "},
		{when: "v > 10", clear: "5 seconds", want: "alerts.hot.clear: "},
		{when: "v > 10", clear: "u < 5", want: "alerts.hot.clear: "},
		{when: "v > 10", clear: "-5s", want: "alerts.hot.clear: "},
	} {
		f := Fields{Features: []string{"v", "w.mean", "a.b.mean", "a.b.max"}, Model: c.model}
		rules := rule1(func(r *Config) { r.When, r.Clear = c.when, c.clear })
		_, err := New(rules, func(string) (Fields, error) { return f, nil }, t.TempDir(), &world{}, zerolog.Nop(), prometheus.NewRegistry())
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.when, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s, %s: got %v, want %s", c.when, c.clear, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("the error has lines: %q", err)
		}
	}
	gone := errors.New("there is no stream")
	_, err := New(rule1(nil), func(string) (Fields, error) { return Fields{}, gone }, t.TempDir(), &world{}, zerolog.Nop(), prometheus.NewRegistry())
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "alerts.hot.stream: ") {
		t.Errorf("%v", err)
	}
}

// What compiles finds at run time what it was promised, also where a feature
// is named as a part of the result is.
func TestEnvironmentKeepsItsTypes(t *testing.T) {
	r := &pipeline.Result{
		Stream: "s", Source: "a", Seq: 7,
		Features: []pipeline.Feature{{Name: "label", Value: 1}, {Name: "score.mean", Value: 2}, {Name: "a.b.mean", Value: 3}, {Name: "stream", Value: 4}, {Name: "a.b.max", Value: 5}},
		Infer: infer.Result{Model: "m", Label: "cat", Score: 0.5, Values: []float64{8}, Top: []infer.Class{{Label: "cat", Score: 0.5}},
			Objects: []infer.Object{{Label: "face", Score: 0.9, Box: [4]float64{0.1, 0.2, 0.3, 0.4}}}},
	}
	f := Fields{Model: true}
	for _, x := range r.Features {
		f.Features = append(f.Features, x.Name)
	}
	rules := &rule{log: zerolog.Nop()}
	for _, text := range []string{
		"label == 'cat' and score == 0.5", "features['label'] == 1", "features['score.mean'] == 2", "a.b.mean == 3 and a.b.max == 5",
		"stream == 's' and features['stream'] == 4", "seq == 7 and source == 'a'", "values[0] == 8 and len(values) == 1", "top[0].label == label",
		"objects[0].box[3] == 0.4 and objects[0].score > 0.8", "not ((features['none'] ?? 0) > 1)",
	} {
		p, err := pipeline.Condition(text, f)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if out, err := rules.vm.Run(p, pipeline.Environment(r)); err != nil || out != true {
			t.Errorf("%s: %v, %v", text, out, err)
		}
	}
	// A condition that cannot be answered is false, not a crash.
	p, err := pipeline.Condition("top[5].score > 0", f)
	if err != nil {
		t.Fatal(err)
	}
	if rules.eval(p, pipeline.Environment(r), rules.failed.AddDate(1, 0, 0)) {
		t.Error("the sixth of one class is over 0")
	}
	// Without a model its names are free for features.
	plain := &pipeline.Result{Features: []pipeline.Feature{{Name: "label", Value: 3}}}
	if p, err = pipeline.Condition("label == 3", Fields{Features: []string{"label"}}); err != nil {
		t.Fatal(err)
	}
	if !rules.eval(p, pipeline.Environment(plain), rules.failed) {
		t.Error("a feature called label")
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"stream: ":                       func(c *Config) { c.Stream = "" },
		"when: ":                         func(c *Config) { c.When = "" },
		"for: ":                          func(c *Config) { c.For = "5 of 3" },
		`for: "0 of 3"`:                  func(c *Config) { c.For = "0 of 3" },
		`for: "1 of 65"`:                 func(c *Config) { c.For = "1 of 65" },
		"hold: ":                         func(c *Config) { c.Hold = -1 },
		"repeat: ":                       func(c *Config) { c.Repeat = 1 },
		"severity: ":                     func(c *Config) { c.Severity = "bad" },
		"message: ":                      func(c *Config) { c.Message = "{{.Source" },
		"clear_message: ":                func(c *Config) { c.Over = "{{" },
		"publish[0].topic: ":             func(c *Config) { c.Publish = []PublishConfig{{}} },
		"publish[0].payload: ":           func(c *Config) { c.Publish = []PublishConfig{{Topic: "a", Payload: "{{nosuch}}"}} },
		"publish[0].on[0]: ":             func(c *Config) { c.Publish = []PublishConfig{{Topic: "a", On: []string{"lit"}}} },
		"webhook[0].url: ":               func(c *Config) { c.Webhook = []WebhookConfig{{URL: "ftp://a/b"}} },
		"webhook[0].url: is no template": func(c *Config) { c.Webhook = []WebhookConfig{{URL: "http://a/{{.Source}}"}} },
		"webhook[0].headers.X: is no template": func(c *Config) {
			c.Webhook = []WebhookConfig{{URL: "http://a/b", Headers: map[string]string{"X": "{{.ID}}"}}}
		},
		`message: {{.Sorce}}: there is no "Sorce"`:     func(c *Config) { c.Message = "at {{.Sorce}}" },
		`clear_message: {{.source}}: there is no`:      func(c *Config) { c.Over = "at {{.source}}" },
		`publish[0].topic: {{.Strem}}: there is no`:    func(c *Config) { c.Publish = []PublishConfig{{Topic: "a/{{.Strem}}"}} },
		`publish[0].payload: {{.Result.lable}}: there`: func(c *Config) { c.Publish = []PublishConfig{{Topic: "a", Payload: `{{printf "%s" .Result.lable}}`}} },
		`webhook[0].body: {{$.Sevrity}}: there is`: func(c *Config) {
			c.Webhook = []WebhookConfig{{URL: "http://a/b", Body: "{{range .Result.top}}{{.label}}{{$.Sevrity}}{{end}}"}}
		},
		`command[0].run[0]: {{.Picure}}: there is`: func(c *Config) {
			c.Command = []CommandConfig{{Run: []string{"{{if .Count}}{{else}}{{.Picure}}{{end}}"}}}
		},
		"begins with a dot: {{.Source}}":      func(c *Config) { c.Message = "{{Source}}" },
		`webhook[0].method: "P OST"`:          func(c *Config) { c.Webhook = []WebhookConfig{{URL: "http://a/b", Method: "P OST"}} },
		`publish[0].topic: "$SYS/x"`:          func(c *Config) { c.Publish = []PublishConfig{{Topic: "$SYS/x"}} },
		`publish[0].topic: "a/{{.Source}}/+"`: func(c *Config) { c.Publish = []PublishConfig{{Topic: "a/{{.Source}}/+"}} },
		"webhook[0].body: ":                   func(c *Config) { c.Webhook = []WebhookConfig{{URL: "http://a/b", Body: "{{"}} },
		"command[0].run: ":                    func(c *Config) { c.Command = []CommandConfig{{}} },
		"command[0].run[1]: ":                 func(c *Config) { c.Command = []CommandConfig{{Run: []string{"a", "{{"}}} },
		"command[0].timeout: -":               func(c *Config) { c.Command = []CommandConfig{{Run: []string{"a"}, Timeout: -1}} },
	} {
		if err := rule1(change)["hot"].Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := rule1(nil)["hot"].Validate(); err != nil {
		t.Error(err)
	}
}

// Templates over all that an event has are taken and filled.
func TestTemplates(t *testing.T) {
	e := &Event{Alert: "hot", Source: "kitchen", State: Raised, Count: 3, Result: []byte(`{"label":"cat","score":0.25,"seq":7,"features":{"t":31.5,"cpu.mean":0.5},"top":[{"label":"cat","score":0.25}]}`)}
	for text, want := range map[string]string{
		"{{.Alert}} {{.State}} at {{.Source}}, {{.Count}}": "hot raised at kitchen, 3",
		"{{.Result.label}} {{.Result.score}}":              "cat 0.25",
		"{{.Result.features.t}}":                           "31.5",
		`{{index .Result.features "cpu.mean"}}`:            "0.5",
		"{{range .Result.top}}{{.label}}{{end}}":           "cat",
		"{{with .Result.top}}{{len .}}{{end}}":             "1",
		"{{.Result.model}}":                                "",
		"{{json .Source}}":                                 `"kitchen"`,
		"{{json .Result.top}}":                             `[{"label":"cat","score":0.25}]`,
		`{{printf "%.1f" .Result.score}}`:                  "0.2",
		"{{$s := .Source}}{{$s}}":                          "kitchen",
		`{{if eq .State "raised"}}ON{{else}}OFF{{end}}`:    "ON",
		`{{define "x"}}{{.any}}{{end}}a`:                   "a",
	} {
		if errs := checkTemplate("message", text); errs != nil {
			t.Errorf("%s: %v", text, errs)
		}
		if got, err := render(text, e); err != nil || string(got) != want {
			t.Errorf("%s gives %q, %v; want %q", text, got, err, want)
		}
	}
	// What shows with an event only is told without the library's words.
	_, err := render("{{.Result.features.gone}}", e)
	if want := `a template of the alert: {{.Result.features.gone}}: map has no entry for key "gone"`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// The filter of a templated topic covers whatever the template gives.
func TestTopics(t *testing.T) {
	for topic, want := range map[string]string{
		"zigbee2mqtt/lamp/set":            "zigbee2mqtt/lamp/set",
		"lamp/{{.Source}}/set":            "lamp/#",
		"lamp/of-{{.Source}}":             "lamp/#",
		"{{.Source}}/set":                 "#",
		`a/{{"}}"}}/b`:                    "a/#",
		`a/{{if true}}x{{else}}y{{end}}b`: "a/#",
		"a/b/{{- .Source}}":               "a/b/#",
	} {
		c := Config{Publish: []PublishConfig{{Topic: topic}}}
		if got := c.Topics(); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %s", topic, got, want)
		}
	}
}
