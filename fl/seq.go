package fl

import (
	"fmt"
	"strconv"
	"time"
)

// Counter gives a sender's sequence numbers: each larger than all before, also
// after a restart, a state that was lost, or a clock that was set back (but not
// both of these at once). They follow the clock: where the state is lost, it is at
// a newer one after a second and what a burst took beyond it.
type Counter struct {
	st    State
	name  string
	last  uint64
	until uint64 // none above it is given before it is written down
	given uint64 // since the start
}

// ahead is how far beyond the clock those numbers are that a restart skips, in
// milliseconds: numbers are written down once a second at most, but in a burst.
const ahead = uint64(time.Second / time.Millisecond)

// NewCounter goes on where the one before it in this State ended.
func NewCounter(st State, name string) (*Counter, error) {
	b, err := st.Get(name)
	if err != nil || b == nil {
		return &Counter{st: st, name: name}, err
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("state: %s is damaged: %w", name, err)
	}
	return &Counter{st: st, name: name, last: n, until: n}, nil
}

// Next is the Unix time in milliseconds, or one more than the last.
func (c *Counter) Next(now time.Time) (uint64, error) {
	clock := uint64(max(now.UnixMilli(), 0))
	n := max(c.last+1, clock)
	if n > c.until {
		// One that is beyond the clock goes as far again as it came since the start:
		// hundreds of calls at once are few writes, and a restart alone is no lead.
		until := max(clock+ahead, n+min(c.given, ahead))
		if err := c.st.Put(c.name, strconv.AppendUint(nil, until, 10)); err != nil {
			return 0, err
		}
		c.until = until
	}
	c.last = n
	c.given++
	return n, nil
}

// Seqs is the newest sequence number of each sender and kind, as its owner keeps
// it in a State: old messages are known by it.
type Seqs map[string]Seen

// Seen is the newest body of a sender and kind.
type Seen struct {
	Seq  uint64 `cbor:"1,keyasint"`
	Body Hash   `cbor:"2,keyasint"`
	Key  Hash   `cbor:"3,keyasint,omitzero"` // as of a Part; zero: it does not matter, or is not known
}

// another says whether a key is another than that which these numbers are of.
func (s Seen) another(key Hash) bool { return otherKey(s.Key, key) }

// otherKey says whether two keys are known and differ.
func otherKey(a, b Hash) bool { return a != b && a != Hash{} && b != Hash{} }

// Look says whether a message says something new. One that is older than what
// its sender said since is refused (StaleSeq), and so is another body under the
// newest number (Conflict); the same again is neither new nor refused.
func (s Seqs) Look(h *Header) (news bool, err error) {
	switch old := s[bodyName(h)]; {
	case h.Seq < old.Seq:
		return false, refuse(StaleSeq, "sequence %d; %d came since", h.Seq, old.Seq)
	case h.Seq > old.Seq:
		return true, nil
	case h.Body != old.Body:
		return false, refuse(Conflict, "another body than the one under sequence %d", h.Seq)
	}
	return false, nil
}

// Note keeps a message as the newest of its sender and kind.
func (s Seqs) Note(h *Header) { s[bodyName(h)] = Seen{Seq: h.Seq, Body: h.Body} }
