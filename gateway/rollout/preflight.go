package rollout

import (
	"context"
	"encoding/json"

	"edgegateway/infer"
)

// Preflight is the Trial that a pre-flight makes: a version is held against what
// its bundle brings, and against the version that serves now. library and sysfs
// are those of the gateway's models.
func Preflight(try infer.PreflightFunc, library, sysfs string) Trial {
	return func(ctx context.Context, c Candidate, gate func() bool) (Verdict, error) {
		limits := c.Files.Manifest.Limits
		req := infer.PreflightRequest{
			Library: library, Sysfs: sysfs, Model: c.Model, Live: c.Live,
			Limits: infer.Limits{Millis: limits.Millis, MemoryBytes: limits.MemoryBytes},
		}
		for _, g := range c.Files.Golden {
			req.Golden = append(req.Golden, infer.GoldenFiles{Inputs: g.Inputs, Outputs: g.Outputs, Tolerance: g.Tolerance})
		}
		r, err := try(ctx, req, gate)
		if err != nil {
			return Verdict{}, err
		}
		report, err := json.Marshal(r)
		return Verdict{OK: r.OK, Why: r.Why, Report: report, Tried: r.Candidates}, err
	}
}
