package infer

import (
	"math"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestConfigRefuses: each error begins with the path of its field.
func TestConfigRefuses(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, d := range []string{"", "auto", "builtin", "builtin:2", "xnnpack:3", "xnnpack:3:2", "external"} {
		if err := (ModelConfig{File: "x", Delegate: d}).Validate(); err != nil {
			t.Errorf("%q: %v", d, err)
		}
	}
	nan := math.NaN()
	for want, err := range map[string]error{
		"workers: -1":         Config{Workers: -1}.Validate(),
		"check_every: -1":     Config{CheckEvery: -1}.Validate(),
		"delegate: external":  Config{Delegate: "external"}.Validate(),
		"delegate: \"gpu\"":   Config{Delegate: "gpu"}.Validate(),
		"delegate: \"xnnpack": ModelConfig{File: "x", Delegate: "xnnpack:4"}.Validate(),
		"delegate: \"builtin": ModelConfig{File: "x", Delegate: "builtin:65"}.Validate(),
		"output: \"boxes\"":   ModelConfig{File: "x", Output: "boxes"}.Validate(),
		"label_list: ":        ModelConfig{File: "x", Labels: "y", Classes: []string{"z"}}.Validate(),
		"threshold: NaN":      ModelConfig{File: "x", Threshold: &nan}.Validate(),
		"top: -1":             ModelConfig{File: "x", Top: -1}.Validate(),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q in front", err, want)
		}
	}
}

// TestModelConfigDefaults: a model that only names its file gets the rest.
func TestModelConfigDefaults(t *testing.T) {
	var c ModelConfig
	if err := yaml.Unmarshal([]byte("file: a.tflite\nlabel_list: [face]\n"), &c); err != nil {
		t.Fatal(err)
	}
	if c.File != "a.tflite" || c.Output != "auto" || c.Top != 5 || len(c.Classes) != 1 {
		t.Errorf("%+v", c)
	}
}
