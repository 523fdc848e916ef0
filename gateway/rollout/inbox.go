package rollout

import (
	"context"
	"time"

	"edgegateway/infer/store"
)

// inboxOften is how often the inbox is looked at: a file is taken at the second
// look that finds it as it was.
const inboxOften = time.Second

// mostPassed is how many files that stay in the inbox are named at one look.
const mostPassed = 20

// Watch has what is dropped into a folder brought to the store, in place of the
// folder before; "": none.
func (r *Rollout) Watch(inbox string) { r.inbox.Store(&inbox) }

// takeIn brings what is dropped into the inbox to the store, until ctx ends.
// What becomes of it there somebody has to say.
func (r *Rollout) takeIn(ctx context.Context) {
	tick := time.NewTicker(inboxOften)
	defer tick.Stop()
	var box *store.Inbox
	dir, said := "", ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := r.inbox.Load(); now != nil && *now != dir {
			box, dir, said = store.NewInbox(r.g.Store, *now), *now, ""
		}
		if dir == "" {
			continue
		}
		dropped, err := box.Scan(ctx)
		if err != nil && err.Error() != said {
			r.log.Warn().Err(err).Msg("the inbox cannot be read")
		}
		if said = ""; err != nil {
			said = err.Error()
		}
		for _, d := range dropped {
			if d.Err != nil {
				r.log.Warn().Err(d.Err).Str("file", d.File).Msg("refused from the inbox")
				continue
			}
			r.Added(d.Name, d.Version.Version, "from the inbox", d.File)
		}
		passed := box.Passed()
		for _, d := range passed[:min(mostPassed, len(passed))] {
			r.log.Warn().Err(d.Err).Str("file", d.File).Msg("not taken from the inbox; it stays there")
		}
		if more := len(passed) - mostPassed; more > 0 {
			r.log.Warn().Int("count", more).Msg("as many more are not taken from the inbox")
		}
	}
}

// Added says that a version came into the store, and who brought it.
func (r *Rollout) Added(name, version, why, by string) {
	r.step(Entry{Step: StepAdded, Model: name, Version: version, Before: r.live(name), Why: why, By: by})
}

// Removed says that a version left the store, and who wanted it.
func (r *Rollout) Removed(name, version, why, by string) {
	r.step(Entry{Step: StepRemoved, Model: name, Version: version, Before: r.live(name), Why: why, By: by})
}
