package infer

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// buckets of times: four to each doubling, from a nanosecond on.
const buckets = 4 * 48

// counts are what one version did; they grow only.
type counts struct {
	failures atomic.Uint64
	spent    atomic.Int64 // ns of all answers together
	took     [buckets]atomic.Uint64
	aged     atomic.Int64 // ns of all results together
	ages     [buckets]atomic.Uint64
}

func (c *counts) failed(n int) { c.failures.Add(uint64(n)) }

func (c *counts) answered(took time.Duration) {
	c.spent.Add(int64(took))
	c.took[bucketOf(took)].Add(1)
}

func (c *counts) published(age time.Duration) {
	c.aged.Add(int64(age))
	c.ages[bucketOf(age)].Add(1)
}

// bucketOf is where a time is counted.
func bucketOf(took time.Duration) int {
	n := uint64(max(took, 4))
	k := bits.Len64(n) - 1 // 2 at least
	return min(4*k+int(n>>(k-2)&3), buckets-1)
}

// bucketEnd is the longest time of a bucket.
func bucketEnd(i int) time.Duration {
	return time.Duration(1)<<(i/4)*time.Duration(5+i%4)/4 - 1
}

func (c *counts) read(version string) Counts {
	n := Counts{Version: version, Failures: c.failures.Load(), Spent: time.Duration(c.spent.Load()), aged: time.Duration(c.aged.Load())}
	for i := range c.took {
		n.took[i], n.ages[i] = c.took[i].Load(), c.ages[i].Load()
		n.Answers += n.took[i]
	}
	return n
}

// Counts are what a version of a model did in some time.
type Counts struct {
	Version  string
	Answers  uint64
	Failures uint64        // inputs that the model gave no answer to; not those that did not fit into it
	Spent    time.Duration // on all answers together
	took     [buckets]uint64
	aged     time.Duration   // of all results together, from the message's arrival on
	ages     [buckets]uint64 // of results
}

// Since is what was done after before, of the same version; all of it where
// before is of another one.
func (c Counts) Since(before Counts) Counts {
	if before.Version != c.Version || before.Answers > c.Answers {
		return c
	}
	c.Answers -= before.Answers
	c.Failures -= before.Failures
	c.Spent -= before.Spent
	c.aged -= before.aged
	for i := range c.took {
		c.took[i] -= before.took[i]
		c.ages[i] -= before.ages[i]
	}
	return c
}

// Failed is the share of inputs that got no answer, 0..1.
func (c Counts) Failed() float64 {
	if c.Answers+c.Failures == 0 {
		return 0
	}
	return float64(c.Failures) / float64(c.Answers+c.Failures)
}

// Quantile is how long an answer took: the share q of them, 0..1, took no
// longer. It is up to a quarter off, for times are counted in classes and taken
// as spread evenly over each, and 0 where there is no answer.
func (c Counts) Quantile(q float64) time.Duration {
	var h histogram
	h.add(&c.took)
	return h.quantile(q)
}

// histogram is how many answers took how long. Older ones may count for less.
type histogram struct {
	n    float64 // all
	took [buckets]float64
}

// add gives how many there are then.
func (h *histogram) add(took *[buckets]uint64) float64 {
	for i, n := range took {
		h.took[i] += float64(n)
		h.n += float64(n)
	}
	return h.n
}

func (h *histogram) halve() {
	h.n /= 2
	for i := range h.took {
		h.took[i] /= 2
	}
}

func (h *histogram) quantile(q float64) time.Duration {
	left := q * h.n
	for i, n := range h.took {
		if n > 0 && n >= left {
			begin, end := bucketEnd(i-1)+1, bucketEnd(i)
			return begin + time.Duration(left/n*float64(end-begin))
		}
		left -= n
	}
	return 0
}

// above is how many took longer than so many nanoseconds.
func (h *histogram) above(ns float64) (n float64) {
	for i, has := range h.took {
		begin, end := float64(bucketEnd(i-1)+1), float64(bucketEnd(i))
		if has == 0 {
			continue
		}
		if part := (end - ns) / (end - begin); part > 0 {
			n += has * min(part, 1)
		}
	}
	return n
}

// CountsOf are the counts of a version that failed so often and took so long
// for each of n answers.
func CountsOf(version string, failures int, took time.Duration, n int) Counts {
	c := Counts{Version: version, Answers: uint64(n), Failures: uint64(failures)}
	c.took[bucketOf(took)] = uint64(n)
	return c
}
