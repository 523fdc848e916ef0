package infer

import "time"

// SlowsAtMost is by how much live inference may slow while a version is tried.
const SlowsAtMost = 0.2

// A trial works for a while and rests for a while: how long live inference
// takes without it is not known else, and changes with the load.
const (
	restFor     = 100 * time.Millisecond
	workFor     = 400 * time.Millisecond
	firstHold   = 500 * time.Millisecond // after live inference was slowed too much
	longestHold = 10 * time.Second
	enough      = 20  // answers before they are judged
	plenty      = 400 // after which older ones count half
)

// The slowest hundredth is known by more answers than the mean. Half of what is
// allowed is left to the way of a result outside of this program, which a trial
// slows as well: what reads it shares the box, or its caches.
const (
	slowest    = 0.01
	within     = 0.5
	enoughTail = 500   // answers
	plentyTail = 10000 // after which older ones count half
)

// Brake decides whether a trial may go on beside live inference: it holds how
// long answers take while the trial works against how long they take while it
// rests, in the mean; and how long all take, be it at work or not, against those
// at rest, by their slowest hundredth: what a trial adds to that depends on the
// share of time that it works. It reads no clock and is for one goroutine.
type Brake struct {
	most    float64
	working bool
	began   time.Time
	from    map[string]Counts
	hold    time.Duration
	rest    map[string]mean
	beside  map[string]mean
	resting map[string]*times
	all     map[string]*times
	held    int
}

// mean is a number of answers and how long they took together.
type mean struct {
	version string
	n, sum  float64
}

// NewBrake allows that answers take longer by this share, 0.2 for a fifth.
func NewBrake(most float64) *Brake {
	return &Brake{most: most, hold: restFor, rest: map[string]mean{}, beside: map[string]mean{}, resting: map[string]*times{}, all: map[string]*times{}}
}

// May says whether the trial may work from now on until it asks again. counts
// are those of all live models by name, since they serve.
func (b *Brake) May(now time.Time, counts map[string]Counts) bool {
	past := now.Sub(b.began)
	switch {
	case b.began.IsZero():
		b.turn(now, counts, false)
	case b.working && past >= workFor:
		if !add(b.beside, counts, b.from) {
			b.turn(now, counts, true) // there is nothing to slow
			break
		}
		addTimes(b.all, counts, b.from)
		slow, known := b.Slows()
		slower, tail := b.slower()
		switch {
		case known && slow > b.most:
			b.hold = min(max(2*b.hold, firstHold), longestHold)
			clear(b.beside)
			b.held++
		case tail && slower > slowest:
			b.hold = min(b.hold*5/4, longestHold)
			b.held++
		case tail:
			b.hold = max(b.hold*9/10, restFor)
		case known:
			b.hold = restFor
		}
		b.turn(now, counts, false)
	case !b.working && past >= b.hold:
		add(b.rest, counts, b.from)
		addTimes(b.all, counts, b.from)
		addTimes(b.resting, counts, b.from)
		b.turn(now, counts, true)
	}
	return b.working
}

func (b *Brake) turn(now time.Time, counts map[string]Counts, working bool) {
	b.began, b.from, b.working = now, counts, working
}

// Held is how often the trial had to wait longer.
func (b *Brake) Held() int { return b.held }

// Slows is by which share answers take longer while the trial works, of all
// models by their number of answers; not known before there are enough.
func (b *Brake) Slows() (share float64, known bool) {
	var took, alone float64
	for name, w := range b.beside {
		if r := b.rest[name]; w.n >= enough && r.n >= enough && r.version == w.version {
			took += w.sum
			alone += w.n * r.sum / r.n
		}
	}
	if alone <= 0 {
		return 0, false
	}
	return took/alone - 1, true
}

// add takes what was answered since from into means, and says whether that is
// anything.
func add(means map[string]mean, counts, from map[string]Counts) (any bool) {
	for name, c := range counts {
		c = c.Since(from[name])
		if c.Answers == 0 {
			continue
		}
		any = true
		m := means[name]
		if m.version != c.Version {
			m = mean{version: c.Version}
		}
		if m.n > plenty {
			m.n, m.sum = m.n/2, m.sum/2
		}
		m.n += float64(c.Answers)
		m.sum += c.Spent.Seconds()
		means[name] = m
	}
	return any
}

// slower is the share of answers that took longer, by more than half of what is
// allowed, than all but the slowest hundredth of those at rest.
func (b *Brake) slower() (share float64, known bool) {
	var slow, n float64
	for name, all := range b.all {
		if r := b.resting[name]; r != nil && r.version == all.version && r.n >= enoughTail && all.n >= enoughTail {
			slow += all.above((1 + within*b.most) * float64(r.quantile(1-slowest)))
			n += all.n
		}
	}
	if n == 0 {
		return 0, false
	}
	return slow / n, true
}

// times are answers of one version by how long they took: from the arrival of the
// message to the result, where there is one.
type times struct {
	version string
	histogram
}

func addTimes(list map[string]*times, counts, from map[string]Counts) {
	for name, c := range counts {
		c = c.Since(from[name])
		if c.Answers == 0 {
			continue
		}
		t := list[name]
		if t == nil || t.version != c.Version {
			t = &times{version: c.Version}
			list[name] = t
		}
		if t.n > plentyTail {
			t.halve()
		}
		if n := t.n; t.add(&c.ages) == n { // they were of no stream
			t.add(&c.took)
		}
	}
}

// Gate is asked by a pre-flight whether it may work: no for as long as it would
// slow what this engine's models answer by more than SlowsAtMost. It is for one
// pre-flight.
func (e *Engine) Gate() func() bool {
	b := NewBrake(SlowsAtMost)
	return func() bool { return b.May(time.Now(), e.counts()) }
}

// counts are those of all models by name.
func (e *Engine) counts() map[string]Counts {
	list := map[string]Counts{}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for name, m := range e.models {
		list[name] = m.Counts()
	}
	return list
}
