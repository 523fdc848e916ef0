package rollout

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
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
