package fl

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"edgegateway/fl/aggregate"
	"edgegateway/internal/keyfile"
)

// CoordinatorConfig is how a coordinator works, beside what the task says.
type CoordinatorConfig struct {
	// Evaluate judges weights on a held-out set at the coordinator; nil: there is
	// none, and the participants' own figures of a round's first weights judge.
	Evaluate func(*Weights) (Metrics, error)
	// First gives the weights that the task begins with; nil: those of its network.
	First func() (*Weights, error)
	Chunk int // bytes of body in a message; 0: DefaultChunk. It holds from a task's beginning to its end
	// After are applied in their order to the weights that came of a round, before
	// they are judged. An error ends the task.
	After []func(round int, weights []float32) error
	// Kept is told of each round when it is on disk; nil: nobody.
	Kept func(RoundReport)
	// Say takes a line for the log now and then; nil: nobody.
	Say func(string)
}

// Coordinator leads one task: it draws who takes part in a round, keeps their
// updates, makes the next weights of them, and says when it is over. It has no
// goroutine, no clock and no transport: it is told what arrived and answers with
// what is to be sent. All that must not be forgotten is in its State before the
// actions that depend on it are returned, so that one that was killed anywhere
// goes on with the same round and the updates that are there. It is for one
// goroutine.
type Coordinator struct {
	task     *Task
	id       string
	encoded  []byte // of the task
	cfg      CoordinatorConfig
	st       State
	key      ed25519.PrivateKey
	enrolled Keys

	strategy aggregate.Strategy
	weights  *Weights
	head     head
	open     *round // nil: none is under way
	members  map[string]*member
	got      map[string]delivery // whose update is kept for the round under way
	history  []RoundReport
	parts    *Collector
	seq      *Counter
	layout   Hash
	count    int // of weights

	stale  bool            // the State failed: what is in memory may be ahead of it
	dirty  map[string]bool // whose Call may have changed
	loaded bool            // it was just read from the State
	look   bool            // who can take part may have changed
	told   bool            // what the task's announcement holds was said
	why    string          // what it waits for
	out    []Action
	now    time.Time // of this step
}

// NewCoordinator makes the coordinator of a task over what its State holds: none
// begins the task, and that of another task is an error. enrolled are the
// gateways that may take part; it may change while the coordinator works.
func NewCoordinator(task Task, cfg CoordinatorConfig, st State, key ed25519.PrivateKey, enrolled Keys) (*Coordinator, error) {
	if err := task.Validate(); err != nil {
		return nil, err
	}
	if n := cfg.Chunk; n != 0 && (n < MinChunk || n > maxMessage-maxHeader-1024) {
		return nil, fmt.Errorf("chunks of %d bytes are outside %d..%d", n, MinChunk, maxMessage-maxHeader-1024)
	}
	encoded, err := task.Encode()
	if err != nil {
		return nil, err
	}
	c := &Coordinator{task: &task, id: taskID(task.Name, encoded), encoded: encoded, cfg: cfg, st: st, key: key, enrolled: enrolled}
	net, err := c.task.Network()
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", task.Name, err)
	}
	if c.layout, c.count, err = LayoutOf(net); err != nil {
		return nil, fmt.Errorf("task %s: %w", task.Name, err)
	}
	if cfg.First == nil {
		c.cfg.First = func() (*Weights, error) { return FromNetwork(net) }
	}
	if cfg.Say == nil {
		c.cfg.Say = func(string) {}
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("task %s: %w", task.Name, err)
	}
	return c, nil
}

// ID is the task's id, the second level of its topics.
func (c *Coordinator) ID() string { return c.id }

// Filters are the topics that it has to hear.
func (c *Coordinator) Filters() []string { return []string{FromFilter(c.id)} }

// Done says whether the task is over.
func (c *Coordinator) Done() bool { return c.head.State == stateDone || c.head.State == stateStopped }

// History is what became of each round so far.
func (c *Coordinator) History() []RoundReport { return slices.Clone(c.history) }

// Weights are those of the model as it is now: the best where the task is over.
// They are not to be changed.
func (c *Coordinator) Weights() *Weights { return c.weights }

// Connected is told that the link is there, again perhaps: all that the broker
// has to retain is said once more, as it may have forgotten.
func (c *Coordinator) Connected(now time.Time) ([]Action, error) {
	return c.do(now, func() error { return c.sayAll() })
}

// Tick looks what time it is: at a deadline, and at who is enrolled.
func (c *Coordinator) Tick(now time.Time) ([]Action, error) {
	return c.do(now, func() error { c.look = true; return nil })
}

// Handle takes a message. A Refusal is one that is not taken: it changes nothing
// but a counter. Any other error is of the State.
func (c *Coordinator) Handle(now time.Time, m Message) ([]Action, error) {
	var refused error
	out, err := c.do(now, func() error {
		err := c.take(now, m)
		if ReasonOf(err) != "" {
			refused, err = err, nil
		}
		return err
	})
	return out, errors.Join(err, refused)
}

// do runs a step, and what follows of it, over a State that is as it says.
func (c *Coordinator) do(now time.Time, step func() error) ([]Action, error) {
	c.out, c.now = nil, now
	err := c.again()
	if err == nil && c.loaded { // what was due before is done before anything else comes
		err = c.advance(now)
	}
	if err == nil {
		c.loaded = false
		err = step()
	}
	if err == nil {
		err = c.advance(now)
	}
	if err == nil {
		err = c.sayCalls()
	}
	if err != nil {
		c.stale = true
		return []Action{{Wake: now.Add(retryState)}}, fmt.Errorf("task %s: %w", c.task.Name, err)
	}
	if at := c.wake(now); !at.IsZero() {
		c.out = append(c.out, Action{Wake: at})
	}
	return c.out, nil
}

// retryState is how long a State that failed is left alone, a full disk say.
const retryState = 10 * time.Second

// again begins anew from the State where that failed before.
func (c *Coordinator) again() error {
	if !c.stale {
		return nil
	}
	refused := c.head.Refused
	if err := c.load(); err != nil {
		return err
	}
	c.head.Refused, c.stale = refused, false
	return c.sayAll()
}

// maxTold is how many bytes of a refused message's topic are told.
const maxTold = 100

// take looks at a message and hands it on by its kind.
func (c *Coordinator) take(now time.Time, m Message) error {
	p, err := Open(m, Enrolled(c.enrolled))
	if err == nil {
		switch {
		case p.Task != c.id:
			err = refuse(UnknownTask, "task %s; this is %s", p.Task, c.id)
		case p.Kind == KindHello:
			err = c.takeHello(now, p)
		case p.Kind == KindUpdate:
			err = c.takeUpdate(p)
		case p.Kind == KindReport:
			err = c.takeReport(p)
		default:
			err = refuse(BadKind, "a %s from a gateway", p.Kind)
		}
		if ReasonOf(err) != "" {
			err = fmt.Errorf("%s: %w", p, err)
		}
		if err == nil {
			c.member(p.From).heard = now.UnixMilli()
		}
	} else if why := ReasonOf(err); why != "" && why != UnknownKey && why != BadSign && why != BadTopic { // these say where it came from
		err = fmt.Errorf("on %q: %w", m.Topic[:min(len(m.Topic), maxTold)], err)
	}
	if why := ReasonOf(err); why != "" {
		c.head.Refused[why]++
		c.head.LastRefused = err.Error()
	}
	return err
}

// takeHello keeps that a gateway is there and what it has.
func (c *Coordinator) takeHello(now time.Time, p *Part) error {
	var h Hello
	if err := p.Into(&h); err != nil {
		return err
	}
	m := *c.member(p.From)
	if news, err := newer(m.Said, p); err != nil || !news {
		return err
	}
	was, _ := c.able(&m)
	m.Said, m.Hello, m.Heard = p.seen(), h, now.UnixMilli()
	m.call = Hash{} // it may have missed its Call: that is said again
	is, _ := c.able(&m)
	c.dirty[p.From], c.look = true, c.look || was != is
	return c.putMember(&m)
}

// newer says whether a message is news beside the last one of its kind; the same
// again is not, and one that is older is refused. Who has a key of its own now
// counts anew: what was signed with the one before is not taken any more.
func newer(last Seen, p *Part) (bool, error) {
	switch {
	case last.another(p.Key):
		return true, nil
	case p.Seq < last.Seq:
		return false, refuse(StaleSeq, "sequence %d; %d came since", p.Seq, last.Seq)
	case p.Seq == last.Seq && p.Body != last.Body:
		return false, refuse(Conflict, "another body than the one under sequence %d", p.Seq)
	}
	return p.Seq > last.Seq, nil
}

// takeReport keeps what became of a model at a gateway.
func (c *Coordinator) takeReport(p *Part) error {
	var r Report
	if err := p.Into(&r); err != nil {
		return err
	}
	m := *c.member(p.From)
	if news, err := newer(m.Reported, p); err != nil || !news {
		return err
	}
	m.Reported, m.Report = p.seen(), &r
	if err := c.putMember(&m); err != nil {
		return err
	}
	text := fmt.Sprintf("%s: the model of round %d is %s", p.From, p.Round, r.State)
	if r.State == "failed" {
		text = fmt.Sprintf("%s: the training of round %d failed", p.From, p.Round)
	}
	if r.Why != "" {
		text += ": " + r.Why
	}
	c.cfg.Say(text)
	return nil
}

// sameTask refuses a State that is another task's.
func (c *Coordinator) sameTask() error {
	kept, err := c.st.Get("task")
	if err != nil {
		return err
	}
	if kept == nil {
		if err := c.st.Put("key", []byte(keyfile.ID(c.public()))); err != nil {
			return err
		}
		return c.st.Put("task", c.encoded)
	}
	if !bytes.Equal(kept, c.encoded) {
		return errors.New("its data are those of another task, or of this one before its file was changed; a changed task is a new one and needs a folder of its own")
	}
	// Gateways trust the key that led it: another is a mistake, or somebody else.
	led, err := c.st.Get("key")
	if id := keyfile.ID(c.public()); err == nil && led != nil && string(led) != id {
		err = fmt.Errorf("this folder was led with key %s, the one given is %s; who leads it with another key needs a folder of its own", led, id)
	}
	return err
}

func (c *Coordinator) public() ed25519.PublicKey { return c.key.Public().(ed25519.PublicKey) }
