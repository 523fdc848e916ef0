package aggregate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func nan() float64 { return math.NaN() }

// used is a strategy after some rounds, and its state.
func used(t testing.TB, kind string) (Strategy, []byte) {
	s := mustNew(t, configOf(kind))
	r := rand.New(rand.NewPCG(1, 1))
	w := make([]float32, 3)
	for range 2 {
		finish(t, s, w, []Update{{From: "a", Samples: 2, Delta: normals(r, 3, 0, 1)}, {From: "b", Samples: 1, Delta: normals(r, 3, 0, 1)}})
	}
	state, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return s, state
}

// A state that is cut, longer, of another kind or format, or of impossible
// values is refused, and what was remembered stays.
func TestStateRefuses(t *testing.T) {
	for _, kind := range kinds() {
		s, state := used(t, kind)
		for n := range state {
			if err := s.UnmarshalBinary(state[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes are let in", kind, n, len(state))
			}
		}
		if err := s.UnmarshalBinary(append(bytes.Clone(state), 0)); err == nil || !strings.Contains(err.Error(), "more follows") {
			t.Errorf("%s: %v", kind, err)
		}
		other := mustNew(t, DefaultConfig())
		if kind == "fedavg" {
			other = mustNew(t, Config{Kind: "median"})
		}
		if err := other.UnmarshalBinary(state); err == nil || !strings.Contains(err.Error(), `it is of "`+kind) {
			t.Errorf("%s: %v", kind, err)
		}
		bad := bytes.Clone(state)
		bad[0] = 9
		if err := s.UnmarshalBinary(bad); err == nil || !strings.Contains(err.Error(), "format 9 is unknown") {
			t.Errorf("%s: %v", kind, err)
		}
		if n := len(state); kind == "fedavgm" || kind == "fedadam" {
			bad = bytes.Clone(state)
			bad[n-1], bad[n-2] = 0x7f, 0xff // NaN
			if err := s.UnmarshalBinary(bad); err == nil {
				t.Errorf("%s: NaN is let in", kind)
			}
		}
		if after, err := s.MarshalBinary(); err != nil || !bytes.Equal(after, state) {
			t.Errorf("%s: what was refused left a trace", kind)
		}
	}
}

// Whatever state is let in comes out as it was, and rounds go on to finite
// weights from it.
func FuzzState(f *testing.F) {
	for i, kind := range kinds() {
		_, state := used(f, kind)
		f.Add(state, uint8(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		s := mustNew(t, configOf(kinds()[int(kind)%len(kinds())]))
		if s.UnmarshalBinary(data) != nil {
			return
		}
		if out, err := s.MarshalBinary(); err != nil || !bytes.Equal(out, data) {
			t.Fatalf("%x came out as %x, %v", data, out, err)
		}
		for n := range 6 {
			if s.Begin(n) != nil {
				continue
			}
			w := make([]float32, n)
			for _, u := range same(6, make([]float32, n)) {
				if err := s.Add(u); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Finish(w); err != nil || peak(w) >= infinite {
				t.Fatal(w, err)
			}
		}
	})
}
