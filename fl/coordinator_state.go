package fl

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"edgegateway/fl/aggregate"
)

// What a State holds of a coordinator:
//
//	task            as Task.Encode gives it
//	key             id of the key that it is led with
//	head            what the rounds that are over came to; a round is over with it
//	history/ROUND   RoundReport
//	model/HASH      weights as they are sent, by the hash of that
//	cohort/ROUND    who takes part; the one after head's is under way
//	member/NAME     what a gateway said last
//	update/ROUND/NAME  an update that is counted in that round
//	seq             sequence numbers up to this one may have been used
//
// and the parts of updates that are not whole yet.

// States of a task.
const (
	stateWaiting = "waiting" // for participants, before the first round
	stateRunning = "running"
	stateDone    = "done"
	stateStopped = "stopped" // by what cannot be helped
)

// head is written at the end of each round, in one piece.
type head struct {
	Round    int      `cbor:"1,keyasint"` // so many are over
	State    string   `cbor:"2,keyasint"`
	Why      string   `cbor:"3,keyasint"` // it is over
	Model    Ref      `cbor:"4,keyasint"`
	Score    Metrics  `cbor:"5,keyasint"` // of Model
	Best     Ref      `cbor:"6,keyasint"`
	BestOf   Metrics  `cbor:"7,keyasint"`  // its score
	BestAt   int      `cbor:"16,keyasint"` // after this round it was judged
	Judged   int      `cbor:"8,keyasint"`  // the model after this round is the last that was judged
	Strategy []byte   `cbor:"9,keyasint"`  // what it remembers
	Seen     []record `cbor:"10,keyasint"`
	Kept     []Ref    `cbor:"11,keyasint"` // models that the broker retains
	Cleared  []Ref    `cbor:"12,keyasint"` // those that it retained before
	File     Ref      `cbor:"13,keyasint"` // the task's .tflite

	Chunk int `cbor:"17,keyasint"` // bytes of body in a message, from the task's beginning on

	Refused     map[Reason]int `cbor:"14,keyasint"`
	LastRefused string         `cbor:"15,keyasint"`
}

// record is what is known of a gateway's updates.
type record struct {
	Name    string `cbor:"1,keyasint"`
	Round   int    `cbor:"2,keyasint"` // in which the last one that was kept was begun; 0: none was
	Last    Seen   `cbor:"3,keyasint"` // of it
	Counted string `cbor:"4,keyasint"` // what became of it, or why there is none
}

// round is one that is under way, or was: who takes part.
type round struct {
	Round    int      `cbor:"1,keyasint"`
	Draw     int      `cbor:"2,keyasint"` // 0, and one more for each time that it was drawn again
	Began    int64    `cbor:"3,keyasint"` // Unix milliseconds
	Deadline int64    `cbor:"4,keyasint"` // 0: none
	Cohort   []string `cbor:"5,keyasint"` // sorted; empty in an asynchronous task
}

// member is a gateway that said something.
type member struct {
	Name     string  `cbor:"1,keyasint"`
	Said     Seen    `cbor:"2,keyasint"` // of Hello; Seq 0: it said none
	Hello    Hello   `cbor:"3,keyasint"`
	Heard    int64   `cbor:"4,keyasint"` // when it said Hello, Unix milliseconds: draws by it are the same after a restart
	Reported Seen    `cbor:"5,keyasint"` // of Report
	Report   *Report `cbor:"6,keyasint"`
	// Of an asynchronous task: the round that it is invited to, 0 for none, when
	// that was, and that it had its time.
	Invited int   `cbor:"7,keyasint"`
	Since   int64 `cbor:"8,keyasint"`
	Overdue bool  `cbor:"9,keyasint"`

	record record
	heard  int64 // when it said anything since the start, Unix milliseconds
	call   Hash  // of the Call as it was said last; zero: none was
}

// kept is an update that counts.
type kept struct {
	Round  int    `cbor:"1,keyasint"` // in which it was begun
	Seen   Seen   `cbor:"2,keyasint"`
	Bytes  int    `cbor:"4,keyasint"` // of the body as it was sent
	Order  int    `cbor:"5,keyasint"` // in which updates came, for strategies to which it matters
	Update Update `cbor:"6,keyasint"`
}

func historyName(round int) string             { return fmt.Sprintf("history/%08d", round) }
func cohortName(round int) string              { return fmt.Sprintf("cohort/%08d", round) }
func updatesOf(round int) string               { return fmt.Sprintf("update/%08d/", round) }
func updateName(round int, name string) string { return updatesOf(round) + name }
func modelName(body Hash) string               { return "model/" + body.String() }

func (c *Coordinator) put(name string, v any) error {
	b, err := marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return c.st.Put(name, b)
}

// get reads what put wrote; false where there is none.
func (c *Coordinator) get(name string, v any) (bool, error) {
	b, err := c.st.Get(name)
	if err != nil || b == nil {
		return false, err
	}
	if err := unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%s in the data of the task: %w", name, err)
	}
	return true, nil
}

// load makes what is in memory anew of the State, and clears what a kill left
// there of rounds that are over.
func (c *Coordinator) load() (err error) {
	if err := c.sameTask(); err != nil {
		return err
	}
	c.members, c.got, c.dirty, c.open, c.history = map[string]*member{}, map[string]delivery{}, map[string]bool{}, nil, nil
	c.loaded, c.told = true, false
	if c.strategy, err = aggregate.New(c.task.Strategy); err != nil {
		return err
	}
	c.head = head{}
	there, err := c.get("head", &c.head)
	if err == nil && !there {
		err = c.begin()
	}
	if err != nil {
		return err
	}
	if c.head.Refused == nil {
		c.head.Refused = map[Reason]int{}
	}
	if c.weights, err = c.readWeights(c.head.Model); err != nil {
		return err
	}
	if len(c.head.Strategy) > 0 {
		if err := c.strategy.UnmarshalBinary(c.head.Strategy); err != nil {
			return err
		}
	}
	for r := 1; r <= c.head.Round; r++ {
		var report RoundReport
		if ok, err := c.get(historyName(r), &report); err != nil || !ok {
			return errors.Join(err, missing(ok, historyName(r)))
		}
		c.history = append(c.history, report)
	}
	if c.seq, err = NewCounter(c.st, "seq"); err != nil {
		return err
	}
	if err := c.loadMembers(); err != nil {
		return err
	}
	if err := c.loadRound(); err != nil {
		return err
	}
	c.knowKeys()
	if err := c.clearOld(); err != nil {
		return err
	}
	return c.loadParts()
}

// knowKeys takes what was seen of a gateway, and kept by a program that did not
// write down of which key, as of the one that it is enrolled with now.
func (c *Coordinator) knowKeys() {
	for name, m := range c.members {
		key, ok := c.enrolled.Key(name)
		if !ok {
			continue
		}
		for _, s := range []*Seen{&m.Said, &m.Reported, &m.record.Last} {
			if s.Seq > 0 && s.Key == (Hash{}) {
				s.Key = sha256.Sum256(key)
			}
		}
	}
}

func missing(there bool, name string) error {
	if there {
		return nil
	}
	return fmt.Errorf("%s is missing in the data of the task", name)
}

// begin writes the first head.
func (c *Coordinator) begin() error {
	w, err := c.cfg.First()
	if err != nil {
		return err
	}
	if w.Layout != c.layout || len(w.Values) != c.count {
		return fmt.Errorf("the first weights are %d, the task's network has %d", len(w.Values), c.count)
	}
	body, err := w.Encode()
	if err != nil {
		return err
	}
	if c.head.Chunk = c.cfg.Chunk; c.head.Chunk == 0 {
		c.head.Chunk = DefaultChunk
	}
	ref := c.ref(w, body, 0)
	h := head{State: stateWaiting, Chunk: c.head.Chunk, Model: ref, Best: ref, Kept: []Ref{ref}, Refused: map[Reason]int{}}
	if err := c.st.Put(modelName(ref.Body), body); err != nil {
		return err
	}
	if m := &c.task.Model; m.File != "" {
		h.File = Ref{Hash: m.Sum, Body: m.Sum, Bytes: len(m.Data), Chunks: (len(m.Data) + h.Chunk - 1) / h.Chunk}
		if err := c.st.Put(modelName(m.Sum), m.Data); err != nil {
			return err
		}
	}
	if err := c.put("head", h); err != nil {
		return err
	}
	c.head = h
	return nil
}

func (c *Coordinator) readWeights(ref Ref) (*Weights, error) {
	body, err := c.st.Get(modelName(ref.Body))
	if err == nil {
		err = missing(body != nil, modelName(ref.Body))
	}
	if err != nil {
		return nil, err
	}
	return DecodeWeights(body, c.layout, c.count)
}

func (c *Coordinator) loadMembers() error {
	names, err := c.st.List("member/")
	if err != nil {
		return err
	}
	for _, name := range names {
		m := &member{}
		if ok, err := c.get(name, m); err != nil || !ok {
			return errors.Join(err, missing(ok, name))
		}
		c.members[m.Name] = m
	}
	for _, s := range c.head.Seen {
		c.member(s.Name).record = s
	}
	return nil
}

// member gives what is known of a gateway, empty where nothing is.
func (c *Coordinator) member(name string) *member {
	if c.members[name] == nil {
		c.members[name] = &member{Name: name}
	}
	return c.members[name]
}

// putMember keeps what a gateway said.
func (c *Coordinator) putMember(m *member) error {
	if err := c.put("member/"+m.Name, m); err != nil {
		return err
	}
	c.members[m.Name] = m
	return nil
}

// loadRound reads the round that is under way, and whose updates it has.
func (c *Coordinator) loadRound() error {
	n := c.head.Round + 1
	r := &round{}
	ok, err := c.get(cohortName(n), r)
	if err != nil {
		return err
	}
	if ok && !c.Done() {
		c.open = r
	}
	names, err := c.st.List(updatesOf(n))
	if err != nil {
		return err
	}
	for _, name := range names {
		var k kept
		if ok, err := c.get(name, &k); err != nil || !ok {
			return errors.Join(err, missing(ok, name))
		}
		from := strings.TrimPrefix(name, updatesOf(n))
		m := c.member(from)
		c.got[from] = delivery{k.Round, k.Order}
		m.record = m.record.after(from, &k)
		if m.Invited == k.Round { // it was killed before it wrote that
			m.Invited = 0
		}
	}
	return nil
}

// loadParts goes on with updates that are not whole. One that became so without
// being kept is looked at now.
func (c *Coordinator) loadParts() (err error) {
	if c.parts, err = NewCollector(c.st, "part/", MostUpdate(c.count), maxUpdates); err != nil {
		return err
	}
	for _, h := range c.parts.Open() {
		have := c.parts.Have(&h)
		h.Chunk = have[0]
		p, err := c.parts.read(c.parts.name(&h))
		if err != nil {
			return err
		}
		if p != nil {
			err = c.takeUpdate(p)
		}
		if ReasonOf(err) != "" {
			err = c.parts.Drop(&h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxUpdates is of how many updates parts are kept at a time: each gateway has
// one, and only those who are called send any.
const maxUpdates = 1 << 20

// lateRounds is how many rounds an update may be late.
const lateRounds = 100

// clearOld deletes what belongs to rounds that are over. It is done after each
// of them, and at the start for one that was killed on the way.
func (c *Coordinator) clearOld() error {
	keep := map[string]bool{}
	for _, r := range append(slices.Clone(c.head.Kept), c.head.File) {
		keep[modelName(r.Body)] = true
	}
	first := c.head.Round + 1 // whose cohort still matters
	if c.late() {
		first -= lateRounds
	}
	for _, old := range []struct {
		prefix string
		gone   func(name string) bool
	}{
		{"model/", func(name string) bool { return !keep[name] }},
		{"cohort/", func(name string) bool { return name < cohortName(max(first, 0)) }},
		{"update/", func(name string) bool { return name < updatesOf(c.head.Round+1) }},
	} {
		names, err := c.st.List(old.prefix)
		if err != nil {
			return err
		}
		for _, name := range names {
			if old.gone(name) {
				if err := c.st.Delete(name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// names gives all members' names, sorted.
func (c *Coordinator) names() []string { return slices.Sorted(maps.Keys(c.members)) }

// delivery is an update that is kept for the round under way.
type delivery struct {
	round int // in which it was begun
	order int
}

// records is what head keeps of the members.
func (c *Coordinator) records() []record {
	var list []record
	for _, m := range c.members {
		if m.record.Name != "" {
			list = append(list, m.record)
		}
	}
	slices.SortFunc(list, func(a, b record) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
