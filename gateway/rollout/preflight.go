package rollout

import (
	"context"
	"encoding/json"

	"edgegateway/infer"
)

// Preflight makes a Trial of pre-flights in child processes. shared gives what
// all models have in common now.
func Preflight(run infer.PreflightFunc, shared func() infer.Config) Trial {
	return func(ctx context.Context, c Candidate, gate func() bool) (Verdict, error) {
		cfg := shared()
		req := infer.PreflightRequest{
			Library: cfg.Library, Sysfs: cfg.Sysfs, Model: c.Model, Live: c.Live, Eager: c.Live == nil,
			Limits: infer.Limits(c.Files.Manifest.Limits),
		}
		if req.Model.Delegate == "" {
			req.Model.Delegate = cfg.Delegate
		}
		for _, g := range c.Files.Golden {
			req.Golden = append(req.Golden, infer.GoldenFiles(g))
		}
		r, err := run(ctx, req, gate)
		if err != nil {
			return Verdict{}, err
		}
		report, err := json.Marshal(r)
		return Verdict{OK: r.OK, Why: r.Why, Report: report, Tried: r.Candidates}, err
	}
}
