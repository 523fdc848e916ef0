package fl

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// over says whether the task has ended.
func (p *Participant) over() bool {
	s := p.head.Task.State
	return s == "done" || s == "stopped"
}

// invited says whether this gateway owes the coordinator the update of a round.
func (p *Participant) invited() bool {
	c := &p.head.Call
	u := &p.update
	has := u.Seq > 0 && u.Round == p.head.Round && u.Base == c.Model.Hash
	return c.Invited && !c.Done && c.Refused == "" && !p.over() && !has
}

// advance does what is due.
func (p *Participant) advance(now time.Time) error {
	if err := p.prepare(now); err != nil {
		return err
	}
	if err := p.hello(now); err != nil {
		return err
	}
	if err := p.drop(); err != nil {
		return err
	}
	if err := p.train(now); err != nil {
		return err
	}
	if err := p.send(now); err != nil {
		return err
	}
	if err := p.offer(now); err != nil {
		return err
	}
	return p.tidy()
}

// prepare makes the task of its announcement, with its file where it has one.
func (p *Participant) prepare(now time.Time) error {
	if p.task != nil || p.head.Task.Task == nil {
		return nil
	}
	t, _, err := DecodeTask(p.head.Task.Task)
	if err != nil {
		return err // it was read before it was kept
	}
	if f := p.head.Task.File; f.Chunks > 0 {
		file, err := p.gather(now, f)
		if err != nil || file == nil {
			return err
		}
		if err := t.SetFile(file); err != nil {
			p.cannot(err)
			return nil
		}
	}
	if p.layout, p.count, err = p.cfg.Size(t); err != nil {
		p.cannot(err)
		return nil
	}
	p.task = t
	return nil
}

// cannot notes why this gateway does not take part.
func (p *Participant) cannot(err error) { p.status.Why = err.Error() }

// looks is how many times Retry it waits before it says again that it is there.
const looks = 10

// hello says that it is there: when the link is, when the coordinator waits for
// somebody, and when there is a tenth more or less to train on.
func (p *Participant) hello(now time.Time) error {
	if r := p.head.Report; p.linked && !p.reported && r != nil { // it may not have arrived
		p.reported = true
		if err := p.report(p.head.Said, p.head.Outcome.Round, *r); err != nil {
			return err
		}
	}
	if !p.linked || p.samples < 0 || p.head.Task.Task == nil || p.over() {
		return nil
	}
	least := 1
	if p.task != nil {
		least = max(p.task.Data.Minimum, 1)
	}
	moved := 10*max(p.samples-p.said, p.said-p.samples) >= max(p.said, 1) || (p.said < least) != (p.samples < least)
	// A broker may let fall what it says, or what the coordinator answers: it is
	// said again, soon while nothing was ever heard or where a coordinator that
	// waits says so anew, and now and then later.
	again := looks * p.cfg.Retry
	if len(p.head.Seen) < 2 { // no Call
		again = backoff(p.cfg.Retry/10, max(p.hellos-1, 0))
	}
	if p.called {
		again = min(again, p.cfg.Retry/60)
	}
	if next := p.helloAt.Add(again); p.helloed && !moved && now.Before(next) {
		p.wakeAt(next)
		return nil
	}
	p.hellos++
	p.helloed, p.called, p.said, p.helloAt = true, false, p.samples, now
	body, err := Pack(Hello{Samples: p.samples, Version: p.cfg.Version, Chunk: p.cfg.Chunk})
	if err != nil {
		return err
	}
	seq, err := p.seq.Next(now)
	if err != nil {
		return err
	}
	return p.say(Header{Kind: KindHello, Round: p.head.Task.Round, Base: p.head.Task.Model.Hash, Seq: seq}, body, nil)
}

// say seals a body and has it sent, but for the chunks that are there.
func (p *Participant) say(h Header, body []byte, have []int) error {
	h.Task, h.From = p.cfg.Task, p.gateway
	list, err := Seal(h, body, p.cfg.Chunk, p.key)
	if err != nil {
		return err
	}
	for i, m := range list {
		if !slices.Contains(have, i) {
			p.out = append(p.out, Action{Send: &m})
			p.status.SentBytes += int64(len(m.Payload))
		}
	}
	return nil
}

// drop forgets what no round wants any more: an update of one that is over, where
// late ones do not count, and a job of one.
func (p *Participant) drop() error {
	if p.task == nil {
		return nil
	}
	now, late := max(p.head.Round, p.head.Task.Round), p.late()
	if u := &p.update; u.Seq > 0 && !u.Done && (p.over() || u.Round < now && !late) {
		if err := p.delivered(); err != nil { // it is not sent any more
			return err
		}
	}
	if p.job.Round == 0 {
		return nil
	}
	still := p.invited() && p.head.Round == p.job.Round && p.head.Call.Model.Hash == p.job.Base
	if still || late && !p.over() && p.training != nil {
		return nil
	}
	p.training = nil
	return p.keepJob(jobRecord{})
}

// late says whether updates count that were begun in rounds that are over.
func (p *Participant) late() bool {
	t := p.task
	if t == nil { // just started
		var err error
		if t, _, err = DecodeTask(p.head.Task.Task); err != nil {
			return false
		}
	}
	return t.Late == "next" || t.Strategy.Kind == "fedbuff"
}

// train begins the job of a round, or the same again after a restart.
func (p *Participant) train(now time.Time) error {
	if p.task == nil || p.training != nil || !p.invited() {
		return nil
	}
	if p.job.Round == 0 && p.samples < max(p.task.Data.Minimum, 1) {
		return nil // it was said; Counted says when there are more
	}
	base, err := p.weights(now, p.head.Call.Model)
	if ReasonOf(err) != "" {
		p.cannot(err)
		return nil
	}
	if err != nil || base == nil {
		return err
	}
	if now.Before(p.trainAt) {
		p.wakeAt(p.trainAt)
		return nil
	}
	if p.job.Round == 0 {
		if err := p.keepJob(jobRecord{p.head.Round, p.head.Call.Model.Hash, p.samples}); err != nil {
			return err
		}
	}
	p.training = &Job{
		Task: p.task, Round: p.job.Round, Gateway: p.gateway, Base: base, Samples: p.job.Samples,
		Seed: seedOf(p.task.Seed, p.job.Round, p.gateway),
	}
	if len(p.update.Residual) == 4*p.count {
		p.training.Residual = floatsOf(p.update.Residual)
	}
	p.out = append(p.out, Action{Train: p.training})
	return nil
}

// Trained is told what came of a job. An error that wraps ErrLater has the same
// job tried again; after any other it is tried with the samples that are there
// then.
func (p *Participant) Trained(now time.Time, job *Job, r *Result, err error) ([]Action, error) {
	if job != p.training { // its round is over
		return p.act(now, nil)
	}
	if err == nil {
		err = p.trained(now, job, r)
		if err != nil {
			return nil, fmt.Errorf("task %s: %w", p.cfg.Task, err)
		}
		return p.act(now, nil)
	}
	p.training = nil
	p.cannot(err)
	p.trainAt = now.Add(backoff(p.cfg.Retry, p.failures))
	p.failures++
	if errors.Is(err, ErrLater) {
		return p.act(now, nil)
	}
	if e := p.keepJob(jobRecord{}); e != nil {
		return nil, e
	}
	p.out = nil
	if p.failures == 1 { // the coordinator's people want to know what it waits for
		seq, e := p.seq.Next(now)
		if e == nil {
			e = p.report(seq, job.Round, Report{Model: job.Base.Hash(), State: "failed", Why: spoken(err)})
		}
		if e != nil {
			return nil, e
		}
	}
	said := p.out
	out, err := p.act(now, nil)
	return append(said, out...), err
}

// trained keeps an update until the coordinator has it.
func (p *Participant) trained(now time.Time, job *Job, r *Result) error {
	body, err := Pack(r.Update)
	if err != nil {
		return err
	}
	seq, err := p.seq.Next(now)
	if err != nil {
		return err
	}
	u := ownUpdate{Round: job.Round, Base: job.Base.Hash(), Seq: seq, Body: body, Residual: floatBytes(r.Residual), Before: r.Update.Before, After: r.Update.After}
	if len(p.head.Call.Have) > 0 { // of another update, from before this state was lost
		next := p.head.clone()
		next.Call.Have = nil
		if err := p.keepHead(next); err != nil {
			return err
		}
	}
	if err := p.keepUpdate(u); err != nil {
		return err
	}
	p.training, p.failures, p.trainAt, p.status.Why = nil, 0, time.Time{}, ""
	p.status.Sent++
	p.resends = 0
	clear(p.sentAt)
	return p.keepJob(jobRecord{})
}

// send sends what the coordinator does not have of the update: at once what was
// not sent over this link, and the rest again after a while, less and less often,
// for who let a chunk fall says nothing.
func (p *Participant) send(now time.Time) error {
	u := &p.update
	if !p.linked || u.Seq == 0 || u.Done || p.task == nil {
		return nil
	}
	have := []int(nil)
	if p.head.Round == u.Round {
		have = p.head.Call.Have
	}
	chunks := max(1, (len(u.Body)+p.cfg.Chunk-1)/p.cfg.Chunk)
	skip := slices.Clone(have)
	wait, due := backoff(p.cfg.Retry, p.resends), false
	for _, i := range Missing(have, chunks) {
		at, sent := p.sentAt[i]
		if sent && now.Before(at.Add(wait)) {
			skip = append(skip, i)
			continue
		}
		due = due || sent
		p.sentAt[i] = now
	}
	if due {
		p.resends++
		wait = backoff(p.cfg.Retry, p.resends)
	}
	p.wakeAt(now.Add(wait))
	if len(skip) >= chunks {
		return nil
	}
	return p.say(Header{Kind: KindUpdate, Round: u.Round, Base: u.Base, Seq: u.Seq}, u.Body, skip)
}

// backoff doubles a wait with each failure in a row, up to an hour.
func backoff(least time.Duration, failures int) time.Duration {
	if failures > 12 {
		failures = 12
	}
	return max(least, min(least<<failures, time.Hour))
}
