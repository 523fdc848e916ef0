package fl

import (
	"crypto/ed25519"
	"fmt"
	"time"
)

// ParticipantConfig is how a participant takes part, beside what the task says.
type ParticipantConfig struct {
	Task    string        // id of the task that it follows
	Version string        // of the program, for the coordinator
	Chunk   int           // bytes of body in a message; 0: DefaultChunk
	Publish bool          // it has a Publisher: new models are fetched and offered to it
	Retry   time.Duration // after which what failed or did not come is tried again; 0: a minute
	// Size gives the layout of a task's weights and their number; nil: its network
	// is made for that. Many participants of one process may share what they know.
	Size func(*Task) (Hash, int, error)
	// Weights gives weights that this process has at hand by their hash, which are
	// not fetched then; nil, or a nil answer: it has none.
	Weights func(Hash) *Weights
}

// Participant follows one task for one gateway. It is told what arrives and
// answers with what is to be done; it has no goroutines and no clock, and is
// for one goroutine. What it must not forget is in its State before it answers,
// so that one that was killed anywhere goes on with the same job, and with the
// update that the coordinator does not have yet.
type Participant struct {
	gateway string
	st      State
	key     ed25519.PrivateKey
	trust   Find
	cfg     ParticipantConfig

	head   told       // as in the State
	update ownUpdate  // as in the State
	job    jobRecord  // as in the State
	parts  *Collector // of weights and of the task's file
	seq    *Counter

	task    *Task // nil until it is announced, and its file is there
	layout  Hash
	count   int // of weights
	samples int // here; -1: not counted yet

	linked   bool
	helloed  bool      // since the link is there
	called   bool      // the coordinator waits for somebody
	reported bool      // the last Report was said since the link is there, and since a task that was over was announced again
	said     int       // samples in the last Hello
	helloAt  time.Time // when that was
	hellos   int       // in a row that nobody answered
	answered bool      // the coordinator spoke to this gateway since the start
	training *Job      // handed out, no result yet
	failures int       // of the job, in a row
	trainAt  time.Time // not before, after a failure
	offering *NewModel // handed out, no verdict yet
	offerAt  time.Time // not before
	asked    map[Hash]time.Time
	sentAt   map[int]time.Time // chunks of the update, since the link is there
	resends  int

	status ParticipantStatus
	out    []Action
}

// ParticipantStatus is a participant as a person looks at it.
type ParticipantStatus struct {
	Task       string         `json:"task"`               // its name; the id until it is known
	ID         string         `json:"id"`                 // of the task
	State      string         `json:"state"`              // of the task: waiting, running, done, stopped; "" until it is known
	Doing      string         `json:"doing"`              // waiting, fetching, training, sending, sent, refused
	DoingRound int            `json:"doing_round"`        // of what it does: of the job that it trains, the update that it sends; the task's where there is none
	Round      int            `json:"round"`              // the task's
	Rounds     int            `json:"rounds"`             // it has at most
	Samples    int            `json:"samples"`            // here
	Why        string         `json:"why,omitempty"`      // it takes no part, what failed at last, or the task was stopped
	Counted    string         `json:"counted,omitempty"`  // what became of the last update
	Sent       int            `json:"sent"`               // updates that were made and sent, since the start
	SentBytes  int64          `json:"sent_bytes"`         // of messages that were handed over to be sent, since the start
	Refused    map[Reason]int `json:"refused,omitempty"`  // messages by reason, since the start
	Before     Metrics        `json:"before"`             // of the round's weights on the samples held out here, in the last round
	After      Metrics        `json:"after"`              // of what was trained of them
	Model      *Outcome       `json:"model,omitempty"`    // the last new model that was offered here
	Deadline   int64          `json:"deadline,omitempty"` // of the round, Unix milliseconds
}

// Outcome is what became of a new model.
type Outcome struct {
	Round int     `json:"round" cbor:"1,keyasint"`
	State string  `json:"state" cbor:"2,keyasint"` // trying, live, refused, withdrawn
	Why   string  `json:"why,omitempty" cbor:"3,keyasint,omitempty"`
	New   Metrics `json:"new" cbor:"4,keyasint"` // of it, on the samples held out here
	Old   Metrics `json:"old" cbor:"5,keyasint"` // of the model in use
}

// NewParticipant makes a participant over what its State holds: none begins. It
// follows one task, and takes it from coordinators with the trusted keys alone.
func NewParticipant(gateway string, st State, key ed25519.PrivateKey, trusted []ed25519.PublicKey, cfg ParticipantConfig) (*Participant, error) {
	for _, name := range []string{gateway, cfg.Task} {
		if err := CheckName(name); err != nil {
			return nil, err
		}
	}
	if cfg.Chunk == 0 {
		cfg.Chunk = DefaultChunk
	}
	if cfg.Chunk < MinChunk || cfg.Chunk > DefaultChunk {
		return nil, fmt.Errorf("chunk: %d is not in %d..%d", cfg.Chunk, MinChunk, DefaultChunk)
	}
	if cfg.Retry == 0 {
		cfg.Retry = time.Minute
	}
	if cfg.Size == nil {
		cfg.Size = func(t *Task) (Hash, int, error) {
			n, err := t.Network()
			if err != nil {
				return Hash{}, 0, err
			}
			return LayoutOf(n)
		}
	}
	p := &Participant{
		gateway: gateway, st: st, key: key, trust: Trusted(trusted), cfg: cfg, samples: -1,
		asked: map[Hash]time.Time{}, sentAt: map[int]time.Time{},
		status: ParticipantStatus{Task: cfg.Task, ID: cfg.Task, Refused: map[Reason]int{}},
	}
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("task %s: %w", cfg.Task, err)
	}
	return p, nil
}

// Filters are the topics that it has to hear.
func (p *Participant) Filters() []string {
	return []string{TaskTopic(p.cfg.Task), CallTopic(p.cfg.Task, p.gateway)}
}

// Connected is told that the link is there, again perhaps: it says that it is
// there, and what the coordinator does not have of its update.
func (p *Participant) Connected(now time.Time) ([]Action, error) {
	p.linked, p.helloed, p.reported, p.resends = true, false, false, 0
	clear(p.sentAt)
	clear(p.asked)
	return p.act(now, nil)
}

// Tick looks what time it is.
func (p *Participant) Tick(now time.Time) ([]Action, error) { return p.act(now, nil) }

// Counted is told how many samples there are here.
func (p *Participant) Counted(now time.Time, samples int) ([]Action, error) {
	p.samples = samples
	return p.act(now, nil)
}

// Handle takes a message. A Refusal is one that is not taken: it changes nothing
// but a counter. Any other error is of the State.
func (p *Participant) Handle(now time.Time, m Message) ([]Action, error) {
	if len(m.Payload) == 0 { // what was retained was cleared
		return p.act(now, nil)
	}
	err := p.take(now, m)
	if why := ReasonOf(err); why != "" {
		p.status.Refused[why]++
	}
	return p.act(now, err)
}

// act gives what is to be done now; refused is given back beside it.
func (p *Participant) act(now time.Time, refused error) ([]Action, error) {
	if refused != nil && ReasonOf(refused) == "" {
		return nil, refused
	}
	p.out = nil
	if err := p.advance(now); err != nil {
		return nil, fmt.Errorf("task %s: %w", p.cfg.Task, err)
	}
	out := p.out
	p.out = nil
	return out, refused
}

// take looks at a message and hands it on by its kind.
func (p *Participant) take(now time.Time, m Message) error {
	part, err := Open(m, p.trust)
	if err != nil {
		return err
	}
	if part.Task != p.cfg.Task {
		return refuse(UnknownTask, "task %s; this participant follows %s", part.Task, p.cfg.Task)
	}
	switch part.Kind {
	case KindTask:
		err = p.takeTask(part)
	case KindCall:
		err = p.takeCall(part)
		p.answered = p.answered || err == nil && !m.Retain
	case KindModel:
		err = p.takeModel(part)
	default:
		err = refuse(BadKind, "a %s from a coordinator", part.Kind)
	}
	if ReasonOf(err) != "" {
		err = fmt.Errorf("%s: %w", &part.Header, err)
	}
	return err
}

// takeTask takes what the coordinator says of the task.
func (p *Participant) takeTask(part *Part) error {
	var a Announcement
	if err := part.Into(&a); err != nil {
		return err
	}
	next := p.head.clone()
	if news, err := next.Seen.Look(&part.Header); err != nil || !news {
		return err
	}
	_, id, err := DecodeTask(a.Task)
	if err != nil {
		return refuse(BadBody, "its task: %v", err)
	}
	if id != p.cfg.Task {
		return refuse(UnknownTask, "it announces %s under the id %s", id, p.cfg.Task)
	}
	next.Seen.Note(&part.Header)
	next.Task = a
	p.called = p.called || a.State == "waiting"
	was := p.over()
	if err := p.keepHead(next); err != nil {
		return err
	}
	if was && p.over() { // the coordinator began anew, and may not have the last Report
		p.reported = false
	}
	return nil
}

// takeCall takes what the coordinator says to this gateway.
func (p *Participant) takeCall(part *Part) error {
	var c Call
	if err := part.Into(&c); err != nil {
		return err
	}
	if part.To != p.gateway {
		return refuse(BadTopic, "it is for %s", part.To)
	}
	next := p.head.clone()
	if news, err := next.Seen.Look(&part.Header); err != nil || !news {
		return err
	}
	if c.Invited && (c.Model.Chunks == 0 || part.Round < 1) {
		return refuse(BadBody, "an invitation to round %d without its weights", part.Round)
	}
	next.Seen.Note(&part.Header)
	next.Call, next.Round = c, part.Round
	if err := p.keepHead(next); err != nil {
		return err
	}
	u := p.update
	switch {
	case u.Seq == 0 || u.Round != part.Round:
		return nil
	case c.Done && !u.Done:
		return p.delivered()
	case u.Done && part.Round < p.head.Task.Round && !p.late(): // it was said before the round ended
		return nil
	case u.Done && c.Invited && !c.Done && u.Base == c.Model.Hash: // it lost what it had
		u.Round = 0
		return p.keepUpdate(u)
	}
	if !u.Done { // it began anew, or its broker did, and says what it has: what was on its way then is lost
		clear(p.sentAt)
		p.resends = 0
	}
	return nil
}

// takeModel takes a chunk of weights, or of the task's file.
func (p *Participant) takeModel(part *Part) error {
	for _, ref := range p.wanted() {
		if ref.Body != part.Body {
			continue
		}
		if part.Bytes != ref.Bytes || part.Chunks != ref.Chunks {
			return refuse(BadChunk, "%d bytes in %d chunks; announced are %d in %d", part.Bytes, part.Chunks, ref.Bytes, ref.Chunks)
		}
		_, err := p.parts.Add(part)
		return err
	}
	return nil // it is not needed any more
}

// Answered says whether the coordinator spoke to this gateway since this
// participant was made. A Call that the broker kept is no answer: who said it may
// be gone.
func (p *Participant) Answered() bool { return p.answered }

// Status says how it stands.
func (p *Participant) Status() ParticipantStatus {
	s := p.status
	s.State, s.Round, s.Rounds = p.head.Task.State, p.head.Task.Round, p.head.Task.Rounds
	s.Samples, s.Counted, s.Model = max(p.samples, 0), p.head.Call.Counted, p.head.Outcome
	s.Before, s.After = p.update.Before, p.update.After
	if p.task != nil {
		s.Task = p.task.Name
	}
	if p.head.Call.Invited {
		s.Deadline = p.head.Call.Deadline
	}
	if s.Refused = nil; len(p.status.Refused) > 0 {
		s.Refused = map[Reason]int{}
		for why, n := range p.status.Refused {
			s.Refused[why] = n
		}
	}
	s.Doing, s.DoingRound = p.doing()
	if p.head.Call.Refused != "" && s.Why == "" {
		s.Why = p.head.Call.Refused
	}
	if s.State == "stopped" && s.Why == "" {
		s.Why = p.head.Task.Why
	}
	if p.offering != nil {
		s.Model = &Outcome{Round: p.offering.Round, State: "trying"}
	}
	return s
}

// doing says what it does, and of which round that is: where updates count late,
// the task's may be another.
func (p *Participant) doing() (string, int) {
	u, round := &p.update, p.head.Task.Round
	switch {
	case p.head.Call.Refused != "":
		return "refused", round
	case p.over():
		return "waiting", round
	case p.training != nil:
		return "training", p.training.Round
	case u.Seq > 0 && !u.Done:
		return "sending", u.Round
	case p.invited():
		return "fetching", p.head.Round
	case u.Seq > 0 && u.Done && u.Round == round:
		return "sent", round
	}
	return "waiting", round
}
