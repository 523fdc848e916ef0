package fl

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// ref says where weights are found.
func (c *Coordinator) ref(w *Weights, body []byte, round int) Ref {
	return Ref{Hash: w.Hash(), Body: sha256.Sum256(body), Bytes: len(body), Chunks: (len(body) + c.head.Chunk - 1) / c.head.Chunk, Round: round}
}

// say seals a body and has it sent.
func (c *Coordinator) say(h Header, v any) error {
	body, err := Pack(v)
	if err != nil {
		return err
	}
	h.Task, h.Base = c.id, c.head.Model.Hash
	if h.Seq, err = c.seq.Next(c.now); err != nil {
		return err
	}
	list, err := Seal(h, body, 0, c.key)
	if err != nil {
		return err
	}
	for _, m := range list {
		c.out = append(c.out, Action{Send: &m})
	}
	return nil
}

// sayModel has the chunks of weights sent. They are the same bytes each time, so
// that a participant may gather them over days.
func (c *Coordinator) sayModel(ref Ref) error {
	if ref.Chunks == 0 {
		return nil
	}
	body, err := c.st.Get(modelName(ref.Body))
	if err != nil {
		return err
	}
	if body == nil {
		return missing(false, modelName(ref.Body))
	}
	list, err := Seal(Header{Kind: KindModel, Task: c.id, Round: ref.Round, Base: ref.Hash, Seq: uint64(ref.Round) + 1}, body, c.head.Chunk, c.key)
	if err != nil {
		return err
	}
	for _, m := range list {
		c.out = append(c.out, Action{Send: &m})
	}
	return nil
}

// clear has the broker forget the chunks of weights.
func (c *Coordinator) clear(ref Ref) {
	for _, topic := range ref.Topics(c.id) {
		c.out = append(c.out, Action{Send: &Message{Topic: topic, Retain: true}})
	}
}

// sayAll says once more what the broker has to retain.
func (c *Coordinator) sayAll() error {
	for _, ref := range append(slices.Clone(c.head.Kept), c.head.File) {
		if err := c.sayModel(ref); err != nil {
			return err
		}
	}
	for _, ref := range c.head.Cleared {
		c.clear(ref)
	}
	c.told, c.look = false, true
	for name, m := range c.members {
		m.call = Hash{}
		c.dirty[name] = true
	}
	return nil
}

// sayNew says which weights came and went with a round; before is the head before
// it.
func (c *Coordinator) sayNew(before *head) error {
	has := func(list []Ref, ref Ref) bool {
		return slices.ContainsFunc(list, func(r Ref) bool { return r.Body == ref.Body })
	}
	for _, ref := range c.head.Kept {
		if !has(before.Kept, ref) {
			if err := c.sayModel(ref); err != nil {
				return err
			}
		}
	}
	for _, ref := range before.Kept {
		if !has(c.head.Kept, ref) {
			c.clear(ref)
		}
	}
	return nil
}

// sayCalls announces the task where that is due, and calls those for whom
// something changed.
func (c *Coordinator) sayCalls() error {
	if !c.told {
		a := Announcement{Task: c.encoded, State: c.state(), Round: c.round(), Rounds: c.task.Rounds, Model: c.head.Model, Best: c.head.Best, Why: c.head.Why, Score: c.head.Score, File: c.head.File}
		if a.Why == "" {
			a.Why = c.why
		}
		if err := c.say(Header{Kind: KindTask, Round: a.Round}, a); err != nil {
			return err
		}
		c.told = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.dirty)) {
		if err := c.sayCall(c.member(name)); err != nil {
			return err
		}
	}
	clear(c.dirty)
	return nil
}

// state is the task's.
func (c *Coordinator) state() string {
	if c.head.State == stateWaiting && c.open != nil {
		return stateRunning
	}
	return c.head.State
}

// round is the one under way, or the last.
func (c *Coordinator) round() int {
	if c.open != nil {
		return c.open.Round
	}
	return c.head.Round
}

// sayCall says to a gateway how it stands, where that is not what it was told
// last.
func (c *Coordinator) sayCall(m *member) error {
	if _, ok := c.enrolled.Key(m.Name); !ok && m.call == (Hash{}) {
		return nil // it never was told anything, or another coordinator did
	}
	round, call := c.callOf(m)
	plain, err := marshal(call)
	if err != nil {
		return err
	}
	is := Hash(sha256.Sum256(fmt.Appendf(plain, " %d", round)))
	if is == m.call {
		return nil
	}
	if err := c.say(Header{Kind: KindCall, Round: round, To: m.Name}, call); err != nil {
		return err
	}
	m.call = is
	return nil
}

// callOf gives the Call of a gateway, and its round: the one that it is invited
// to, or else the one of the update that the Call is about, 0 for none.
func (c *Coordinator) callOf(m *member) (int, Call) {
	call := Call{Counted: m.record.Counted}
	if ok, why := c.able(m); !ok && m.Said.Seq > 0 {
		call.Refused = why
	}
	round := m.record.Round
	switch {
	case c.open == nil || c.Done():
	case c.asynchronous() && m.Invited > 0 && (!m.Overdue || c.baseRef(m.Invited).Chunks > 0):
		// One that is overdue may be on its way, while there is what it begins with.
		round, call.Invited = m.Invited, true
		if d := c.task.Deadline; d > 0 {
			call.Deadline = m.Since + d.Milliseconds()
		}
	case !c.asynchronous():
		if _, ok := slices.BinarySearch(c.open.Cohort, m.Name); ok {
			round, call.Invited, call.Deadline = c.open.Round, true, c.open.Deadline
		}
	}
	if call.Invited {
		call.Model = c.baseRef(round)
	}
	if d, ok := c.got[m.Name]; ok && d.round == round || round > 0 && m.record.Round == round {
		call.Done = true
	}
	if b := c.parts.bodies[bodyName(&Header{Kind: KindUpdate, From: m.Name})]; b != nil && (!call.Invited || b.Round == round) {
		call.Have = slices.Clone(b.have)
		if !call.Invited {
			round = b.Round
		}
	}
	return round, call
}

// baseRef are the weights that a round began with, as the broker retains them.
func (c *Coordinator) baseRef(round int) Ref {
	is := c.base(round)
	for _, ref := range c.head.Kept {
		if ref.Hash == is.Hash {
			return ref
		}
	}
	return is
}

// repeat has a Call said again though it did not change.
func (c *Coordinator) repeat(m *member) {
	m.call = Hash{}
	c.dirty[m.Name] = true
}
