package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edgegateway/fl"
	"edgegateway/gateway/learn"
	"edgegateway/internal/keyfile"
)

// flOffer is a task that is announced.
type flOffer struct {
	task  *fl.Task
	id    string
	over  bool
	tried int  // so many times its coordinator was waited for
	said  bool // that it did not answer
}

// flOffers are the tasks that a join may take part in, as they are announced.
type flOffers struct {
	name string // or id; empty: any that is not over
	own  string // id of the one that was begun, which comes first; empty: none
	say  func(string, ...any)
	news chan struct{}

	mu      sync.Mutex
	list    []*flOffer // in the order in which they were heard of
	refused map[fl.Reason]int
	passed  map[string]map[string]bool // tasks that were passed over, by the reason
	heard   []string                   // of tasks that are not meant
}

// mostPassed bounds what is remembered of messages that nobody vouches for.
const mostPassed = 100

// hear takes an announcement; an empty one takes a task back.
func (t *flOffers) hear(m fl.Message, trusted fl.Find) {
	id := fl.TaskOf(m.Topic)
	if len(m.Payload) == 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		for i, o := range t.list {
			if o.id == id {
				t.list = append(t.list[:i:i], t.list[i+1:]...)
				return
			}
		}
		return
	}
	part, err := fl.Open(m, trusted)
	var a fl.Announcement
	if err == nil {
		err = part.Into(&a)
	}
	var task *fl.Task
	if err == nil {
		task, id, err = fl.DecodeTask(a.Task)
	}
	if err == nil && id != part.Task {
		err = fmt.Errorf("it announces the task %s", id)
	}
	if err != nil {
		t.pass(m.Topic, err)
		return
	}
	if t.name != "" && t.name != task.Name && t.name != id {
		t.passBy("task " + task.Name + " is announced, and " + t.name + " is waited for")
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	over := a.State == "done" || a.State == "stopped"
	for _, o := range t.list {
		if o.id == id {
			o.over = over
			return
		}
	}
	if over && t.name == "" && id != t.own {
		t.passByLocked("task " + task.Name + " is over, and another one is waited for")
		return
	}
	t.list = append(t.list, &flOffer{task: task, id: id, over: over})
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// passBy says once that a task was heard of that is not meant.
func (t *flOffers) passBy(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passByLocked(text)
}

func (t *flOffers) passByLocked(text string) {
	if len(t.heard) < mostPassed && !slices.Contains(t.heard, text) {
		t.heard = append(t.heard, text)
		t.say("%s", text)
	}
}

// pass says that an announcement is not taken: of one kind the first few alone,
// and then every hundredth.
func (t *flOffers) pass(topic string, err error) {
	t.mu.Lock()
	if t.refused == nil {
		t.refused, t.passed = map[fl.Reason]int{}, map[string]map[string]bool{}
	}
	why := err.Error()
	if t.passed[why] == nil && len(t.passed) < mostPassed {
		t.passed[why] = map[string]bool{}
	}
	if tasks := t.passed[why]; tasks != nil && len(tasks) < mostPassed {
		tasks[fl.TaskOf(topic)] = true
	}
	t.refused[fl.ReasonOf(err)]++
	n := t.refused[fl.ReasonOf(err)]
	t.mu.Unlock()
	switch {
	case n > 5 && n%100 != 0:
	case n >= 5:
		t.say("passed over: %s: %v (%d of this kind)", topic, err, n)
	default:
		t.say("passed over: %s: %v", topic, err)
	}
}

// next gives the task that was begun, else the one that was tried least, those that
// are over behind all others; it waits for one.
func (t *flOffers) next(ctx context.Context) (*flOffer, error) {
	var patient <-chan time.Time
	for waited := false; ; {
		if o := t.best(nil); o != nil {
			if waited || o.id == t.own || t.own == "" && !t.isOver(o) {
				return o, nil
			}
			if patient == nil {
				patient = time.After(time.Second) // what the broker retains does not come in an order
			}
		}
		select {
		case <-t.news:
		case <-patient:
			waited = true
		case <-ctx.Done():
			return nil, t.none()
		}
	}
}

func (t *flOffers) best(but *flOffer) *flOffer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var best *flOffer
	for _, o := range t.list {
		switch {
		case o == but || o.over && t.name == "" && o.id != t.own:
		case o.id == t.own && (o.over || o.tried == 0):
			return o
		case best == nil || best.over && !o.over || best.over == o.over && o.tried < best.tried:
			best = o
		}
	}
	return best
}

// leave passes over a task that was begun and goes on as another one.
func (t *flOffers) leave(o *flOffer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.id == t.own {
		t.own = ""
	}
}

func (t *flOffers) isOver(o *flOffer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.over
}

// none says why there is no task.
func (t *flOffers) none() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := errors.New("stopped: no task was announced")
	switch {
	case len(t.heard) > 0:
		err = fmt.Errorf("stopped: %s", strings.Join(t.heard, "; "))
	case len(t.passed) > 0:
		err = errors.New("stopped: no task was announced that can be taken")
	}
	for why, tasks := range t.passed {
		err = fmt.Errorf("%w; %d passed over: %s", err, len(tasks), why)
	}
	return err
}

// flSelf is who joins, and with what.
type flSelf struct {
	key       ed25519.PrivateKey
	trusted   []ed25519.PublicKey
	transport *flTransport
	exe       string
	say       func(string, ...any)
}

// patience is how long a coordinator may take to answer before it is said that it
// does not, and another's task is tried, where there is one.
const patience = 3 * time.Second

// follow takes part in a task until that is over. again says that another one is
// to be taken: its coordinator does not answer, or it gave the task up for a
// changed one.
func (j *joining) follow(ctx context.Context, who *flSelf, tasks *flOffers, o *flOffer) (again bool, err error) {
	set, err := j.from.forTask(ctx, o.task, j.say, j.say)
	if err != nil {
		return false, err
	}
	if set, err = j.part.take(set, o.task.Seed); err != nil {
		return false, invalid(err)
	}
	who.say("task %s: %d samples to take part with", o.task.Name, set.Len())
	p, err := j.participant(who, o.id)
	if err != nil {
		return false, err
	}
	own, cancel := context.WithCancel(ctx)
	var answered, moved atomic.Bool
	var beside sync.WaitGroup
	beside.Go(func() {
		if j.unanswered(own, who, tasks, o, &answered) {
			moved.Store(true)
			cancel()
		}
	})
	worker := &learn.Worker{Program: who.exe, Args: flChild, Limits: func() learn.Limits { return j.limits }, Changed: func(state string) { who.say("%s", state) }}
	last, over := "", false
	err = fl.ServeParticipant(own, who.transport, p, fl.ParticipantLoop{
		Dataset: flSet{set},
		Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
			r, err := worker.Train(ctx, job, learn.Samples{Set: set}, filepath.Join(j.state, "work", o.id), nil)
			if err == nil {
				u := &r.Update
				who.say("round %d: trained on %d samples in %.1f s; held out here: loss %.4f, then %.4f; the update has %d bytes", job.Round, u.Samples, u.Seconds, u.Before.Loss, u.After.Loss, len(u.Delta))
			}
			return r, err
		},
		Log: func(_ string, err error) { who.say("%v", err) },
		Step: func(p *fl.Participant) {
			s := p.Status()
			over = isOver(s)
			answered.Store(p.Answered() || over)
			if p.Answered() && j.joined.Task != o.id {
				if err := j.remember(o.id); err != nil {
					who.say("%v", err)
				}
			}
			text := doingNow(&s)
			if s.State != "" && s.Doing != "waiting" && text != last {
				last = text
				who.say("%s", text)
			}
		},
		Done: func(*fl.Participant) bool { return over },
	})
	cancel()
	beside.Wait()
	s := p.Status()
	switch {
	case err != nil:
		return false, err
	case over && fl.Replaced(s.Why):
		who.say("task %s: %s", o.id, s.Why)
		tasks.leave(o)
		return true, nil
	case over:
		who.say("%s", ended(o.task.Name, s))
		return false, nil
	case ctx.Err() == nil && moved.Load():
		return true, nil
	}
	return false, fmt.Errorf("stopped: the same command goes on from %s", j.state)
}

// doingNow says what a participant does, and of which round that is.
func doingNow(s *fl.ParticipantStatus) string {
	text := fmt.Sprintf("round %d of %d: %s", s.DoingRound, s.Rounds, s.Doing)
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

// unanswered says that a coordinator does not answer; true: there is another task
// to try.
func (j *joining) unanswered(ctx context.Context, who *flSelf, tasks *flOffers, o *flOffer, answered *atomic.Bool) bool {
	tick := time.NewTicker(patience << min(o.tried, 4))
	defer tick.Stop()
	o.tried++
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		if answered.Load() {
			return false
		}
		if _, err := who.transport.now(); err != nil {
			continue // that was said
		}
		if !o.said {
			o.said = true
			who.say("no answer yet from the coordinator of %s: does it run, and is %s enrolled there with key %s?", o.id, j.name, keyfile.ID(who.key.Public().(ed25519.PublicKey)))
		}
		if next := tasks.best(o); next != nil && !tasks.isOver(next) {
			who.say("trying %s", next.id)
			return true
		}
	}
}
