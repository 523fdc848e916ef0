package rollout

import (
	"fmt"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/store"
)

// slack is what a median may be longer whatever the version before took: of
// small models a busy moment is many times their own time.
const slack = 200 * time.Microsecond

// judge says why a version is to be taken back, "" where it is not: by what it
// did in a while beside what the one before did, and by its own limits.
func (c Config) judge(before, now infer.Counts, limits store.Limits) string {
	if share := now.Failed(); share > before.Failed()+c.Failures {
		return fmt.Sprintf("%.1f %% of %d inputs failed, %.1f %% with the version before", 100*share, now.Answers+now.Failures, 100*before.Failed())
	}
	if now.Answers < uint64(c.After)/2 { // the others failed
		return ""
	}
	most := c.Millis
	if most == 0 {
		most = limits.Millis
	}
	if p99 := now.Quantile(0.99); most > 0 && millis(p99) > most {
		return fmt.Sprintf("its p99 is %.2f ms over %d inputs, the limit is %g ms", millis(p99), now.Answers, most)
	}
	was, is := before.Quantile(0.5), now.Quantile(0.5)
	if c.Slower > 0 && was > 0 && is > slack+time.Duration(c.Slower*float64(was)) {
		return fmt.Sprintf("its median is %.2f ms over %d inputs, that of the version before %.2f ms", millis(is), now.Answers, millis(was))
	}
	return ""
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// enough says whether a version was asked often enough to be judged.
func (c Config) enough(n infer.Counts) bool { return n.Answers+n.Failures >= uint64(c.After) }

// deaths is how often the gateway may end without a word while a version is
// watched; then it is taken back at the next start. A version that kills the
// process does not live to be judged.
const deaths = 3

// deadly says how often the gateway ended without a word since a version went
// live, while it was watched.
func (c Config) deadly(log []Entry, model, version string) (ends int) {
	var since time.Time
	running, awaited := false, false
	for _, e := range log {
		switch {
		case e.Model == model && e.Step == StepActivated: // it is at work from the next start on
			since, ends, running, awaited = time.Time{}, 0, false, e.Version == version
		case e.Model == model && (e.Step == StepLive || e.Step == StepRolledBack):
			since, ends, running, awaited = time.Time{}, 0, true, false
			if e.Version == version && e.Step == StepLive {
				since = e.Time
			}
		case e.Step == StepStop:
			running = false
		case e.Step == StepStart && awaited:
			since, running, awaited = e.Time, true, false
		case e.Step == StepStart:
			if running && !since.IsZero() && e.Time.Sub(since) < c.Watch {
				ends++
			}
			running = true
		}
	}
	return ends
}

// fatal says how often the gateway ended without a word since a version was
// first put beside the live one, and is there still.
func fatal(log []Entry, model, version string) (ends int) {
	beside, running := false, false
	for _, e := range log {
		switch {
		case e.Model == model && e.Version == version && (e.Step == StepShadow || e.Step == StepCanary):
			beside, running = true, true
		case e.Model == model && e.Version == version && e.Step != StepStart && e.Step != StepAdded:
			beside, ends = false, 0
		case e.Step == StepStop:
			running = false
		case e.Step == StepStart:
			if running && beside {
				ends++
			}
			running = false // until it is put there again
		}
	}
	return ends
}
