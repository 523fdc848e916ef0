package rollout

import (
	"context"
	"time"

	"edgegateway/infer/store"
)

// inboxOften is how often the inbox is looked at: a file is taken at the second
// look that finds it as it was.
const inboxOften = time.Second

// takeIn brings what is dropped into the inbox to the store, until ctx ends.
// What becomes of it there somebody has to say.
func (r *Rollout) takeIn(ctx context.Context) {
	if r.g.Inbox == "" {
		return
	}
	box := store.NewInbox(r.g.Store, r.g.Inbox)
	tick := time.NewTicker(inboxOften)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
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
