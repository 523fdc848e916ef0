package fl

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// quorum is how many updates a round needs: what the task says, and as many as
// the strategy cannot do without.
func (c *Coordinator) quorum() int {
	return max(c.task.Cohort.Quorum, c.task.Strategy.Minimum(), 1)
}

// advance does what has become due: it begins a round, ends one, or both.
func (c *Coordinator) advance(now time.Time) error {
	for !c.Done() {
		if c.open == nil {
			if ok, err := c.draw(now); err != nil || !ok {
				return err
			}
		}
		if err := c.invite(now); err != nil {
			return err
		}
		ripe, err := c.ripe(now)
		if err != nil || !ripe {
			return err
		}
		if err := c.finish(now); err != nil {
			return err
		}
	}
	return nil
}

// able says whether a gateway can take part, and else why not.
func (c *Coordinator) able(m *member) (bool, string) {
	if m.Said.Seq == 0 {
		return false, "it has not said that it is there"
	}
	if n := m.Hello.Samples; n < max(c.task.Data.Minimum, 1) {
		return false, fmt.Sprintf("it has %d samples; the task wants %d", n, max(c.task.Data.Minimum, 1))
	}
	if _, ok := c.enrolled.Key(m.Name); !ok {
		return false, "it is not enrolled any more"
	}
	return true, ""
}

// there are those who can take part.
func (c *Coordinator) there() []candidate {
	var list []candidate
	for _, m := range c.members {
		if ok, _ := c.able(m); ok {
			list = append(list, candidate{m.Name, m.Hello.Samples, m.Heard})
		}
	}
	return list
}

// draw begins a round; false: it waits for participants. A round that is under
// way already is drawn again.
func (c *Coordinator) draw(now time.Time) (bool, error) {
	need := c.quorum()
	if c.head.Round == 0 && c.open == nil {
		need = max(need, c.task.Cohort.waitFor())
	}
	there := []candidate(nil)
	if len(c.members) >= need {
		there = c.there()
	}
	if len(there) < need {
		if need == 1 {
			c.waits("waiting until a participant is there")
			return false, nil
		}
		why := ""
		if need > max(c.task.Cohort.Quorum, c.task.Cohort.waitFor()) {
			why = ", which strategy " + c.task.Strategy.Kind + " needs"
		}
		c.waits("waiting until %d participants are there%s", need, why)
		return false, nil
	}
	r := round{Round: c.head.Round + 1, Began: now.UnixMilli()}
	if c.open != nil {
		r.Draw = c.open.Draw + 1
		for _, name := range c.open.Cohort {
			c.dirty[name] = true
		}
	}
	if !c.asynchronous() {
		if d := c.task.Deadline; d > 0 {
			r.Deadline = now.Add(d).UnixMilli()
		}
		r.Cohort = drawn(c.task.Cohort.Select, c.task.Cohort.Size, lot(c.task.Seed, r.Round, r.Draw), there)
	}
	if err := c.put(cohortName(r.Round), &r); err != nil {
		return false, err
	}
	c.open, c.look, c.told = &r, true, false
	for _, name := range r.Cohort {
		c.dirty[name] = true
	}
	c.waits("")
	return true, nil
}

// waits says what the task waits for, once.
func (c *Coordinator) waits(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if why == c.why {
		return
	}
	c.why, c.told = why, false
	if why != "" {
		c.cfg.Say(why)
	}
}

// ripe says whether the round is to end now.
func (c *Coordinator) ripe(now time.Time) (bool, error) {
	quorum := c.quorum()
	if c.asynchronous() {
		return len(c.got) >= quorum, nil
	}
	over := c.open.Deadline > 0 && now.UnixMilli() >= c.open.Deadline
	if over && len(c.got) >= quorum || len(c.got) >= len(c.open.Cohort) && c.missing() == 0 {
		return true, nil
	}
	if c.look {
		c.look = false
		if c.missing() == 0 {
			if len(c.got) >= quorum {
				return true, nil
			}
			// Too many can take no part any more: others do.
			ok, err := c.draw(now)
			c.look = c.look && !ok
			return false, err
		}
	}
	if over {
		c.waits("the deadline of round %d is over, %d of at least %d updates are there: it waits for more", c.open.Round, len(c.got), quorum)
	}
	return false, nil
}

// missing is how many updates of the round under way may still come.
func (c *Coordinator) missing() int {
	n := 0
	for _, name := range c.open.Cohort {
		if c.got[name].round != c.open.Round {
			if ok, _ := c.able(c.member(name)); ok {
				n++
			}
		}
	}
	return n
}

// invite invites, in an asynchronous task, who has not trained from the present
// weights, as far as there is room.
func (c *Coordinator) invite(now time.Time) error {
	if !c.asynchronous() {
		return nil
	}
	room := math.MaxInt
	if size := c.task.Cohort.Size; size > 0 {
		room = size
	}
	over := func(m *member) bool {
		return c.task.Deadline > 0 && now.UnixMilli() >= m.Since+c.task.Deadline.Milliseconds()
	}
	var idle []candidate
	for _, m := range c.members {
		if m.Invited > 0 && !m.Overdue && over(m) {
			n := *m
			n.Overdue = true
			if err := c.putMember(&n); err != nil {
				return err
			}
			m = &n
		}
		switch {
		case m.Invited > 0 && !m.Overdue:
			room--
		case m.record.Round >= c.open.Round || m.Invited > 0 && m.Heard < m.Since+c.task.Deadline.Milliseconds():
		default:
			if ok, _ := c.able(m); ok {
				idle = append(idle, candidate{m.Name, m.Hello.Samples, m.Heard})
			}
		}
	}
	if room <= 0 || len(idle) == 0 {
		return nil
	}
	for _, name := range drawn(c.task.Cohort.Select, room, lot(c.task.Seed, c.open.Round, len(c.got)), idle) {
		n := *c.members[name]
		n.Invited, n.Since, n.Overdue = c.open.Round, now.UnixMilli(), false
		if err := c.putMember(&n); err != nil {
			return err
		}
		c.dirty[name] = true
	}
	return nil
}

// wake is when something becomes due by itself; zero for never.
func (c *Coordinator) wake(now time.Time) time.Time {
	if c.open == nil || c.task.Deadline == 0 || c.Done() {
		return time.Time{}
	}
	at := c.open.Deadline
	if c.asynchronous() {
		at = math.MaxInt64
		for _, m := range c.members {
			if m.Invited > 0 && !m.Overdue {
				at = min(at, m.Since+c.task.Deadline.Milliseconds())
			}
		}
	}
	if at == math.MaxInt64 || at <= now.UnixMilli() {
		return time.Time{}
	}
	return time.UnixMilli(at)
}

// takers are those that a round was for: the cohort, or in an asynchronous task
// those who train or delivered.
func (c *Coordinator) takers() []string {
	if !c.asynchronous() {
		return c.open.Cohort
	}
	var list []string
	for _, m := range c.members {
		if _, there := c.got[m.Name]; there || m.Invited > 0 && !m.Overdue {
			list = append(list, m.Name)
		}
	}
	slices.Sort(list)
	return list
}
