package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// quantize, evaluate, sensitivity and model diff on a public network and its
// public pictures.
func TestQuantizeAndJudge(t *testing.T) {
	t.Parallel()
	data, float := testkit.Shared(t, "data/cifar10"), testkit.Shared(t, "models/pretrainedResnet.tflite")
	dir := t.TempDir()
	out := filepath.Join(dir, "int8.tflite")
	r := run(t, "", "quantize", "--json", "--data", data, "--pixels", "0..255", "--samples", "80", "--out", out, float)
	var made struct {
		Bytes     int `json:"bytes"`
		Agreement struct {
			Top1 float64 `json:"top1"`
		} `json:"agreement"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &made); err != nil || r.code != 0 || made.Agreement.Top1 < 0.85 {
		t.Fatalf("%+v %v", r, err)
	}
	if info, err := os.Stat(out); err != nil || int(info.Size()) != made.Bytes {
		t.Fatalf("%v %v, said %d", info, err, made.Bytes)
	}
	for _, format := range []string{"text", "markdown", "json"} {
		r = run(t, "", "evaluate", "--format", format, "--plot", filepath.Join(dir, "fig"), "--data", data, "--pixels", "0..255", "--samples", "60", float, out)
		for _, want := range []string{"pretrainedResnet", "int8", "builtin", "xnnpack:0"} {
			if r.code != 0 || !strings.Contains(r.stdout, want) {
				t.Fatalf("%s: no %s in %+v", format, want, r)
			}
		}
	}
	if !json.Valid([]byte(r.stdout)) {
		t.Errorf("no JSON: %s", r.stdout)
	}
	for _, name := range []string{"fig-size.png", "fig-size.svg", "fig-time.svg", "fig-confusion-int8.png"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	r = run(t, "", "sensitivity", "--data", data, "--pixels", "0..255", "--samples", "20", "--by", "int8,pruned-90", float)
	if r.code != 0 || strings.Count(r.stdout, "CONV_2D") != 18 || strings.Count(r.stdout, "pruned-90") != 10 || !strings.Contains(r.stdout, "LOST top1") || strings.Count(r.stdout, " %\n") != 21 {
		t.Errorf("%+v", r)
	}
	if r = run(t, "", "model", "diff", float, out); r.code != 0 || !strings.Contains(r.stdout, "int8") {
		t.Errorf("%+v", r)
	}
}

// Damaged models and data give one clear error, and no file.
func TestWorkshopRefuses(t *testing.T) {
	dir := t.TempDir()
	float, whole := testkit.Shared(t, "models/hello_world_float.tflite"), testkit.Shared(t, "models/hello_world_int8.tflite")
	bytes, err := os.ReadFile(float)
	if err != nil {
		t.Fatal(err)
	}
	torn := write(t, dir, "torn.tflite", string(bytes[:len(bytes)/2]))
	words := write(t, dir, "words.csv", "a,b\n1,x\n2\n")
	wide := write(t, dir, "wide.csv", "a,b,c\n1,2,3\n4,5,6\n")
	out := filepath.Join(dir, "out.tflite")
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{3, "torn.tflite", []string{"quantize", "--out", out, torn}},
		{3, "already", []string{"quantize", "--out", out, whole}},
		{3, "no such file", []string{"quantize", "--out", out, filepath.Join(dir, "none.tflite")}},
		{3, "no such file", []string{"quantize", "--out", out, "--data", filepath.Join(dir, "none"), float}},
		{3, "row 2", []string{"quantize", "--out", out, "--data", words, float}},
		{3, "takes 1 values", []string{"quantize", "--out", out, "--data", wide, float}},
		{3, "holds no pictures", []string{"quantize", "--out", out, "--data", dir, float}},
		{2, "scheme", []string{"quantize", "--scheme", "int3", "--out", out, float}},
		{2, "--pixels", []string{"quantize", "--pixels", "loud", "--data", wide, "--out", out, float}},
		{2, "--out is the model", []string{"quantize", "--out", float, float}},
		{3, "torn.tflite", []string{"evaluate", torn}},
		{3, "takes 1 values", []string{"evaluate", "--no-latency", "--data", wide, "--target", "c", float}},
		{2, "--format", []string{"evaluate", "--format", "poem", float}},
		{3, "torn.tflite", []string{"sensitivity", torn}},
		{2, "is none of int8", []string{"sensitivity", "--by", "half", float}},
		{3, "torn.tflite", []string{"model", "diff", float, torn}},
	} {
		r := run(t, "", c.args...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: code %d, %q; want %d, %q", c.args, r.code, r.stderr, c.code, c.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("%v wrote a file", c.args)
		}
	}
}
