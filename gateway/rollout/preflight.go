package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
	"edgegateway/infer/drift"
	"edgegateway/infer/store"
)

// PreflightConfig says how much a version is tried before it goes live.
type PreflightConfig struct {
	Calls    int           `yaml:"calls" desc:"inferences that are timed and watched for a leak"`
	Patience time.Duration `yaml:"patience" desc:"processor time after which an inference hangs"`
	Eager    bool          `yaml:"eager" desc:"a trial has the usual priority: quicker on a busy box, and what is live is slower meanwhile"`
}

// DefaultPreflight is what holds without a configuration.
func DefaultPreflight() PreflightConfig {
	return PreflightConfig{Calls: 1000, Patience: 20 * time.Second}
}

// Validate says what is wrong with c, each error with its YAML path in front.
func (c PreflightConfig) Validate() error {
	var errs []error
	if c.Calls < 10 || c.Calls > 1_000_000 {
		errs = append(errs, fmt.Errorf("calls: %d is outside 10..1000000", c.Calls))
	}
	if c.Patience < 100*time.Millisecond || c.Patience > time.Hour {
		errs = append(errs, fmt.Errorf("patience: %v is outside 100ms..1h", c.Patience))
	}
	return errors.Join(errs...)
}

// Preflight makes a Trial of pre-flights in child processes. shared gives what
// all models have in common now.
func Preflight(run infer.PreflightFunc, shared func() (infer.Config, PreflightConfig)) Trial {
	return func(ctx context.Context, c Candidate, gate func() bool) (Verdict, error) {
		if err := beside(c); err != nil {
			return Verdict{Why: err.Error()}, nil
		}
		cfg, how := shared()
		req := infer.PreflightRequest{
			Library: cfg.Library, Sysfs: cfg.Sysfs, Model: c.Model, Live: c.Live, Limits: infer.Limits(c.Files.Manifest.Limits),
			Calls: how.Calls, Patience: how.Patience, Eager: how.Eager || c.Live == nil,
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

// beside says what is wrong with what a version brings for others than the
// runtime: labels that leave classes out, a reference for drift that cannot be
// read. What is wrong with the model is for the child to say.
func beside(c Candidate) error {
	if c.Files.Labels != "" {
		if _, warning, err := infer.Inspect(c.Model); err == nil && warning != "" {
			return errors.New(warning)
		}
	}
	if c.Files.Reference != "" {
		return CheckReference(c.Model, c.Files.Reference)
	}
	return nil
}

// CheckReference says what is wrong with a file that is to be the reference for
// drift of a model: that it is none, or one of another model. What is wrong with
// the model others say.
func CheckReference(model infer.ModelConfig, file string) error {
	ref, err := drift.ReadFile(file)
	if err == nil {
		ins, _, wrong := infer.Inspect(model)
		answers, wrong2 := infer.InspectAnswers(model)
		if wrong != nil || wrong2 != nil {
			return nil
		}
		if err = pipeline.ReferenceFits(ref, ins, answers); err != nil {
			err = fmt.Errorf("%s is not of this model: %w", file, err)
		}
	}
	if err != nil {
		return fmt.Errorf("reference: %w; model reference makes one", err)
	}
	return nil
}

// tries says whether a version needs its pre-flight: not one that was at work
// here and was not found wanting, nor one in a stage, which passed it, and not
// where somebody says so.
func tries(w store.Want, v store.Version) bool {
	switch {
	case w.Force || v.From == store.FromConfiguration:
		return false
	case v.Stage == store.Shadow, v.Stage == store.Canary:
		return false
	case w.Do == store.DoRollback:
		return v.Stage != store.Retired
	}
	return true
}

// try tries a version and notes in the store that it does and that it passed,
// with the report; step is told the same. The error says why it may not go
// live; where ctx ended nothing more is noted.
func try(ctx context.Context, s *store.Store, c Candidate, t Trial, gate func() bool, step func(step, why string)) (Verdict, error) {
	mark := func(stage store.Stage, why string, report []byte) error {
		if err := s.Mark(c.Name, c.Version.Version, stage, why, report); err != nil {
			return notIts{err}
		}
		return nil
	}
	if err := mark(store.Trying, "its pre-flight is under way", nil); err != nil {
		return Verdict{}, err
	}
	step(StepTrying, "")
	v, err := t(ctx, c, gate)
	switch {
	case ctx.Err() != nil:
		return v, ctx.Err()
	case err == nil && !v.OK:
		err = errors.New(v.Why)
	case err == nil:
		if err = mark(store.Passed, v.Why, v.Report); err == nil {
			step(StepPassed, v.Why)
		}
	}
	return v, err
}

// Alone tries a version that is wanted, where no gateway runs, as one would
// before it goes live: models are those of the configuration, fits says whether
// its streams can be fed with such inputs. What came of it is in the store; an
// error says why the version may not go live. It stays wanted where ctx ends.
func Alone(ctx context.Context, s *store.Store, models map[string]infer.ModelConfig, fits func([]infer.TensorInfo) error, t Trial, name string, w store.Want) error {
	c, err := candidate(s, models, name, w.Version, fits)
	var v Verdict
	if err == nil && tries(w, c.Version) {
		v, err = try(ctx, s, c, t, nil, func(string, string) {})
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), s.Mark(name, w.Version, store.Added, "its pre-flight was stopped", nil))
	}
	if errors.As(err, new(notIts)) { // it is wanted still
		return err
	}
	return errors.Join(err, s.Mark(name, w.Version, store.Failed, err.Error(), v.Report))
}
