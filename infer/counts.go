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
}

func (c *counts) failed(n int) { c.failures.Add(uint64(n)) }

func (c *counts) answered(took time.Duration) {
	c.spent.Add(int64(took))
	c.took[bucketOf(took)].Add(1)
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
	n := Counts{Version: version, Failures: c.failures.Load(), Spent: time.Duration(c.spent.Load())}
	for i := range c.took {
		n.took[i] = c.took[i].Load()
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
	for i := range c.took {
		c.took[i] -= before.took[i]
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
	left := q * float64(c.Answers)
	for i, n := range c.took {
		if n > 0 && float64(n) >= left {
			begin := bucketEnd(i-1) + 1
			return begin + time.Duration(left/float64(n)*float64(bucketEnd(i)-begin))
		}
		left -= float64(n)
	}
	return 0
}

// CountsOf are the counts of a version that failed so often and took so long
// for each of n answers.
func CountsOf(version string, failures int, took time.Duration, n int) Counts {
	c := Counts{Version: version, Answers: uint64(n), Failures: uint64(failures)}
	c.took[bucketOf(took)] = uint64(n)
	return c
}
