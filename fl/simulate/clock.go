package simulate

import (
	"container/heap"
	"time"
)

// clock is virtual time: it stands still while something happens, and jumps to
// what comes next. What comes at the same time comes in the order in which it
// was set.
type clock struct {
	now    time.Time
	events events
	set    uint64
}

type event struct {
	at  time.Time
	seq uint64
	do  func() error
}

// epoch is when a simulation begins: any time, and always the same.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at has something happen at a time, now where that has passed.
func (c *clock) at(t time.Time, do func() error) {
	if t.Before(c.now) {
		t = c.now
	}
	c.set++
	heap.Push(&c.events, event{t, c.set, do})
}

func (c *clock) after(d time.Duration, do func() error) { c.at(c.now.Add(d), do) }

// next lets the next thing happen; false where there is none.
func (c *clock) next() (bool, error) {
	if len(c.events) == 0 {
		return false, nil
	}
	e := heap.Pop(&c.events).(event)
	c.now = e.at
	return true, e.do()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].seq < e[j].seq
	}
	return e[i].at.Before(e[j].at)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{} // what it held may go
	*e = old[:len(old)-1]
	return last
}

// door lets one thing through after the other: what is not through waits. A
// link of the broker is one, so that of a cohort's updates few are on their way
// at a time, however many are ready.
type door struct {
	clock *clock
	queue []func() time.Duration
	busy  bool
}

// enter has do happen as soon as all that came before is through; it says how
// long the door is taken.
func (d *door) enter(do func() time.Duration) {
	d.queue = append(d.queue, do)
	if !d.busy {
		d.open()
	}
}

func (d *door) open() {
	d.busy = len(d.queue) > 0
	if !d.busy {
		return
	}
	do := d.queue[0]
	d.queue[0] = nil
	if d.queue = d.queue[1:]; len(d.queue) == 0 {
		d.queue = nil
	}
	d.clock.after(do(), func() error { d.open(); return nil })
}
