package rollout

import (
	"context"
	"fmt"
	"maps"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
)

// watched is a version that went live not long ago.
type watched struct {
	c      Candidate
	back   string // the version before
	until  time.Time
	before infer.Counts // what that one did at last
	from   infer.Counts // where the present while began
	marks  marks        // what came of its labels until it went live
}

// recent is what a model did of late: what the version before a swap is
// measured by.
type recent struct {
	older, newer infer.Counts
	at           time.Time // of newer
}

// period is how old the counts are at least that a version is measured from.
const period = time.Minute

// baseline is what the version at work did in the last minute or two, or since
// it is at work.
func (r *Rollout) baseline(name string) infer.Counts {
	m, err := r.g.Engine.Model(name)
	if err != nil {
		return infer.Counts{}
	}
	now := m.Counts()
	r.mu.Lock()
	defer r.mu.Unlock()
	if of := r.recent[name]; of != nil {
		if n := now.Since(of.older); n.Answers > 0 {
			return n
		}
	}
	return now
}

// watchFrom begins to watch a version that went live; before is what the one
// did that it took the place of.
func (r *Rollout) watchFrom(c Candidate, before infer.Counts) {
	st, err := r.g.Store.State()
	m, wrong := r.g.Engine.Model(c.Name)
	cfg := r.config()
	if err != nil || wrong != nil || cfg.Watch == 0 || st.Models[c.Name].Previous == "" {
		return
	}
	w := &watched{c: c, back: st.Models[c.Name].Previous, until: time.Now().Add(cfg.Watch), before: before}
	if w.from = m.Counts(); w.from.Version != c.Version.Version { // another one already
		return
	}
	w.from = infer.Counts{Version: w.from.Version}
	w.marks = r.truthsOf(c.Name).of(c.Version.Version)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched[c.Name] = w
}

// watch holds what went live against what was before, and takes back what does
// worse.
func (r *Rollout) watch(ctx context.Context, now time.Time) {
	for _, s := range r.g.Engine.Models() {
		if m, err := r.g.Engine.Model(s.Name); err == nil {
			r.remember(s.Name, m.Counts(), now)
		}
	}
	cfg := r.config()
	r.mu.Lock()
	all := maps.Clone(r.watched)
	r.mu.Unlock()
	for name, w := range all {
		m, err := r.g.Engine.Model(name)
		if err != nil || now.After(w.until) || m.Version() != w.c.Version.Version || cfg.Watch == 0 {
			r.forget(name, w)
			continue
		}
		if why := r.lessAccurate(name, w, cfg.Accuracy); why != "" {
			r.forget(name, w)
			r.takeBack(ctx, name, w, why)
			continue
		}
		n := m.Counts()
		done := n.Since(w.from)
		if n.Version != w.c.Version.Version || !cfg.enough(done) {
			continue
		}
		if why := cfg.judge(w.before, done, w.c.Files.Manifest.Limits); why != "" {
			r.forget(name, w)
			r.takeBack(ctx, name, w, why)
			continue
		}
		r.mu.Lock()
		w.from = n
		r.mu.Unlock()
	}
}

// lessAccurate says why the labels that arrived speak against a version, ""
// where they do not.
func (r *Rollout) lessAccurate(name string, w *watched, much float64) string {
	t := r.truthsOf(name)
	if t == nil || much == 0 {
		return ""
	}
	is, was := t.of(w.c.Version.Version).since(w.marks), t.of(w.before.Version)
	if !is.worse(was, much) {
		return ""
	}
	return fmt.Sprintf("its accuracy is %.4f of %d labels, that of the version before %.4f of %d", is.accuracy(), is.labels, was.accuracy(), was.labels)
}

func (r *Rollout) forget(name string, w *watched) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched[name] == w {
		delete(r.watched, name)
	}
}

// remember keeps what a model did, a minute apart.
func (r *Rollout) remember(name string, n infer.Counts, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.recent[name]
	switch {
	case of == nil || of.newer.Version != n.Version:
		r.recent[name] = &recent{older: infer.Counts{Version: n.Version}, newer: n, at: now}
	case now.Sub(of.at) >= period:
		of.older, of.newer, of.at = of.newer, n, now
	}
}

// takeBack puts the version before in the place of one that does worse.
func (r *Rollout) takeBack(ctx context.Context, name string, w *watched, why string) {
	bad := w.c.Version.Version
	c, err := r.candidate(name, w.back)
	if err == nil {
		err = r.serve(ctx, c, bad, "back: version "+bad+": "+why, nil)
	}
	if err != nil {
		r.log.Error().Err(err).Str("model", name).Str("version", bad).Str("why", why).Msg("it is to be taken back, and cannot")
		r.step(Entry{Step: StepFailed, Model: name, Version: bad, Before: w.back, Why: why + "; it cannot be taken back: " + err.Error()})
		return
	}
	r.tookBack(name, bad, w.back, why)
}

// tookBack notes that another version answers in the place of a bad one.
func (r *Rollout) tookBack(name, bad, back, why string) {
	if err := r.g.Store.Mark(name, bad, store.Failed, why, nil); err != nil {
		r.log.Error().Err(err).Str("model", name).Msg("the store takes nothing")
	}
	r.step(Entry{Step: StepRolledBack, Model: name, Version: bad, Before: back, Why: why + "; version " + back + " answers again"})
}
