package learn

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"edgegateway/fl"
)

// Status is a gateway's part in federated learning as a person looks at it.
type Status struct {
	Worker  string            `json:"worker"`            // idle, working, or why it pauses
	Refused map[fl.Reason]int `json:"refused,omitempty"` // announcements of tasks that were not taken, by reason
	Tasks   []TaskStatus      `json:"tasks"`
}

// TaskStatus is one task.
type TaskStatus struct {
	fl.ParticipantStatus
	Epoch  int    `json:"epoch,omitempty"` // that is done, of the round that is trained
	Failed string `json:"failed,omitempty"`
}

// Status gives the present state; nil where this gateway takes no part.
func (l *Learner) Status() *Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Key == "" {
		return nil
	}
	s := &Status{Worker: l.worker.State(), Tasks: []TaskStatus{}}
	pauses := pausing(s.Worker)
	if len(l.refused) > 0 {
		s.Refused = maps.Clone(l.refused)
	}
	for _, id := range slices.Sorted(maps.Keys(l.tasks)) {
		t := l.tasks[id]
		is := TaskStatus{t.status, t.epoch, t.failed}
		if is.Doing == "training" && pauses {
			is.Doing = s.Worker
		}
		s.Tasks = append(s.Tasks, is)
	}
	return s
}

// Line says how a task stands in a line.
func (t *TaskStatus) Line() string {
	if t.Failed != "" {
		return t.Failed
	}
	text := t.Doing
	switch {
	case t.State == "done":
		text = "over"
	case t.State == "stopped":
		text = t.State
	case text == "":
		text = "waiting"
	}
	if t.DoingRound > 0 {
		text = fmt.Sprintf("round %d of %d, %s", t.DoingRound, t.Rounds, text)
	}
	if t.Why != "" {
		text += ": " + t.Why
	}
	if m := t.Model; m != nil && m.State == "refused" {
		text += fmt.Sprintf("; the model of round %d is refused: %s", m.Round, m.Why)
	}
	return text
}

// Name is what tells the i-th task from the others: its name, or its id where
// others have that name, unless it alone of them is not over.
func (s *Status) Name(i int) string {
	t := &s.Tasks[i]
	for j := range s.Tasks {
		if o := &s.Tasks[j]; j != i && o.Task == t.Task && (t.over() || !o.over()) {
			return t.ID
		}
	}
	return t.Task
}

func (t *TaskStatus) over() bool { return t.State == "done" || t.State == "stopped" }

// metrics are read when they are asked for.
type metrics struct{ *Learner }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("edgegateway_fl_"+name, help, labels, nil)
}

// Describe is prometheus.Collector's: what there is hangs on the tasks.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector's.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.Status()
	if s == nil {
		return
	}
	one := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	working := 0.0
	if s.Worker == "working" {
		working = 1
	}
	one(desc("working", "1 while a child process trains, or makes a model; 0 also while it pauses."), prometheus.GaugeValue, working)
	for i, name := range stateNames {
		one(desc("child_seconds_total", "Seconds of child processes: working, or stopped for what serves, for their share of the processor, outside of hours and heat.", "state"),
			prometheus.CounterValue, time.Duration(m.worker.spent[i].Load()).Seconds(), name)
	}
	for why, n := range s.Refused {
		one(desc("refused_total", "Messages of federated learning that were refused, by task and reason.", "task", "reason"), prometheus.CounterValue, float64(n), "", string(why))
	}
	for i := range s.Tasks {
		t := &s.Tasks[i]
		one(desc("round", "Round of a task.", "task"), prometheus.GaugeValue, float64(t.Round), t.ID)
		one(desc("samples", "Samples here that a task can train on.", "task"), prometheus.GaugeValue, float64(t.Samples), t.ID)
		one(desc("updates_total", "Updates that were made and sent.", "task"), prometheus.CounterValue, float64(t.Sent), t.ID)
		one(desc("sent_bytes_total", "Bytes of messages to the coordinator.", "task"), prometheus.CounterValue, float64(t.SentBytes), t.ID)
		for why, n := range t.Refused {
			one(desc("refused_total", "Messages of federated learning that were refused, by task and reason.", "task", "reason"), prometheus.CounterValue, float64(n), t.ID, string(why))
		}
		if t.Model != nil {
			for _, state := range []string{"trying", "live", "refused", "withdrawn"} {
				is := 0.0
				if state == t.Model.State {
					is = 1
				}
				one(desc("model", "1 for what became of the last new model of a task here.", "task", "state"), prometheus.GaugeValue, is, t.ID, state)
			}
		}
		if t.Before.Samples > 0 && t.Before.Accuracy >= 0 {
			one(desc("accuracy", "Accuracy of the weights that the last round began with, on the samples held out here.", "task"), prometheus.GaugeValue, t.Before.Accuracy, t.ID)
		}
	}
}
