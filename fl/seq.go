package fl

import (
	"fmt"
	"strconv"
	"time"
)

// Counter gives a sender's sequence numbers: each larger than all before, also
// after a restart, a state that was lost, or a clock that was set back (but not
// both of these at once).
type Counter struct {
	st    State
	name  string
	last  uint64
	until uint64 // none above it is given before it is written down
}

// ahead is how far beyond a number those are that a restart skips, in
// milliseconds.
const ahead = uint64(time.Hour / time.Millisecond)

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
	return &Counter{st, name, n, n}, nil
}

// Next is the Unix time in milliseconds, or one more than the last.
func (c *Counter) Next(now time.Time) (uint64, error) {
	n := max(c.last+1, uint64(max(now.UnixMilli(), 0)))
	if n > c.until {
		if err := c.st.Put(c.name, strconv.AppendUint(nil, n+ahead, 10)); err != nil {
			return 0, err
		}
		c.until = n + ahead
	}
	c.last = n
	return n, nil
}

// Seqs is the newest sequence number of each sender and kind, as its owner keeps
// it in a State: old messages are known by it.
type Seqs map[string]Seen

// Seen is the newest body of a sender and kind.
type Seen struct {
	Seq  uint64 `cbor:"1,keyasint"`
	Body Hash   `cbor:"2,keyasint"`
}

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
func (s Seqs) Note(h *Header) { s[bodyName(h)] = Seen{h.Seq, h.Body} }
