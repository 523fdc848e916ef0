package pipeline

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"edgegateway/infer"
	"edgegateway/infer/drift"
)

// clearBelow is how far the drift falls before what was raised is cleared: a
// number that stays about 1 does not come and go.
const clearBelow = 0.8

// maxChanges is how many may wait to be told.
const maxChanges = 64

// watch is the drift of one stream. Workers add samples to it; what takes time
// (learning, files, alerts) its own goroutine does.
type watch struct {
	stream string
	model  string       // its name; "" for none
	of     *infer.Model // nil for none
	cfg    DriftConfig
	every  every
	keep   int // samples of a window, for labelling
	rec    Recorder
	out    Watcher
	log    zerolog.Logger
	wake   chan struct{} // one token: there is something to do

	mu       sync.Mutex
	learner  *drift.Learner
	monitor  *drift.Monitor
	from     string // where the reference is from
	version  string // of the model that answered last, "" of one that has none
	answered bool   // it did
	changed  bool   // it is another than before
	misfit   error  // why samples are not looked at
	refit    bool   // the learned reference does not fit: learn anew
	verdict  drift.Verdict
	judged   uint64
	raised   bool
	changes  []DriftStatus // that are to be told, the oldest first
	first    time.Time
	last     time.Time
	quarter  []time.Time // when the last judgements were, the oldest first
	notable  review
	full     []notable // of a whole window, on their way to the recorder
}

// add looks at one sample that a worker has the result of.
func (w *watch) add(by *worker, at *slot) {
	r := &at.result
	model := r.Infer.Model != ""
	values := at.looked
	if model {
		values = drift.Answers(values, r.Infer.Score, r.Infer.Values)
		at.looked = values
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = r.Time
	if w.first.IsZero() {
		w.first = r.Time
	}
	if model && (r.Infer.Version != w.version || !w.answered) {
		w.version, w.changed = strings.Clone(r.Infer.Version), w.answered && w.from != "file"
		if w.answered = true; w.changed {
			w.signal()
		}
	}
	if w.monitor == nil {
		w.learn(by, at)
		return
	}
	var unusual float64
	var ok bool
	if at.picture {
		unusual, ok = w.monitor.AddPicture(&at.look, values, r.Infer.Label)
	} else {
		unusual, ok = w.monitor.Add(values, r.Infer.Label)
	}
	if !ok {
		if w.misfit == nil {
			w.misfit = fmt.Errorf("the reference is of samples of %d numbers, these have others", w.monitor.Numbers())
			w.refit = w.from == "stream"
			w.signal()
		}
		return
	}
	if w.keep > 0 {
		w.notable.add(at, uncertain(&r.Infer), unusual)
	}
	if w.monitor.Due() {
		w.judge()
	}
}

func (w *watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// learn gives the sample to the learner; it is full until its reference is
// made. The caller holds the lock.
func (w *watch) learn(by *worker, at *slot) {
	r := &at.result
	values := at.looked
	model := r.Infer.Model != ""
	if w.learner == nil {
		inputs := by.inputNames(at)
		all := slices.Clone(inputs)
		if model {
			all = append(all, drift.AnswerNames(len(r.Infer.Values))...)
		}
		var err error
		if w.learner, err = drift.NewLearner(all, len(inputs), model && len(r.Infer.Values) == 0, w.cfg.learn()); err != nil {
			w.misfit = err
			return
		}
		w.misfit = nil
	}
	if at.picture {
		w.learner.AddPicture(&at.look, values, r.Infer.Label)
	} else {
		w.learner.Add(values, r.Infer.Label)
	}
	if w.learner.Full() {
		w.signal()
	}
}

// judge judges the window. The caller holds the lock.
func (w *watch) judge() {
	w.verdict = w.monitor.Judge(!w.otherModel())
	w.judged++
	if len(w.quarter) == 5 {
		w.quarter = append(w.quarter[:0], w.quarter[1:]...)
	}
	w.quarter = append(w.quarter, w.last)
	was, first := w.raised, w.judged == 1
	switch {
	case w.verdict.Drift > 1:
		w.raised = true
	case w.verdict.Drift <= clearBelow:
		w.raised = false
	}
	if w.keep > 0 && w.judged%4 == 0 && w.full == nil {
		w.full = w.notable.take()
	}
	if was != w.raised || first {
		if len(w.changes) == maxChanges {
			w.changes = w.changes[:maxChanges-1] // the newest counts
		}
		w.changes = append(w.changes, w.statusLocked())
		w.signal()
	}
	if w.full != nil {
		w.signal()
	}
}

// run does what is not for workers, until ended is closed.
func (w *watch) run(ended <-chan struct{}) {
	for {
		select {
		case <-w.wake:
			w.work()
		case <-ended:
			w.work()
			w.mu.Lock()
			rest := w.notable.take()
			w.mu.Unlock()
			w.record(rest)
			return
		}
	}
}

func (w *watch) work() {
	w.mu.Lock()
	learner, refit := w.learner, w.refit
	changed, version := w.changed, w.version
	w.changed = false
	if learner != nil && !learner.Full() {
		learner = nil
	}
	list := w.full
	w.full = nil
	w.mu.Unlock()
	if refit {
		w.log.Warn().Msg("drift: samples have other numbers than what was learned of this stream; it is learned anew")
		w.mu.Lock()
		w.monitor, w.learner, w.refit, w.first, w.verdict, w.judged = nil, nil, false, time.Time{}, drift.Verdict{}, 0
		w.mu.Unlock()
	}
	if learner != nil {
		w.learned(learner)
	}
	if changed {
		w.rebase(version)
	}
	w.record(list)
	w.tell()
}

// otherModel says that the reference knows the answers of another version of
// the model: they are not judged. The caller holds the lock.
func (w *watch) otherModel() bool {
	m := w.monitor.Reference().Model
	return m != "" && m != w.model+"@"+w.version
}

// tell says the changes to who wants to know.
func (w *watch) tell() {
	w.mu.Lock()
	list := w.changes
	w.changes = nil
	w.mu.Unlock()
	for _, s := range list {
		if w.out != nil {
			w.out.Drift(w.stream, s.State == DriftRaised, s)
		}
	}
}

// record keeps samples for labelling, in the order in which they came.
func (w *watch) record(list []notable) {
	for _, n := range list {
		w.rec.Record(&Result{Stream: ReviewSet(w.stream), Source: n.source, ID: n.id, Time: n.time, Begin: n.begin, Received: n.received, Picture: n.picture}, n.input)
	}
}

// status is the present state.
func (w *watch) status() *DriftStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.statusLocked()
	return &s
}

func (w *watch) statusLocked() DriftStatus {
	s := DriftStatus{From: w.from, Judged: w.judged, Time: w.last, Since: w.first}
	switch {
	case w.misfit != nil:
		s.State, s.Text = DriftStopped, w.misfit.Error()
	case w.monitor == nil:
		s.State, s.Of = DriftLearns, w.cfg.learn()
		if w.learner != nil {
			s.Samples = w.learner.Len()
		}
		s.Text = fmt.Sprintf("learns what is ordinary: %d of %d samples", s.Samples, s.Of)
	case w.judged == 0:
		s.State, s.Of, s.Samples = DriftFills, w.cfg.Window, w.monitor.Len()
		s.Text = fmt.Sprintf("the first window: %d of %d samples", s.Samples, s.Of)
		s.Blind = w.monitor.Blind()
	default:
		s.State, s.Of, s.Samples = DriftSteady, w.cfg.Window, w.monitor.Len()
		if w.raised {
			s.State = DriftRaised
		}
		s.Blind = w.monitor.Blind()
		s.Drift, s.Feature = w.verdict.Drift, w.verdict.Feature
		s.Features = slices.Clone(w.verdict.Features[:min(len(w.verdict.Features), 8)])
		if len(w.quarter) == 5 {
			s.Since = w.quarter[0]
		}
		s.Text = verdictText(w.verdict, w.raised)
	}
	return s
}

// verdictText says a verdict to people.
func verdictText(v drift.Verdict, raised bool) string {
	if len(v.Features) == 0 {
		return "nothing is judged"
	}
	f := v.Features[0]
	if !raised {
		return fmt.Sprintf("as the reference; %s is farthest, at %.2f of what would be drift", f.Name, v.Drift)
	}
	var how string
	switch {
	case f.Outside > 0 && f.Above > f.Outside:
		how = fmt.Sprintf("%.0f %% of it is above all that the reference has", 100*f.Above)
	case f.Outside > 0 && f.Below > f.Outside:
		how = fmt.Sprintf("%.0f %% of it is below all that the reference has", 100*f.Below)
	default:
		how = fmt.Sprintf("its distance from the reference is %.2f, over %.2f", f.Distance, f.Limit)
	}
	text := fmt.Sprintf("%s drifts: %s", f.Name, how)
	var more []string
	for _, o := range v.Features[1:] {
		if o.Drift > 1 {
			more = append(more, o.Name)
		}
	}
	if len(more) > 0 {
		text += "; so do " + strings.Join(more[:min(len(more), 4)], ", ")
	}
	return text
}

// uncertain is how unsure a model was, 0 for sure, 1 for not at all, and below
// 0 where that cannot be said.
func uncertain(r *infer.Result) float64 {
	switch {
	case len(r.Objects) > 0:
		least := math.Inf(1)
		for i := range r.Objects {
			least = min(least, r.Objects[i].Score)
		}
		return 1 - least
	case len(r.Top) > 1:
		return 1 - (r.Top[0].Score - r.Top[1].Score)
	case len(r.Top) == 1:
		return 1 - math.Abs(2*r.Top[0].Score-1)
	}
	return -1
}
