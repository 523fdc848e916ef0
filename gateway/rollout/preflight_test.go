package rollout

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
	"edgegateway/internal/testkit"
)

// What a bundle brings reaches the pre-flight, and what that says the rollout.
func TestPreflight(t *testing.T) {
	var asked infer.PreflightRequest
	try := func(_ context.Context, req infer.PreflightRequest, gate func() bool) (*infer.PreflightReport, error) {
		asked = req
		return &infer.PreflightReport{OK: gate(), Why: "time: too long", Candidates: []infer.CandidateReport{{Name: "builtin"}}}, nil
	}
	v, err := Preflight(try, func() (infer.Config, PreflightConfig) {
		return infer.Config{Library: "lib.so", Sysfs: "/sys"}, PreflightConfig{Calls: 7, Patience: time.Second}
	})(t.Context(), Candidate{
		Model: infer.ModelConfig{File: "new"}, Live: &infer.ModelConfig{File: "old"},
		Files: store.Files{
			Golden:   []store.GoldenFiles{{Inputs: []string{"in"}, Outputs: []string{"out"}, Tolerance: 0.5}},
			Manifest: store.Manifest{Limits: store.Limits{Millis: 3, MemoryBytes: 4}},
		},
	}, func() bool { return false })
	if err != nil || v.OK || v.Why != "time: too long" || len(v.Tried) != 1 || !json.Valid(v.Report) {
		t.Errorf("%+v %v", v, err)
	}
	if asked.Model.File != "new" || asked.Live.File != "old" || len(asked.Golden) != 1 || asked.Golden[0].Tolerance != 0.5 || asked.Limits != (infer.Limits{Millis: 3, MemoryBytes: 4}) || asked.Library != "lib.so" || asked.Calls != 7 || asked.Patience != time.Second || asked.Eager {
		t.Errorf("%+v", asked)
	}
}

// Labels that leave classes out, and what is no reference for drift, end a
// version before its child starts.
func TestPreflightBeside(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	two, all := write("a\nb\n"), write(strings.Repeat("word\n", 12))
	for _, tt := range []struct{ labels, reference, want string }{
		{two, "", "names 2 of the 12 classes"},
		{all, two, "reference: "},
		{all, "", ""},
		{"", "", ""},
	} {
		tried := false
		try := func(context.Context, infer.PreflightRequest, func() bool) (*infer.PreflightReport, error) {
			tried = true
			return &infer.PreflightReport{OK: true}, nil
		}
		v, err := Preflight(try, func() (infer.Config, PreflightConfig) { return infer.Config{}, DefaultPreflight() })(t.Context(), Candidate{
			Model: infer.ModelConfig{File: testkit.Shared(t, "models/kws_ref_model.tflite"), Labels: tt.labels},
			Files: store.Files{Labels: tt.labels, Reference: tt.reference},
		}, nil)
		if err != nil || v.OK != (tt.want == "") || tried != v.OK || !strings.Contains(v.Why, tt.want) {
			t.Errorf("%+v: %+v, %v", tt, v, err)
		}
	}
}
