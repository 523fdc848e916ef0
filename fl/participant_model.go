package fl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// target are the weights that would be brought to work here, without Chunks where
// there are none, or where there was a verdict on them.
func (p *Participant) target() Ref {
	a := &p.head.Task
	if p.task == nil || !p.cfg.Publish || p.task.Publish.Model == "" {
		return Ref{}
	}
	ref := Ref{}
	switch p.task.Publish.When {
	case "every":
		ref = a.Model
	case "improved":
		ref = a.Best
	default:
		if p.over() {
			ref = a.Best
		}
	}
	if p.over() && a.Best.Chunks > 0 {
		ref = a.Best
	}
	if ref.Round < 1 || slices.Contains(p.head.Judged, ref.Hash) { // the first weights are nobody's work
		return Ref{}
	}
	return ref
}

// offer has a new model brought to work here.
func (p *Participant) offer(now time.Time) error {
	ref := p.target()
	if ref.Chunks == 0 || p.offering != nil {
		return nil
	}
	if now.Before(p.offerAt) {
		p.wakeAt(p.offerAt)
		return nil
	}
	w, err := p.weights(now, ref)
	if ReasonOf(err) != "" {
		p.cannot(err)
		return nil
	}
	if err != nil || w == nil {
		return err
	}
	p.offering = &NewModel{ID: p.cfg.Task, Task: p.task, Round: ref.Round, Base: ref.Hash, Weights: w, Final: p.over()}
	p.out = append(p.out, Action{Offer: p.offering})
	return nil
}

// Published is told what became of a new model here: err is why it is not wanted.
// An error that wraps ErrLater is no verdict.
func (p *Participant) Published(now time.Time, m *NewModel, v Verdict, err error) ([]Action, error) {
	if m != p.offering {
		return p.act(now, nil)
	}
	p.offering = nil
	if errors.Is(err, ErrLater) {
		p.cannot(err)
		p.offerAt = now.Add(p.cfg.Retry)
		return p.act(now, nil)
	}
	o := &Outcome{Round: m.Round, State: "live", New: v.New, Old: v.Old}
	if err != nil {
		o.State, o.Why = "refused", err.Error()
	}
	next := p.head.clone()
	next.Outcome, next.Report = o, &Report{Model: m.Base, State: o.State, New: v.New, Old: v.Old}
	if err != nil {
		next.Report.Why = spoken(err)
	}
	next.Judged = append(next.Judged, m.Base)
	next.Judged = next.Judged[max(0, len(next.Judged)-keptJudged):]
	next.Said, err = p.seq.Next(now)
	if err == nil {
		err = p.keepHead(next)
	}
	p.out, p.reported = nil, true
	if err == nil {
		err = p.report(next.Said, m.Round, *next.Report)
	}
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", p.cfg.Task, err)
	}
	said := p.out
	out, err := p.act(now, nil)
	return append(said, out...), err
}

// Stands is told whether the last model that went live here still is: why is what
// came of it, nil where it is. What was said before is said anew where it changed.
func (p *Participant) Stands(now time.Time, model Hash, why error) ([]Action, error) {
	o, r := p.head.Outcome, p.head.Report
	if r == nil || o == nil || r.Model != model || p.offering != nil {
		return p.act(now, nil)
	}
	state := "live"
	if why != nil {
		state = "withdrawn"
	}
	if r.State == state || r.State != "live" && r.State != "withdrawn" {
		return p.act(now, nil)
	}
	next := p.head.clone()
	outcome, report := *o, *r
	outcome.State, report.State, outcome.Why, report.Why = state, state, "", ""
	if why != nil {
		outcome.Why, report.Why = why.Error(), spoken(why)
	}
	next.Outcome, next.Report = &outcome, &report
	var err error
	if next.Said, err = p.seq.Next(now); err == nil {
		err = p.keepHead(next)
	}
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", p.cfg.Task, err)
	}
	p.reported = false // advance says it, as soon as the link is there
	return p.act(now, nil)
}

// report says what became of a model here.
func (p *Participant) report(seq uint64, round int, r Report) error {
	body, err := Pack(r)
	if err != nil {
		return err
	}
	return p.say(Header{Kind: KindReport, Round: round, Base: r.Model, Seq: seq}, body, nil)
}

// Told is an error whose words may leave the gateway, for they hold nothing of
// its samples, labels and files.
type Told string

func (t Told) Error() string { return string(t) }

// spoken is what a message says of an error: the words of a Told, and of any
// other that there was one.
func spoken(err error) string {
	var t Told
	if !errors.As(err, &t) {
		return "something failed there; the gateway's log says what"
	}
	return words(t)
}

// words is an error as it may be long in a message.
func words(err error) string {
	text := strings.ToValidUTF8(err.Error(), "")
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "")
	}
	return text
}

// floatsOf reads what floatBytes gave.
func floatsOf(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}
