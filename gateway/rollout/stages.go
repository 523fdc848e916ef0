package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"edgegateway/gateway/pipeline"
	"edgegateway/infer"
	"edgegateway/infer/store"
)

// staged is a version on its way: beside the live one, in the shadow or as a
// canary. It goes on beside what else is wanted.
type staged struct {
	c      Candidate
	want   store.Want
	tried  []infer.CandidateReport
	cancel context.CancelFunc
	done   chan struct{}
}

// Progress is how a version beside the live one is doing; it is what stays on
// models/NAME/rollout.
type Progress struct {
	Model   string      `json:"model"`
	Version string      `json:"version"`
	Stage   store.Stage `json:"stage"`
	Counters
	Over string `json:"over,omitempty"` // why the stage ended; "": it goes on
}

// DifferSuffix is behind the name of a stream in that of the data set that keeps
// the inputs on which versions differ.
const DifferSuffix = ".differ"

// ProgressTopic is where the counters of a model's rollout are published when a
// stage ends.
func ProgressTopic(model string) string { return "models/" + model + "/rollout" }

// stagesOf are the stages that a version still has before it: from the one on
// that it had come to, where it was under way when the gateway ended.
func (c Steps) stagesOf(at store.Stage) (list []store.Stage) {
	if c.Shadow != nil && !(at == store.Canary && c.Canary != nil) {
		list = append(list, store.Shadow)
	}
	if c.Canary != nil {
		list = append(list, store.Canary)
	}
	return list
}

// stages says whether a wish takes a version through stages before it is live:
// where the configuration has any, and something is there to be beside of.
func (r *Rollout) stages(name string, w store.Want, v store.Version) bool {
	if w.Do != store.DoRollout || len(r.config().Models[name].stagesOf(v.Stage)) == 0 {
		return false
	}
	_, err := r.g.Engine.Model(name)
	return err == nil
}

// bring takes a version through its stages. It ends when it is live or
// withdrawn, or ctx does: then its stage in the store is where the next start
// goes on.
func (r *Rollout) bring(ctx context.Context, s *staged) {
	name := s.c.Name
	e := Entry{Model: name, Version: s.c.Version.Version, Before: r.live(name), By: s.want.By}
	list := r.config().Models[name].stagesOf(s.c.Version.Stage)
	why := "its pre-flight passed"
	if s.want.Force || r.g.Trial == nil {
		why = "without a pre-flight"
	}
	if s.c.Version.Stage == store.Shadow || s.c.Version.Stage == store.Canary {
		why = "it was when the gateway ended"
	}
	for i, stage := range list {
		verdict := changed
		for verdict == changed {
			verdict, why = r.stage(ctx, s, stage, e, why, i == len(list)-1)
			if verdict == changed { // and perhaps what the configuration says of it
				c, err := r.candidate(name, e.Version)
				if err != nil {
					verdict, why = withdrawn, "withdrawn: "+err.Error()
					break
				}
				s.c, e.Before = c, r.live(name)
			}
		}
		switch verdict {
		case cut, live:
			return
		case withdrawn:
			if err := r.g.Store.Mark(name, e.Version, store.Withdrawn, why, nil); err != nil {
				r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
			}
			e.Step, e.Why = StepWithdrawn, why
			r.step(e)
			return
		}
	}
}

// supersede withdraws a version whose stage was ended, where another version is
// wanted in its place.
func (r *Rollout) supersede(s *staged) {
	name, version := s.c.Name, s.c.Version.Version
	st, err := r.g.Store.State()
	if err != nil {
		return // look says it
	}
	m := st.Models[name]
	v := m.Find(version)
	if v == nil || v.Stage != store.Shadow && v.Stage != store.Canary || m.Want != nil && m.Want.Version == version {
		return
	}
	why := "withdrawn: it is not wanted any more"
	if m.Want != nil {
		why = fmt.Sprintf("withdrawn: a %s of version %s is wanted", m.Want.Do, m.Want.Version)
	}
	if err := r.g.Store.Mark(name, version, store.Withdrawn, why, nil); err != nil {
		r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
	}
	r.step(Entry{Step: StepWithdrawn, Model: name, Version: version, Before: m.Live, Why: why, By: s.want.By})
}

// buryStaged withdraws a version that the gateway died of while it was beside
// the live one.
func (r *Rollout) buryStaged(name string, m *store.ModelState, log []Entry) {
	if m.Want == nil || m.Want.Do != store.DoRollout {
		return
	}
	version := m.Want.Version
	n := fatal(log, name, version)
	if v := m.Find(version); n < deaths || v.Stage != store.Shadow && v.Stage != store.Canary {
		return
	}
	why := fmt.Sprintf("withdrawn: the gateway ended without a word %d times while it was beside the live version", n)
	if err := r.g.Store.Mark(name, version, store.Withdrawn, why, nil); err != nil {
		r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
		return
	}
	r.step(Entry{Step: StepWithdrawn, Model: name, Version: version, Before: m.Live, Why: why})
}

// verdict is what came of a stage.
type verdict int

const (
	cut      verdict = iota // by ctx
	changed                 // what it is beside of is another one: it begins anew
	promoted                // to the next stage
	live                    // it was the last stage
	withdrawn
)

// stage lets a version work beside the live one until a rule decides. In the
// last stage a version that is promoted goes live before its canary ends: no
// source is given back to the old one between.
func (r *Rollout) stage(ctx context.Context, s *staged, stage store.Stage, e Entry, why string, last bool) (verdict, string) {
	name, version := s.c.Name, s.c.Version.Version
	cfg := r.config().Models[name]
	beside := pipeline.BesideConfig{}
	var promote, withdraw string
	switch {
	case stage == store.Shadow && cfg.Shadow != nil:
		beside.Shadow, beside.Tolerance = cfg.Shadow.Share, cfg.Shadow.Tolerance
		promote, withdraw = cfg.Shadow.Promote, cfg.Shadow.Withdraw
	case stage == store.Canary && cfg.Canary != nil:
		beside.Canary = cfg.Canary.Share
		promote, withdraw = cfg.Canary.Promote, cfg.Canary.Withdraw
	default:
		return withdrawn, fmt.Sprintf("the configuration has no %s for it any more", stage)
	}
	rules, err := newRules(promote, withdraw, cfg.Within)
	if err != nil {
		return withdrawn, err.Error()
	}
	now, err := r.g.Engine.Model(name)
	if err != nil {
		return withdrawn, err.Error()
	}
	t := r.truthsOf(name)
	w := &beginning{r: r, m: now, t: t, stage: stage, version: version, live: now.Version()}
	w.marks, w.liveMarks = t.of(version), t.of(w.live)
	fits := func(in []infer.TensorInfo) error { return r.g.Streams.FitsInstead(name, in) }
	open := func() (*infer.Model, error) {
		return r.g.Engine.Beside(name, s.c.Model, stage == store.Shadow, fits, s.tried)
	}
	keep := 0
	if cfg.Shadow != nil {
		keep = cfg.Shadow.Keep
	}
	w.b = pipeline.NewBeside(beside, now, open, r.compared(t, version, keep))
	own, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.b.Run(own) }()
	stop := func() {
		r.g.Streams.Beside(name, nil)
		end()
		<-ended
		r.besides.Delete(name)
	}
	select {
	case err := <-ended:
		end()
		if ctx.Err() != nil {
			return cut, ""
		}
		return withdrawn, err.Error()
	case <-w.b.Ready():
	}
	defer stop()
	if err := r.g.Store.Mark(name, version, stage, why, nil); err != nil {
		return withdrawn, err.Error()
	}
	e.Step, e.Why = map[store.Stage]string{store.Shadow: StepShadow, store.Canary: StepCanary}[stage], why
	r.step(e)
	r.besides.Store(name, w)
	r.g.Streams.Beside(name, w.b)
	tick := time.NewTicker(often)
	defer tick.Stop()
	noted := time.Now()
	for {
		select {
		case <-ctx.Done():
			return cut, ""
		case <-tick.C:
		}
		if m, err := r.g.Engine.Model(name); err != nil {
			return withdrawn, err.Error()
		} else if m != now || m.Version() != w.live {
			return changed, "the version that it is beside of changed"
		}
		c := w.counters(time.Now())
		verdict, why := rules.judge(c)
		if verdict == changed { // no rule holds yet
			if time.Since(noted) >= noteEvery {
				noted = time.Now()
				if err := r.g.Store.Mark(name, version, stage, c.String(), nil); err != nil {
					r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
				}
			}
			continue
		}
		r.tell(Progress{Model: name, Version: version, Stage: stage, Counters: c.short(), Over: why})
		if verdict == promoted && last {
			return live, r.goLive(ctx, s.c, e, why, s.tried, nil, true)
		}
		return verdict, why
	}
}

// noteEvery is how often the store is told how a stage goes, for those who look
// at it from another process.
const noteEvery = time.Minute

// rules are those of one stage.
type rules struct {
	promote, withdraw rule
	within            time.Duration
}

func newRules(promote, withdraw string, within time.Duration) (r rules, err error) {
	r.within = within
	if r.promote, err = newRule(promote); err == nil {
		r.withdraw, err = newRule(withdraw)
	}
	return r, err
}

// judge says what the counters come to: changed where no rule holds yet.
func (r rules) judge(c Counters) (verdict, string) {
	for _, k := range []struct {
		rule
		verdict
		word string
	}{{r.withdraw, withdrawn, "withdrawn"}, {r.promote, promoted, "promoted"}} {
		is, err := k.holds(c)
		if err != nil {
			return withdrawn, fmt.Sprintf("withdrawn: the rule %q cannot be judged: %v", k.text, err)
		}
		if is {
			return k.verdict, fmt.Sprintf("%s by its rule %s: %s", k.word, k.text, c)
		}
	}
	if c.Hours >= r.within.Hours() {
		return withdrawn, fmt.Sprintf("withdrawn: no rule decided within %v: %s", r.within, c)
	}
	return changed, ""
}

// beginning is a stage under way, with what was counted before it began.
type beginning struct {
	r                *Rollout
	b                *pipeline.Beside
	m                *infer.Model
	t                *truths
	stage            store.Stage
	version, live    string
	marks, liveMarks marks
}

func (w *beginning) counters(now time.Time) Counters {
	c := countersOf(w.b.Counts(), w.stage == store.Canary, now)
	c.Version, c.Live.Version = w.version, w.live
	mine, others := w.t.of(w.version).since(w.marks), w.t.of(w.live).since(w.liveMarks)
	c.Labels, c.Accuracy = mine.labels, mine.accuracy()
	c.Live.Labels, c.Live.Accuracy = others.labels, others.accuracy()
	return c
}

// Progress is how the version beside the live one of a model is doing; ok is
// false where there is none.
func (r *Rollout) Progress(model string) (p Progress, ok bool) {
	at, ok := r.besides.Load(model)
	if !ok {
		return p, false
	}
	w := at.(*beginning)
	return Progress{Model: model, Version: w.version, Stage: w.stage, Counters: w.counters(time.Now()).short()}, true
}

func (r *Rollout) tell(p Progress) {
	b, err := json.Marshal(p)
	if err != nil { // it holds texts and finite numbers
		panic(err)
	}
	r.g.Say(ProgressTopic(p.Model), b)
}

// compared keeps inputs on which the versions differ, and remembers what the
// version beside said until the label arrives. The first inputs are all kept,
// later ones less and less often: the set is of all the time, and the disk has
// some rest.
func (r *Rollout) compared(t *truths, version string, keep int) func(pipeline.Compared) {
	differ := 0
	return func(c pipeline.Compared) {
		if t != nil {
			t.answer(c.Live.ID, version, c.Beside.Label)
		}
		if c.Same || keep == 0 || r.g.Differ == nil {
			return
		}
		if differ++; differ > keep && rand.IntN(differ) >= keep {
			return
		}
		res := *c.Live
		res.Stream += DifferSuffix
		r.g.Differ.Record(&res, c.Input)
	}
}
