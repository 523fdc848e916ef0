package aggregate

import (
	"encoding/binary"
	"fmt"
)

// buffered is FedBuff: Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba,
// "Federated Learning with Buffered Asynchronous Aggregation",
// arXiv:2106.06639, algorithm 1: each so many updates make a step by their
// mean, each weakened by 1/sqrt(1+age) and none weighted by its samples. What
// does not fill a buffer at Finish waits for the next round.
//
// Which updates share a buffer is the order in which they were added: who
// repeats a round adds them in the same order, that of arrival, for the same
// bits. Within a buffer order changes nothing.
type buffered struct {
	size int
	wait buffer // as the last round left it
	now  buffer // what waits in this round
	done buffer // the full ones together
}

// buffer is a sum of some updates.
type buffer struct {
	sum     fixed // nil where there are none
	updates int
	samples int64
}

func (b *buffer) copyFrom(c buffer) {
	b.sum = append(b.sum[:0], c.sum...)
	b.updates, b.samples = c.updates, c.samples
}

func (f *buffered) keeps() bool { return false }

func (f *buffered) fits(n int) error { return sameSize(len(f.wait.sum), n) }

func (f *buffered) begin(n int) {
	f.now.copyFrom(f.wait)
	if f.wait.updates == 0 {
		f.now.sum = make(fixed, n)
	}
	f.done.copyFrom(buffer{})
}

func (f *buffered) weight(*Update) float64 { return 1 }

func (f *buffered) add(u *Update, scale float64) error {
	if f.now.updates+f.done.updates >= maxUpdates {
		return fmt.Errorf("update of %s: %w: %d are in", u.From, ErrFull, maxUpdates)
	}
	f.now.sum.add(u.Delta, scale)
	f.now.updates++
	f.now.samples += u.Samples
	if f.now.updates == f.size {
		if f.done.updates == 0 {
			f.done.sum = make(fixed, len(f.now.sum))
		}
		for i, v := range f.now.sum {
			f.done.sum[i] += v
		}
		f.done.updates += f.now.updates
		f.done.samples += f.now.samples
		clear(f.now.sum)
		f.now.updates, f.now.samples = 0, 0
	}
	return nil
}

func (f *buffered) mean(r *Report, _ []member) []float64 {
	r.Counted, r.Samples, r.Waiting = f.done.updates, f.done.samples, f.now.updates
	f.wait.copyFrom(f.now)
	if f.now.updates == 0 {
		f.wait.sum = nil
	}
	if f.done.updates == 0 {
		return nil
	}
	return f.done.sum.over(float64(f.size))
}

func (f *buffered) save(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(f.wait.updates))
	b = binary.LittleEndian.AppendUint64(b, uint64(f.wait.samples))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(f.wait.sum)))
	for _, v := range f.wait.sum {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func (f *buffered) load(r *reader) {
	updates, samples := r.uint64(), r.uint64()
	if updates >= uint64(f.size) {
		r.fail(fmt.Sprintf("%d updates wait, more than a buffer of %d has room for", updates, f.size))
	}
	if samples < updates || samples > updates*maxSamples {
		r.fail("the samples of what waits are not as many as its updates can have")
	}
	n := r.count(8)
	if r.err == nil && (n == 0) != (updates == 0) {
		r.fail("what waits and its sum do not fit together")
	}
	if r.err != nil || n == 0 {
		return
	}
	f.wait = buffer{sum: make(fixed, n), updates: int(updates), samples: int64(samples)}
	limit := int64(updates) * maxTerm << fraction
	for i := range f.wait.sum {
		if f.wait.sum[i] = int64(r.uint64()); f.wait.sum[i] > limit || f.wait.sum[i] < -limit {
			r.fail("a sum is larger than its updates can make it")
			return
		}
	}
}
