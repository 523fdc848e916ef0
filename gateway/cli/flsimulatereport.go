package cli

import (
	"fmt"
	"runtime/metrics"
	"syscall"
	"text/tabwriter"
	"time"

	"edgegateway/fl"
	"edgegateway/fl/simulate"
)

// simulated is what a simulation came to, as JSON.
type simulated struct {
	Task         string           `json:"task"`
	Participants int              `json:"participants"`
	Partition    string           `json:"partition"`
	Hostile      []string         `json:"hostile"`
	State        string           `json:"state"`
	Why          string           `json:"why,omitempty"`
	Rounds       int              `json:"rounds"`
	Last         fl.Metrics       `json:"last"` // that were judged, of the weights after LastRound
	LastRound    int              `json:"last_round"`
	Best         fl.Metrics       `json:"best"`
	BestRound    int              `json:"best_round"`
	Weights      int              `json:"weights"`
	Updates      int              `json:"updates"`
	BytesUp      int64            `json:"bytes_up"`
	BytesWhole   int64            `json:"bytes_up_uncompressed"`
	Caught       int              `json:"hostile_updates_set_aside"`
	Aside        int              `json:"other_updates_set_aside"`
	Less         int              `json:"updates_counted_for_less"`
	Refused      int              `json:"messages_refused"`
	Clock        float64          `json:"clock_seconds"`
	Seconds      float64          `json:"seconds"`
	Processor    float64          `json:"processor_seconds"`
	Heap         uint64           `json:"heap_bytes"` // at most, what was in use after a garbage collection
	History      []fl.RoundReport `json:"history"`
}

// report says what it came to.
func (s *simulation) report(out *simulate.Outcome) error {
	r := simulated{Task: s.task.Name, Participants: s.cfg.Participants, Partition: s.cfg.Partition.String(), Hostile: append([]string{}, out.Hostile...),
		State: out.Status.State, Why: out.Status.Why, Rounds: len(out.History), Weights: out.Status.Weights, Refused: out.Refused,
		Clock: out.Clock.Seconds(), Seconds: time.Since(s.began).Seconds(), Processor: (processorTime() - s.used).Seconds(), Heap: max(s.heap, liveHeap()), History: out.History}
	hostile := map[string]bool{}
	for _, name := range out.Hostile {
		hostile[name] = true
	}
	for _, h := range out.History {
		if m, round := h.Judged(); m.Samples > 0 {
			r.Last, r.LastRound = m, round
			if m.Better(r.Best) {
				r.Best, r.BestRound = m, round
			}
		}
		r.Updates += h.Updates
		r.BytesUp += h.Bytes
		for _, a := range h.SetAside {
			switch {
			case a.Counted:
				r.Less++
			case hostile[a.From]:
				r.Caught++
			default:
				r.Aside++
			}
		}
	}
	r.BytesWhole = 4 * int64(r.Weights) * int64(r.Updates)
	if s.asJSON {
		return printJSON(s.result, r)
	}
	return r.print(s)
}

// print writes the table at the end.
func (r *simulated) print(s *simulation) error {
	w := tabwriter.NewWriter(s.result, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	fmt.Fprintln(w)
	row("task", "%s: %s%s", r.Task, r.State, map[bool]string{true: ", " + r.Why}[r.Why != ""])
	cohort := s.task.Cohort.Size
	if cohort == 0 || cohort > r.Participants {
		cohort = r.Participants
	}
	row("participants", "%d, %d of them a round, data %s", r.Participants, cohort, r.Partition)
	if len(r.Hostile) > 0 {
		row("attackers", "%d (%s); set aside were %d of their updates, and %d of others", len(r.Hostile), s.attack, r.Caught, r.Aside)
	}
	if r.Less > 0 {
		row("weakened", "%d updates were counted for less than they wanted: shortened, trimmed or late", r.Less)
	}
	row("rounds", "%d in %.1f s, %.2f s each; %s on their clock", r.Rounds, r.Seconds, r.Seconds/float64(r.Rounds), time.Duration(r.Clock*float64(time.Second)).Round(time.Second))
	for _, m := range []struct {
		name  string
		round int
		is    fl.Metrics
	}{{"last judged", r.LastRound, r.Last}, {"best judged", r.BestRound, r.Best}} {
		if m.is.Samples == 0 {
			continue
		}
		text := fmt.Sprintf("the weights after round %d: ", m.round)
		if m.is.Accuracy >= 0 {
			text += fmt.Sprintf("accuracy %.4f, ", m.is.Accuracy)
		}
		row(m.name, "%sloss %.4g on %d samples", text, m.is.Loss, m.is.Samples)
	}
	row("uplink", "%.2f MB in %d updates; whole weights are %.2f MB, %.1f times as much", float64(r.BytesUp)/1e6, r.Updates, float64(r.BytesWhole)/1e6, float64(r.BytesWhole)/float64(max(r.BytesUp, 1)))
	row("memory", "%.0f MB in use at most, the data among it", float64(r.Heap)/1e6)
	if r.Refused > 0 {
		row("refused", "%d messages", r.Refused)
	}
	return w.Flush()
}

// liveHeap is what the last garbage collection found in use.
func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}

// processorTime is how long this process has had a processor so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
