package aggregate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// memory is what a part of a strategy takes along to the next round.
type memory interface {
	save(b []byte) []byte
	load(r *reader)
	// fits says an error where that is of another number of weights.
	fits(n int) error
}

// stateless is for parts that take nothing along.
type stateless struct{}

func (stateless) save(b []byte) []byte { return b }
func (stateless) load(*reader)         {}
func (stateless) fits(int) error       { return nil }

// sameSize says an error where had weights are remembered, but not n.
func sameSize(had, n int) error {
	if had != 0 && had != n {
		return fmt.Errorf("a round over %d weights, but what is remembered of the rounds before is of %d", n, had)
	}
	return nil
}

// maxMoment is above each moment of updates that were let in.
const maxMoment = 1 << 40

const stateFormat = 1

// MarshalBinary implements Strategy. It is what was remembered at the last
// Finish, also in the midst of a round. Layout, little endian: format 1, length
// and name of the kind, the median length of updates (float64), then the
// kind's own lists, each with its length before it.
func (s *strategy) MarshalBinary() ([]byte, error) {
	b := []byte{stateFormat, byte(len(s.cfg.Kind))}
	b = append(b, s.cfg.Kind...)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.cohort.median))
	return s.gather.save(s.server.save(b)), nil
}

// UnmarshalBinary implements Strategy. What it read from is not kept; an error
// leaves all as it was.
func (s *strategy) UnmarshalBinary(data []byte) error {
	r := &reader{data: data}
	format := r.bytes(1)
	if r.err == nil && format[0] != stateFormat {
		return fmt.Errorf("state of a strategy: format %d is unknown, update this program", format[0])
	}
	if size := r.bytes(1); r.err == nil {
		if kind := r.bytes(int(size[0])); r.err == nil && string(kind) != s.cfg.Kind {
			return fmt.Errorf("state of a strategy: it is of %q, the task asks for %s", kind, s.cfg.Kind)
		}
	}
	read := fresh(s.cfg)
	if read.cohort.median = r.float64(); !(read.cohort.median >= 0 && read.cohort.median < math.MaxFloat32) {
		r.fail("the length of updates is no length")
	}
	read.server.load(r)
	read.gather.load(r)
	if len(r.data) > 0 {
		r.fail("more follows after its end")
	}
	if r.err != nil {
		return fmt.Errorf("state of a strategy: %w", r.err)
	}
	*s = *read
	return nil
}

// reader takes apart what append made; after an error it gives zeros.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
	r.data = nil
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.data) {
		r.fail("it ends too early")
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) float64() float64 { return math.Float64frombits(r.uint64()) }

// count reads the length of a list whose values take size bytes each; what
// follows is as long.
func (r *reader) count(size int) int {
	n := r.uint64()
	if n > uint64(len(r.data)/size) {
		r.fail("a list is longer than what follows")
		return 0
	}
	return int(n)
}

func appendFloats(b []byte, x []float32) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(x)))
	return appendValues(b, x)
}

func appendValues(b []byte, x []float32) []byte {
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// floats reads a list of values up to limit; nil for an empty one.
func (r *reader) floats(limit float32) []float32 {
	n := r.count(4)
	if n == 0 {
		return nil
	}
	x := r.values(n)
	if peak(x) > math.Float32bits(limit) {
		r.fail("a value is far too large")
	}
	return x
}

func (r *reader) values(n int) []float32 {
	b := r.bytes(4 * n)
	if b == nil {
		return nil
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	if peak(x) >= infinite && r.err == nil {
		r.err = fmt.Errorf("a value is not finite: %w", ErrNotFinite)
	}
	return x
}
