package sensors

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestWindows(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for name, c := range map[string]struct {
		cfg    WindowConfig
		times  []float64
		full   []int // the readings that filled it
		resets uint64
		last   []float64 // what the last full window held: readings by number
	}{
		"count":        {WindowConfig{Size: "3"}, []float64{0, 1, 2, 3, 4, 5, 6}, []int{2, 5}, 0, []float64{3, 4, 5}},
		"count, hop":   {WindowConfig{Size: "3", Every: "1"}, []float64{0, 1, 2, 3, 4}, []int{2, 3, 4}, 0, []float64{2, 3, 4}},
		"count, gap":   {WindowConfig{Size: "3", Gap: time.Minute}, []float64{0, 1, 100, 101, 102}, []int{4}, 1, []float64{2, 3, 4}},
		"back in time": {WindowConfig{Size: "3"}, []float64{5, 6, 1, 2, 3}, []int{4}, 1, []float64{2, 3, 4}},
		"time":         {WindowConfig{Size: "3s"}, []float64{0, 1, 2, 3, 4, 5, 6}, []int{3, 6}, 0, []float64{4, 5, 6}},
		"time, hop":    {WindowConfig{Size: "3s", Every: "1s"}, []float64{0, 1, 2, 3, 4, 5}, []int{3, 4, 5}, 0, []float64{3, 4, 5}},
		"time, late":   {WindowConfig{Size: "3s", Every: "1s"}, []float64{0, 1, 2, 3, 5.5, 5.6, 6.1}, []int{3, 4, 6}, 0, []float64{4, 5, 6}},
		"time, pause":  {WindowConfig{Size: "3s", Every: "1s"}, []float64{0, 1, 2, 9, 10, 11, 12}, []int{6}, 1, []float64{4, 5, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			w := NewWindow(c.cfg, 0)
			var full []int
			var last []float64
			for i, s := range c.times {
				if w.Push(at(s), []float64{float64(i)}) {
					full = append(full, i)
					last = w.Flatten(nil)
				}
			}
			if !cmp.Equal(full, c.full) || w.Resets() != c.resets || !cmp.Equal(last, c.last) {
				t.Errorf("full %v resets %d last %v, want %v %d %v", full, w.Resets(), last, c.full, c.resets, c.last)
			}
		})
	}
}

// Any series of readings: the content of a full window is what a plain list of
// all readings since the last reset holds at that moment.
func TestWindowContent(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, cfg := range []WindowConfig{
		{Size: "7"}, {Size: "7", Every: "3"}, {Size: "64", Every: "1", Gap: 2 * time.Second},
		{Size: "3s", Every: "1s"}, {Size: "10s"}, {Size: "5s", Every: "250ms"},
	} {
		w := NewWindow(cfg, 2)
		n, span, _ := extent(cfg.Size)
		var all []float64
		var times []time.Time
		at := time.Unix(1000, 0)
		full := 0
		for i := range 5000 {
			at = at.Add(time.Duration(r.ExpFloat64() * 0.3 * float64(time.Second)))
			before := w.Resets()
			ok := w.Push(at, []float64{float64(i), -float64(i)})
			if w.Resets() != before {
				all, times = nil, nil
			}
			all, times = append(all, float64(i), -float64(i)), append(times, at)
			if !ok {
				continue
			}
			full++
			from := max(0, len(times)-n)
			if span > 0 {
				for from = 0; at.Sub(times[from]) >= span; from++ {
				}
			}
			if got := w.Flatten(nil); !cmp.Equal(got, all[2*from:]) {
				t.Fatalf("%+v, reading %d: %v, want %v", cfg, i, got, all[2*from:])
			}
			if c := w.Column(1, nil); len(c) != w.Len() || c[len(c)-1] != -float64(i) {
				t.Fatalf("%+v, reading %d: column %v", cfg, i, c)
			}
		}
		if full < 10 {
			t.Errorf("%+v was full %d times", cfg, full)
		}
	}
}

func TestWindowResets(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	w := NewWindow(WindowConfig{Size: "100s", Gap: 10 * time.Second, Max: 5}, 0)
	var got []string
	push := func(s int, values ...float64) {
		before := w.Resets()
		w.Push(at(s), values)
		if w.Resets() != before {
			got = append(got, w.ResetReason())
		}
	}
	push(0, 1)
	push(20, 1)
	push(19, 1)
	push(20, 1, 2)
	for s := 21; s < 26; s++ {
		push(s, 1, 2)
	}
	if want := []string{"gap", "back", "width", "too_many"}; !cmp.Equal(got, want) || w.Len() != 1 {
		t.Errorf("%v and %d readings, want %v", got, w.Len(), want)
	}
}

// A hop far below the pace of the readings costs nothing.
func TestWindowSmallHop(t *testing.T) {
	cfg := WindowConfig{Size: "1000h", Every: "1ns"}
	w := NewWindow(cfg, 1)
	w.Push(time.Unix(0, 0), []float64{1})
	w.Push(time.Unix(1, 0), []float64{1})
	if !w.Push(time.Unix(1000*3600, 0), []float64{1}) || !w.Push(time.Unix(1000*3600+1, 0), []float64{1}) {
		t.Error("the window is not full")
	}
}

func TestFeatures(t *testing.T) {
	f, err := NewFeatures([]string{"mean", "std", "min", "max", "rms", "peak", "crest", "kurtosis", "last", "fft:3", "band:0.5-1.5", "band:5-20@64"}, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	w := NewWindow(WindowConfig{Size: "64"}, 2)
	for i := range 64 {
		// a: a sine of amplitude 2 and one turn about 1; b: constant.
		w.Push(time.Unix(0, int64(i)*int64(time.Second)/64), []float64{1 + 2*math.Sin(2*math.Pi*float64(i)/64), -3})
	}
	got := f.Compute(w, 0, nil)
	want := map[string]float64{
		"a.mean": 1, "a.std": math.Sqrt2, "a.min": -1, "a.max": 3, "a.rms": math.Sqrt(3), "a.peak": 3, "a.crest": 3 / math.Sqrt(3),
		"a.kurtosis": 1.5, "a.last": 1 + 2*math.Sin(2*math.Pi*63/64), "a.fft1": 2, "a.fft2": 0, "a.fft3": 0, "a.band_0_5_1_5": 2, "a.band_5_20": 0,
		"b.mean": -3, "b.std": 0, "b.min": -3, "b.max": -3, "b.rms": 3, "b.peak": 3, "b.crest": 1, "b.kurtosis": 0, "b.last": -3, "b.fft1": 0,
	}
	if len(got) != len(f.Names()) {
		t.Fatalf("%d values, %d names", len(got), len(f.Names()))
	}
	for i, name := range f.Names() {
		if v, ok := want[name]; ok && math.Abs(got[i]-v) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, got[i], v)
		}
	}
	block := f.ComputeBlock(w.Flatten(nil), 64, nil)
	if !cmp.Equal(block, got, cmpopts.EquateApprox(0, 1e-6)) {
		t.Errorf("as one payload: %v, want %v", block, got)
	}
	for _, bad := range []string{"median", "fft:0", "fft:x", "band:5", "band:9-3"} {
		if _, err := NewFeatures([]string{bad}, []string{"a"}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// All bands together are the variance (Parseval), whatever the length.
func TestBands(t *testing.T) {
	f, err := NewFeatures([]string{"band:0-8@64", "band:8-20@64", "band:20-33@64", "std", "fft:40"}, []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{1, 2, 3, 8, 9, 64, 97, 64} {
		x := make([]float64, n)
		for i := range x {
			x[i] = 100 + r.NormFloat64()
		}
		got := f.ComputeBlock(x, 0, nil)
		if len(got) != len(f.Names()) {
			t.Fatalf("%d readings: %d features, %d names", n, len(got), len(f.Names()))
		}
		if sum, variance := got[0]+got[1]+got[2], got[3]*got[3]; math.Abs(sum-variance) > 1e-9 {
			t.Errorf("%d readings: the bands have %v, the variance is %v", n, sum, variance)
		}
	}
	// Alternating readings are a wave of amplitude 1 at half the rate.
	x := []float64{1, -1, 1, -1, 1, -1, 1, -1}
	if got := f.ComputeBlock(x, 0, nil); math.Abs(got[4+3]-1) > 1e-12 {
		t.Errorf("the last magnitude is %v, want 1", got[4+3])
	}
	// Without a rate no band is known.
	f, _ = NewFeatures([]string{"band:0-8"}, []string{"x"})
	if got := f.ComputeBlock(x, 0, nil); got[0] != 0 {
		t.Errorf("without a rate: %v", got)
	}
}

func TestNormalise(t *testing.T) {
	for _, c := range []struct {
		cfg  NormaliseConfig
		in   []float64
		want []float64
		bad  string
	}{
		{NormaliseConfig{}, []float64{1, 2}, []float64{1, 2}, ""},
		{NormaliseConfig{Mean: []float64{1}, Std: []float64{2}}, []float64{3, 5}, []float64{1, 2}, ""},
		{NormaliseConfig{Mean: []float64{1, 10}, Std: []float64{1, 2}}, []float64{2, 12, 3, 14}, []float64{1, 1, 2, 2}, ""},
		{NormaliseConfig{Std: []float64{1, 2}}, []float64{1, 2, 3}, nil, wrongLength},
	} {
		if err := c.cfg.Apply(c.in); Reason(err) != c.bad || err == nil && !cmp.Equal(c.in, c.want) {
			t.Errorf("%+v: %v %v, want %v", c.cfg, c.in, err, c.want)
		}
	}
	for want, c := range map[string]NormaliseConfig{"std[1]: 0": {Std: []float64{1, 0}}, "mean[0]: NaN": {Mean: []float64{math.NaN()}}} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestWindowConfig(t *testing.T) {
	for want, c := range map[string]WindowConfig{
		"size: ": {Size: "many"}, "every: size and every": {Size: "10s", Every: "5"}, "every: 20s is more": {Size: "10s", Every: "20s"},
		"gap: ": {Size: "5", Gap: -1}, "max: ": {Size: "2000000"}, "size: 0": {Size: "0"},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

func BenchmarkWindowPush(b *testing.B) {
	for name, cfg := range map[string]WindowConfig{
		"count 64": {Size: "64", Every: "1"}, "10s of 5,000 a second": {Size: "10s", Every: "1s"},
	} {
		b.Run(name, func(b *testing.B) {
			w := NewWindow(cfg, 3)
			values := []float64{1, 2, 3}
			at := time.Unix(0, 0)
			b.ReportAllocs()
			for b.Loop() {
				at = at.Add(200 * time.Microsecond)
				w.Push(at, values)
			}
		})
	}
}

func BenchmarkFeatures(b *testing.B) {
	x := make([]float64, 1024)
	for i := range x {
		x[i] = math.Sin(float64(i))
	}
	for _, kinds := range [][]string{{"mean", "std", "min", "max", "rms", "peak", "crest", "kurtosis"}, {"fft:64", "band:10-50@1000"}} {
		b.Run(kinds[0], func(b *testing.B) {
			f, err := NewFeatures(kinds, []string{"x"})
			if err != nil {
				b.Fatal(err)
			}
			var out []float64
			b.ReportAllocs()
			for b.Loop() {
				out = f.ComputeBlock(x, 1000, out[:0])
			}
		})
	}
}
