package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// model preflight says yes, or ends with 3 and names what failed; as text and
// as JSON, of a file and of a bundle.
func TestModelPreflight(t *testing.T) {
	dir := t.TempDir()
	sine := testkit.Shared(t, "models/hello_world_float.tflite")
	one := write(t, dir, "one.raw", "\x00\x00\x80\x3f")   // 1
	right := write(t, dir, "sin.raw", "\x71\x6a\x57\x3f") // sin 1
	wrong := write(t, dir, "two.raw", "\x00\x00\x00\x40") // 2
	endless := filepath.Join(testkit.Root(t), "infer/model/testdata/troubled/while_endless.tflite")

	r := run(t, "", "model", "preflight", "--eager", "--json", "--live", sine, "--calls", "50", "--tolerance", "0.1", "--golden", one+"="+right, sine)
	var report infer.PreflightReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 0 || !report.OK || len(report.Checks) != 7 || report.P50 <= 0 || report.Slower <= 0 {
		t.Fatalf("%+v %v", r, err)
	}
	for _, c := range []struct {
		args  []string
		code  int
		words []string
	}{
		{[]string{"--golden", one + "=" + wrong, sine}, 3, []string{"golden answers", "not 2:"}},
		{[]string{"--patience", "500ms", endless}, 3, []string{"no crash", "it gives no answer"}},
		{[]string{one}, 3, []string{"loads", "not a valid .tflite file"}},
		{[]string{filepath.Join(dir, "none")}, 3, []string{"no such file"}},
		{[]string{"--golden", one, sine}, 2, []string{"it is IN=OUT"}},
		{[]string{"--load", "10", sine}, 2, []string{"--live"}},
		{[]string{"--calls", "0", sine}, 2, []string{"--calls"}},
	} {
		r := run(t, "", append([]string{"model", "preflight", "--eager"}, c.args...)...)
		for _, w := range c.words {
			if r.code != c.code || !strings.Contains(r.stderr, w) {
				t.Errorf("%v: no %q in %+v", c.args, w, r)
			}
		}
	}

	model, err := os.ReadFile(sine)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		answer string
		code   int
	}{{right, 0}, {wrong, 3}} {
		parts := map[string][]byte{"m.tflite": model}
		for name, path := range map[string]string{"in": one, "out": c.answer} {
			if parts[name], err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
		files := map[string]store.Part{}
		for name, data := range parts {
			files[name] = store.PartOf(data)
		}
		var b bytes.Buffer
		m := store.Manifest{
			Format: store.Format, Name: "sine", Version: "2", Files: files, Model: "m.tflite", Settings: store.Settings{Output: "regression"},
			Golden: []store.Golden{{Inputs: []string{"in"}, Outputs: []string{"out"}, Tolerance: 0.1}},
		}
		if err := store.WriteBundle(&b, m, parts, nil); err != nil {
			t.Fatal(err)
		}
		path := write(t, dir, "sine-2.bundle", b.String())
		r := run(t, "", "model", "preflight", "--eager", "--delegate", "builtin", "--calls", "20", path)
		if r.code != c.code || !strings.Contains(r.stdout, "sine-2.bundle: ") || strings.Contains(r.stderr, "golden answers") != (c.code == 3) {
			t.Errorf("%s: %+v", c.answer, r)
		}
	}
}

// The live model goes on beside a trial, and its times are said.
func TestModelPreflightBesideLoad(t *testing.T) {
	sine := testkit.Shared(t, "models/hello_world_float.tflite")
	r := run(t, "", "model", "preflight", "--eager", "--live", sine, "--load", "500", "--calls", "20", "--delegate", "builtin", sine)
	if r.code != 0 || !strings.Contains(r.stdout, "without a trial") || !strings.Contains(r.stdout, "while it is working") {
		t.Errorf("%+v", r)
	}
}
