package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
)

// live is the version of a model that is live.
func (r *Rollout) live(name string) string {
	if st, err := r.g.Store.State(); err == nil && st.Models[name] != nil {
		return st.Models[name].Live
	}
	return ""
}

// answering is the version of a model that answers now; "": the configuration's
// file.
func (r *Rollout) answering(name string) string {
	if r.g.Engine == nil { // nobody answers yet
		return ""
	}
	m, err := r.g.Engine.Model(name)
	if err != nil {
		return ""
	}
	return m.Version()
}

// serves says whether a version of a model answers now, or none does.
func (r *Rollout) serves(name, version string) bool {
	m, err := r.g.Engine.Model(name)
	return err != nil || m.Version() == version
}

// do does what is wanted of a model and says what became of it. Where ctx ends
// it stays wanted. What it gives goes through stages before it is live.
func (r *Rollout) do(ctx context.Context, name string, w store.Want) *staged {
	before := r.live(name)
	e := Entry{Model: name, Version: w.Version, Before: before, By: w.By}
	switch {
	case w.Do == store.DoWithdraw:
		r.withdraw(ctx, name, w, e)
		return nil
	case w.Version == before && r.serves(name, before):
		_, err := r.g.Store.Files(name, w.Version) // it answers, and the next start needs them
		if err == nil {
			err = r.g.Store.Activate(name, w.Version, "it was live already")
		}
		if err != nil {
			r.fail(e, err, nil)
		}
		return nil
	}
	c, err := r.candidate(name, w.Version)
	var verdict Verdict
	if err == nil && r.g.Trial != nil && tries(w, c.Version) {
		verdict, err = try(ctx, r.g.Store, c, r.g.Trial, r.g.Engine.Gate(), func(step, why string) {
			e.Step, e.Why = step, why
			r.step(e)
		})
		if verdict.Report != nil && ctx.Err() == nil {
			r.g.Say(ReportTopic(name), verdict.Report)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	why := map[string]string{store.DoRollback: "rolled back by command"}[w.Do]
	if why == "" {
		why = cmp.Or(w.Why, "activated by command")
		if s := c.Version.Stage; s == store.Shadow || s == store.Canary {
			why = "promoted by command"
		}
	}
	if err != nil {
		r.fail(e, err, verdict.Report)
		return nil
	}
	if r.stages(name, w, c.Version) {
		return &staged{c: c, want: w, tried: verdict.Tried}
	}
	r.goLive(ctx, c, e, why, verdict.Tried, verdict.Report, w.Do != store.DoRollback)
	return nil
}

// goLive makes a version the live one, and watches it where it is new. It gives
// what became of it.
func (r *Rollout) goLive(ctx context.Context, c Candidate, e Entry, why string, tried []infer.CandidateReport, report []byte, watch bool) string {
	was := r.baseline(c.Name)
	if err := r.serve(ctx, c, "", why, tried); err != nil {
		r.fail(e, err, report)
		return err.Error()
	}
	e.Step, e.Why = StepLive, why
	r.step(e)
	if watch {
		r.watchFrom(c, was)
	}
	return why
}

// notIts is an error that a version is not to blame for: the disk's.
type notIts struct{ error }

func (e notIts) Unwrap() error { return e.error }

// storeRests is how long nothing is begun after the store took nothing: what is
// wanted is wanted still, and would be tried again at once.
const storeRests = 10 * time.Second

// fail notes that a version did not become the live one. One that is not to blame
// stays what it was.
func (r *Rollout) fail(e Entry, err error, report []byte) {
	e.Step, e.Why = StepFailed, err.Error()
	if r.live(e.Model) == e.Version { // wanted again, for it does not answer
		e.Why += "; " + whoAnswers(r.answering(e.Model))
	}
	mark := func() error { return r.g.Store.Mark(e.Model, e.Version, store.Failed, e.Why, report) }
	if errors.As(err, new(notIts)) {
		e.Why = "not made live, and not for its own sake: " + e.Why
		mark = func() error { return r.g.Store.PutBack(e.Model, e.Version, e.Why) }
	}
	if err := mark(); err != nil {
		r.log.Error().Err(err).Str("model", e.Model).Msg("the store takes nothing")
		rest := time.Now().Add(storeRests)
		r.rest.Store(&rest)
	}
	r.step(e)
}

// withdraw ends what a version is about; the live one goes back.
func (r *Rollout) withdraw(ctx context.Context, name string, w store.Want, e Entry) {
	why := "withdrawn by command"
	if e.Before == w.Version {
		st, err := r.g.Store.State()
		if err == nil && st.Models[name].Previous == "" {
			err = fmt.Errorf("model %s@%s is live, and there is none before it", name, w.Version)
		}
		if err == nil {
			var c Candidate
			if c, err = r.candidate(name, st.Models[name].Previous); err == nil {
				err = r.serve(ctx, c, w.Version, "version "+w.Version+" was withdrawn", nil)
			}
		}
		if err != nil {
			r.log.Error().Err(err).Str("model", name).Msg("not withdrawn")
			why = "not withdrawn: " + err.Error()
		}
	}
	if err := r.g.Store.Mark(name, w.Version, store.Withdrawn, why, nil); err != nil {
		r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
	}
	e.Step, e.Why = StepWithdrawn, why
	r.step(e)
}

// candidate is a version with its files, held against what the configuration
// says of the model.
func (r *Rollout) candidate(name, version string) (Candidate, error) {
	r.g.Reload.Lock()
	models := r.g.Models()
	r.g.Reload.Unlock()
	return candidate(r.g.Store, models, name, version, func(in []infer.TensorInfo) error { return r.g.Streams.FitsInstead(name, in) })
}

// candidate is a version with its files, held against models, those of a
// configuration; fits says whether streams can go on with its inputs.
func candidate(s *store.Store, models map[string]infer.ModelConfig, name, version string, fits func([]infer.TensorInfo) error) (Candidate, error) {
	c := Candidate{Name: name}
	st, err := s.State()
	if err != nil {
		return c, err
	}
	if c.Files, err = s.Files(name, version); err != nil {
		return c, err
	}
	v := st.Models[name].Find(version)
	if v == nil {
		return c, fmt.Errorf("model %s@%s: %w", name, version, store.ErrUnknown)
	}
	c.Version = *v
	base, served := models[name] // of a model that is not configured: nothing
	c.Model = Apply(base, *v, c.Files)
	if m := st.Models[name]; served && (base.File != "" || m.Live != "") {
		set, err := Resolve(s, map[string]infer.ModelConfig{name: base}, nil)
		if err != nil {
			return c, err
		}
		live := set.Models[name]
		c.Live = &live
	}
	ins, _, err := infer.Inspect(c.Model)
	if err == nil && !open(ins) {
		err = fits(ins)
	}
	return c, err
}

// open says whether the runtime alone knows how large the inputs are.
func open(ins []infer.TensorInfo) bool {
	for _, t := range ins {
		for _, d := range t.Shape {
			if d <= 0 {
				return true
			}
		}
	}
	return len(ins) == 0
}

// serve exchanges the version under the streams and makes it the live one: in
// this order, so that whoever kills the gateway between leaves the old one live
// and the new one wanted. The file of the configuration that it takes the place
// of becomes a version first, to go back to.
//
// Where from is not "" and another version is live meanwhile, nothing is done.
func (r *Rollout) serve(ctx context.Context, c Candidate, from, why string, tried []infer.CandidateReport) error {
	r.g.Reload.Lock()
	defer r.g.Reload.Unlock()
	if from != "" && r.live(c.Name) != from {
		return fmt.Errorf("version %s is not live any more", from)
	}
	base, served := r.g.Models()[c.Name]
	if err := r.keepBase(ctx, c.Name, base.File); err != nil {
		return notIts{fmt.Errorf("the configuration's file is not kept to go back to: %w; then activate it again", err)}
	}
	if served {
		// The configuration may be another one since the candidate was looked at.
		c.Model = Apply(base, c.Version, c.Files)
		fits := func(in []infer.TensorInfo) error { return r.g.Streams.FitsInstead(c.Name, in) }
		if err := r.g.Engine.Swap(c.Name, c.Model, fits, tried); err != nil {
			return err
		}
	}
	err := r.g.Store.Activate(c.Name, c.Version.Version, why)
	if err == nil {
		return nil
	}
	if served {
		err = errors.Join(err, r.undo(c.Name, base))
	}
	return notIts{err}
}

// undo serves again what the store says is live.
func (r *Rollout) undo(name string, base infer.ModelConfig) error {
	set, err := Resolve(r.g.Store, map[string]infer.ModelConfig{name: base}, nil)
	if err != nil {
		return err
	}
	return r.g.Engine.Swap(name, set.Models[name], nil, nil)
}

// keepBase makes the configuration's file a version, and the live one where
// none is, so that there is one to go back to.
func (r *Rollout) keepBase(ctx context.Context, name, file string) error {
	st, err := r.g.Store.State()
	if err != nil || file == "" {
		return err
	}
	m := st.Models[name]
	if m == nil || m.Configured != "" {
		return nil
	}
	v, err := r.keepFile(ctx, name, file)
	if err != nil {
		return err
	}
	if m.Live == "" {
		return r.g.Store.Activate(name, v, "the file that the configuration names")
	}
	if st, err = r.g.Store.State(); err != nil {
		return err
	}
	return r.g.Store.SetConfigured(name, st.Models[name].Find(v).Model)
}
