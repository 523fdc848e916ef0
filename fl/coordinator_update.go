package fl

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// asynchronous says whether the task has no rounds that begin and end for all:
// who delivered is invited again as soon as there are newer weights.
func (c *Coordinator) asynchronous() bool { return c.task.Strategy.Kind == "fedbuff" }

// late says whether updates count that were begun in rounds that are over.
func (c *Coordinator) late() bool { return c.asynchronous() || c.task.Late == "next" }

// takeUpdate takes a part of an update, and keeps the update when it is whole.
func (c *Coordinator) takeUpdate(p *Part) error {
	age, err := c.wanted(p)
	if err != nil {
		return err
	}
	m := c.members[p.From]
	news, err := newer(m.record.Last, p)
	if err != nil {
		return err
	}
	if !news {
		c.repeat(m) // it does not know yet that it is kept
		return nil
	}
	if d, ok := c.got[p.From]; ok && d.round >= p.Round {
		return refuse(Conflict, "an update of round %d is kept already", d.round)
	}
	if most := MostUpdate(c.count); p.Bytes > most {
		return refuse(TooLarge, "%d bytes; an update of %d weights has at most %d", p.Bytes, c.count, most)
	}
	body := p.Data
	if p.Chunks > 1 {
		if body, err = c.parts.Add(p); err != nil || body == nil {
			if err == nil && p.Chunk == p.Chunks-1 { // chunks go in their order: a broker let some fall
				c.repeat(m)
			}
			return err
		}
	} else if sha256.Sum256(body) != p.Body {
		return refuse(BadBody, "its hash is not the one that was said")
	}
	return c.keep(p, body, age)
}

// wanted says how many rounds have passed since an update was begun, or why it
// counts in none.
func (c *Coordinator) wanted(p *Part) (age int, err error) {
	now := c.head.Round + 1
	switch {
	case p.Round < 1 || c.Done():
		return 0, refuse(StaleRound, "round %d; the task is over", p.Round)
	case p.Round > now || p.Round == now && c.open == nil:
		return 0, refuse(FutureRound, "round %d; %d is under way", p.Round, now)
	case p.Round < now && !c.late() || p.Round < now-lateRounds:
		return 0, refuse(StaleRound, "round %d; %d is under way", p.Round, now)
	}
	if base := c.base(p.Round).Hash; p.Base != base {
		return 0, refuse(BadBase, "built on %.12s; round %d begins with %.12s", p.Base.String(), p.Round, base.String())
	}
	invited, err := c.invited(p.From, p.Round)
	if err == nil && !invited {
		err = refuse(Uninvited, "it takes no part in round %d", p.Round)
	}
	return now - p.Round, err
}

// base are the weights that a round began with. Of rounds that are over only its
// Hash is known.
func (c *Coordinator) base(round int) Ref {
	if round <= c.head.Round {
		return Ref{Hash: c.history[round-1].Base, Round: round - 1}
	}
	return c.head.Model
}

// invited says whether a gateway takes or took part in a round.
func (c *Coordinator) invited(name string, of int) (bool, error) {
	m := c.members[name]
	switch {
	case m == nil:
		return false, nil
	case c.asynchronous():
		return m.Invited == of || m.record.Round == of, nil
	case c.open != nil && c.open.Round == of:
		_, ok := slices.BinarySearch(c.open.Cohort, name)
		return ok, nil
	}
	var r round
	if ok, err := c.get(cohortName(of), &r); err != nil || !ok {
		return false, err
	}
	_, ok := slices.BinarySearch(r.Cohort, name)
	return ok, nil
}

// keep looks into a whole update and keeps it for the round under way.
func (c *Coordinator) keep(p *Part, body []byte, age int) error {
	h := &p.Header
	u, _, err := DecodeUpdate(body, c.count)
	if err != nil {
		return errors.Join(c.parts.Drop(h), err)
	}
	k := kept{Round: h.Round, Seen: p.seen(), Bytes: h.Bytes, Order: len(c.got), Update: *u}
	if err := c.put(updateName(c.head.Round+1, h.From), &k); err != nil {
		return err
	}
	m := c.members[h.From]
	c.got[h.From] = delivery{h.Round, k.Order}
	m.record = m.record.after(h.From, &k)
	if age > 0 {
		m.record.Counted = fmt.Sprintf("late: of round %d, counts in round %d", h.Round, c.head.Round+1)
	}
	c.dirty[h.From] = true
	if c.asynchronous() {
		n := *m
		n.Invited, n.Overdue = 0, false
		if err := c.putMember(&n); err != nil {
			return err
		}
	}
	return c.parts.Drop(h)
}

// after is what is known of a gateway's updates when one more is kept.
func (r record) after(name string, k *kept) record {
	r.Name = name
	if k.Round > r.Round {
		r.Round, r.Counted = k.Round, ""
	}
	if k.Seen.Seq > r.Last.Seq || r.Last.another(k.Seen.Key) {
		r.Last = k.Seen
	}
	return r
}
