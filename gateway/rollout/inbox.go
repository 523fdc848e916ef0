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
			r.step(Entry{Step: StepAdded, Model: d.Name, Version: d.Version.Version, Before: r.live(d.Name), Why: "from the inbox", By: d.File})
		}
	}
}
