package aggregate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What is rounded by lot lies within a step of its scale, and right on the mean.
func TestRounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x := normals(r, 1001, 0, 0.01)
	for kind, step := range map[string]float64{"int8": 0.05 / 127, "int4": 0.05 / 7} {
		sum := make([]float64, len(x))
		const times = 400
		for seed := range uint64(times) {
			data, left, err := Encode(Compression{Kind: kind}, x, nil, seed)
			if err != nil || left != nil {
				t.Fatal(err, left)
			}
			got, err := Decode(data, len(x))
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if math.Abs(float64(v-x[i])) > step {
					t.Fatalf("%s, %d: %v of %v", kind, i, v, x[i])
				}
				sum[i] += float64(v)
			}
		}
		for i, s := range sum {
			if off := math.Abs(s/times - float64(x[i])); off > 3*step/math.Sqrt(times) {
				t.Fatalf("%s, %d: mean %v of %v", kind, i, s/times, x[i])
			}
		}
	}
}

// values are of all sizes, many of them equal or 0.
func values(n int) *rapid.Generator[[]float32] {
	return rapid.SliceOfN(rapid.OneOf(rapid.Float32Range(-1, 1), rapid.SampledFrom([]float32{0, 1, -1, 1e-45, -3e-39, 1e30, math.MaxFloat32 / 4})), n, n)
}

func drawCompression(t *rapid.T) Compression {
	c := Compression{Kind: rapid.SampledFrom(compressions()).Draw(t, "kind")}
	if strings.HasPrefix(c.Kind, "topk") {
		c.Share = rapid.SampledFrom([]float64{0, 0.001, 0.1, 0.5, 1}).Draw(t, "share")
	}
	return c
}

// Each encoding comes out as long as it may be, of the right weights, the same
// for the same seed, and with error bounded by its scales.
func TestEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, n := drawCompression(t), rapid.IntRange(0, 600).Draw(t, "weights")
		delta, seed := values(n).Draw(t, "delta"), rapid.Uint64().Draw(t, "seed")
		data, left, err := Encode(c, delta, nil, seed)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > c.MaxBytes(n) {
			t.Fatalf("%d bytes, at most %d", len(data), c.MaxBytes(n))
		}
		again, left2, _ := Encode(c, slices.Clone(delta), nil, seed)
		if !slices.Equal(data, again) || !slices.Equal(left, left2) {
			t.Fatal("the same gives another encoding")
		}
		got, err := Decode(data, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(data, n+1); err == nil {
			t.Fatal("it is of another model, too")
		}
		for i, v := range got {
			block, levels := delta, 0.0
			switch c.Kind {
			case "none":
				if v != delta[i] {
					t.Fatalf("%d: %v of %v", i, v, delta[i])
				}
				continue
			case "int8":
				block, levels = delta[i/256*256:min(i/256*256+256, n)], 127
			case "int4":
				block, levels = delta[i/64*64:min(i/64*64+64, n)], 7
			default:
				if left[i] != 0 && v != 0 && c.Kind == "topk" {
					t.Fatalf("%d: sent and left over", i)
				}
				continue
			}
			scale := float64(math.Float32frombits(peak(block))) / levels
			if math.Abs(float64(v)-float64(delta[i])) > scale*(1+1e-6)+1e-45 {
				t.Fatalf("%d: %v of %v, a step is %v", i, v, delta[i], scale)
			}
		}
	})
}

// What is sent over the rounds and what is left over is all that was wanted:
// exactly in each round, and up to rounding over all.
func TestErrorFeedback(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"topk", "topk-int8"}).Draw(t, "kind")
		n := rapid.IntRange(1, 400).Draw(t, "weights")
		c := Compression{Kind: kind, Share: rapid.SampledFrom([]float64{0.01, 0.3}).Draw(t, "share")}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
		var left []float32
		wanted, sent := make([]float64, n), make([]float64, n)
		for round := range 8 {
			delta := normals(r, n, 0.1, 1)
			all := slices.Clone(delta)
			for i := range all {
				if left != nil {
					all[i] += left[i]
				}
				wanted[i] += float64(delta[i])
			}
			data, now, err := Encode(c, delta, left, uint64(round))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data, n)
			if err != nil {
				t.Fatal(err)
			}
			moved := 0
			for i, v := range got {
				if v != 0 {
					moved++
				}
				if sum := v + now[i]; math.Abs(float64(sum-all[i])) > 1e-7*math.Abs(float64(all[i])) || kind == "topk" && sum != all[i] {
					t.Fatalf("round %d, %d: sent %v and left %v of %v", round, i, v, now[i], all[i])
				}
				sent[i] += float64(v)
			}
			if k := c.count(n); moved > k || kind == "topk" && moved != k {
				t.Fatalf("%d values travel, of %d", moved, k)
			}
			left = now
		}
		for i := range wanted {
			if math.Abs(sent[i]+float64(left[i])-wanted[i]) > 1e-5 {
				t.Fatalf("%d: sent %v, left %v, wanted %v", i, sent[i], left[i], wanted[i])
			}
		}
	})
}

// What travels are the largest, of equals the first.
func TestLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "weights")
		x, k := values(n).Draw(t, "values"), rapid.IntRange(1, n).Draw(t, "k")
		var want []int
		for i, v := range x {
			if v != 0 {
				want = append(want, i)
			}
		}
		slices.SortStableFunc(want, func(a, b int) int {
			return int(math.Float32bits(x[b])&^(1<<31)) - int(math.Float32bits(x[a])&^(1<<31))
		})
		want = want[:min(k, len(want))]
		slices.Sort(want)
		if got := largest(x, k); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		c               Compression
		delta, residual []float32
		want            string
	}{
		{Compression{Kind: "none"}, []float32{nan}, nil, "NaN"},
		{Compression{Kind: "topk"}, []float32{1, inf}, nil, "NaN or an infinity"},
		{Compression{Kind: "int8"}, []float32{math.MaxFloat32}, []float32{math.MaxFloat32}, "infinity"},
		{Compression{Kind: "topk"}, []float32{1}, []float32{nan}, "NaN"},
		{Compression{Kind: "topk"}, []float32{1}, []float32{1, 2}, "1 weights with a residual of 2"},
		{Compression{Kind: "topk", Share: 1.5}, []float32{1}, nil, "compression.share: 1.5"},
		{Compression{Kind: "topk", Share: math.NaN()}, []float32{1}, nil, "compression.share: NaN"},
		{Compression{Kind: "int8", Share: 0.1}, []float32{1}, nil, "compression.share: int8 has no use for it"},
		{Compression{Kind: "gzip"}, []float32{1}, nil, `compression.kind: "gzip" is none of [none int8`},
	} {
		if _, _, err := Encode(c.c, c.delta, c.residual, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c, err, c.want)
		}
	}
}

// Damage of each encoding is refused by name.
func TestDecodeRefuses(t *testing.T) {
	enc := func(kind string) []byte {
		data, _, err := Encode(Compression{Kind: kind}, []float32{1, -2, 3}, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	with := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                {nil, "ends too early"},
		"unknown":              {with(enc("none"), 0, 99), "encoding 99 is unknown"},
		"other size":           {with(enc("none"), 1, 4), "another number of weights: 4, the model has 3"},
		"size cut":             {[]byte{1, 0x80}, "a number is cut"},
		"cut":                  {enc("none")[:13], "ends too early"},
		"longer":               {append(enc("none"), 0), "more follows"},
		"NaN":                  {with(with(enc("none"), 5, 0x7f), 4, 0xff), "NaN or an infinity"},
		"int8 cut":             {enc("int8")[:8], "its length"},
		"int8 longer":          {append(enc("int8"), 0), "its length"},
		"int8 level":           {with(enc("int8"), 6, 0x80), "outside its levels"},
		"int8 scale":           {with(with(enc("int8"), 5, 0x7f), 4, 0x80), "NaN or an infinity"},
		"int4 level":           {with(enc("int4"), 6, 0x08), "outside its levels"},
		"int4 padding":         {with(enc("int4"), 7, 0x11), "half a byte"},
		"topk too many":        {with(enc("topk"), 2, 200), "more values than"},
		"topk place":           {with(enc("topk"), 3, 0xe0|3), "outside the weights"},
		"topk values cut":      {enc("topk")[:6], "ends too early"},
		"topk longer":          {append(enc("topk"), 1), "more follows"},
		"topk-int8 values cut": {enc("topk-int8")[:6], "its length"},
	} {
		_, err := Decode(c.data, 3)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if errors.Is(err, ErrNotFinite) != strings.Contains(c.want, "NaN") || errors.Is(err, ErrShape) != strings.Contains(c.want, "number of weights") {
			t.Errorf("%s: %v has another name", name, err)
		}
	}
	if _, err := Decode(enc("none"), -1); err == nil {
		t.Error("a model of -1 weights")
	}
}

// Whatever comes from outside is refused, or is as many finite values as the
// model has weights.
func FuzzDecode(f *testing.F) {
	for i, kind := range compressions() {
		x := normals(rand.New(rand.NewPCG(1, uint64(i))), 300, 0, 1)
		data, _, err := Encode(Compression{Kind: kind}, x, nil, 1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint16(len(x)))
		f.Add(data[:len(data)/2], uint16(len(x)))
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint16) {
		x, err := Decode(data, int(n))
		if err == nil && (len(x) != int(n) || peak(x) >= infinite) {
			t.Fatal("let in", fmt.Sprint(len(x)))
		}
	})
}
