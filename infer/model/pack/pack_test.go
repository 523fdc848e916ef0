package pack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// Any model, with or without any other as its base, comes back byte for byte
// and is never much longer than it was.
func TestComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var list []constant
		for i := range rapid.IntRange(0, 5).Draw(t, "constants") {
			list = append(list, drawn(t, r, string(rune('a'+i))))
		}
		file := fileOf(t, list...)
		var base []byte
		switch rapid.SampledFrom([]string{"none", "itself", "older", "other"}).Draw(t, "base") {
		case "itself":
			base = slices.Clone(file)
		case "older":
			for i, c := range list {
				d := slices.Clone(c.data)
				for range rapid.IntRange(0, 20).Draw(t, "changes") {
					if len(d) > 0 {
						d[r.IntN(len(d))] = d[r.IntN(len(d))]
					}
				}
				list[i].data = d
			}
			base = fileOf(t, list...)
		case "other":
			base = fileOf(t, drawn(t, r, "a"), drawn(t, r, "z"))
		}
		packed, parts, err := PackParts(file, base)
		if err != nil {
			t.Fatal(err)
		}
		if sum(parts) != len(packed) {
			t.Fatalf("the parts are %d bytes of %d", sum(parts), len(packed))
		}
		if most := len(file) + 120 + 30*len(list); len(packed) > most {
			t.Fatalf("%d bytes are packed as %d", len(file), len(packed))
		}
		out, err := Unpack(packed, func(sum [32]byte) ([]byte, error) {
			if base == nil || sum != sha256.Sum256(base) {
				t.Fatalf("asked for %x", sum)
			}
			return base, nil
		})
		if err != nil || !bytes.Equal(out, file) {
			t.Fatalf("%d bytes came back as %d: %v", len(file), len(out), err)
		}
	})
}

func drawn(t *rapid.T, r *rand.Rand, name string) constant {
	rows, cols := rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 60).Draw(t, "columns")
	n := rows * cols
	switch rapid.SampledFrom([]string{"dense", "sparse", "shared", "both", "halves", "int8", "bias", "same", "round", "noise"}).Draw(t, "kind") {
	case "dense":
		return weights(name, rows, cols, dense(r, n))
	case "sparse":
		return weights(name, rows, cols, sparse(r, dense(r, n), 0.1))
	case "shared":
		return weights(name, rows, cols, shared(dense(r, n), 16))
	case "both":
		return weights(name, rows, cols, shared(sparse(r, dense(r, n), rapid.Float64Range(0, 1).Draw(t, "keep")), 32))
	case "halves":
		return constant{name, model.Float16, []int{rows, cols}, model.HalfBytes(dense(r, n))}
	case "int8":
		return constant{name, model.Int8, []int{1, 1, rows, cols}, bytesOf(r, n)}
	case "bias":
		v := make([]int32, n)
		for i := range v {
			v[i] = int32(r.NormFloat64() * 1000)
		}
		return constant{name, model.Int32, []int{n}, model.Int32Bytes(v...)}
	case "round":
		v, low := shared(sparse(r, dense(r, n), 0.9), 64), rapid.IntRange(0, 31).Draw(t, "zeros")
		for i := range v {
			v[i] = math.Float32frombits(math.Float32bits(v[i]) >> low << low)
		}
		return weights(name, rows, cols, v)
	case "same":
		return constant{name, model.Int8, []int{n}, bytes.Repeat([]byte{byte(n)}, n)}
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	// Of a shape that does not fit: a file may say so.
	return constant{name, model.Float32, []int{rows, cols + 1}, b}
}

// What is packed is smaller than what the paper's own coding takes: Huffman
// codes of the indexes, and of the gaps between them (up to 31, longer ones by
// the help of zeros).
func TestSmallerThanHuffman(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	w := shared(sparse(r, dense(r, 300*784), 0.08), 32)
	file := fileOf(t, weights("w", 300, 784, w))
	packed, parts, err := PackParts(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	values, gaps, gap := map[float32]int{}, map[float32]int{}, 0
	for _, v := range w {
		if gap++; v == 0 && gap < 32 {
			continue
		}
		values[v]++
		gaps[float32(gap)]++
		gap = 0
	}
	huffman := (codeBits(values)+codeBits(gaps))/8 + 4*len(values)
	t.Logf("%d bytes: Huffman %d, here %d with header and tables, %s", len(file), huffman, len(packed), parts[0].Form)
	if parts[0].Packed > huffman {
		t.Errorf("the weights took %d bytes, by Huffman codes %d", parts[0].Packed, huffman)
	}
}

// codeBits is how long all of the values are, each in its Huffman code.
func codeBits(count map[float32]int) int {
	var n []int
	for _, c := range count {
		n = append(n, c)
	}
	all := 0
	for len(n) > 1 {
		slices.Sort(n)
		all += n[0] + n[1]
		n = append(n[2:], n[0]+n[1])
	}
	return all
}

// A retrained model with the zeros and the values of its base is told by the
// indexes that changed; one with new values by those.
func TestDeltas(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	n := 100 * 300
	was := shared(sparse(r, dense(r, n), 0.1), 32)
	indexes, values := slices.Clone(was), slices.Clone(was)
	for i, v := range was {
		if v != 0 && r.IntN(20) == 0 {
			indexes[i] = v + 0.3/32
		}
		values[i] = v * 1.01
	}
	one := slices.Clone(was)
	one[17] = 0.7
	base := fileOf(t, weights("w", 100, 300, was))
	whole, err := Pack(base, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		now   []float32
		form  string
		share float64 // of the bytes without a base, at most
	}{
		{"nothing changed", was, "unchanged", 0.06},
		{"one value changed", one, "difference", 0.07},
		{"some indexes changed", indexes, "changed indexes", 0.25},
		{"all values changed", values, "changed indexes", 0.12},
	} {
		packed, parts, err := PackParts(fileOf(t, weights("w", 100, 300, c.now)), base)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes of %d, %s", c.name, len(packed), len(whole), parts[0].Form)
		if parts[0].Form != c.form || float64(len(packed)) > c.share*float64(len(whole)) {
			t.Errorf("%s: %d bytes of %d, %s", c.name, len(packed), len(whole), parts[0].Form)
		}
	}
}

// A model whose tables alone changed costs what was added to them, also where
// they became longer.
func TestLabelsAdded(t *testing.T) {
	base, err := os.ReadFile(testkit.Shared(t, "models/vww_96_int8.tflite"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetLabels([]string{"nobody", "somebody"}); err != nil {
		t.Fatal(err)
	}
	now, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	packed, parts, err := PackParts(now, base)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Unpack(packed, func([32]byte) ([]byte, error) { return base, nil })
	if err != nil || !bytes.Equal(out, now) {
		t.Fatalf("%d bytes came back as %d: %v", len(now), len(out), err)
	}
	tables := parts[len(parts)-1]
	t.Logf("%d bytes of %d, tables %d of %d, %s", len(packed), len(now), tables.Packed, tables.Bytes, tables.Form)
	if len(packed) > len(now)/20 {
		t.Errorf("%d bytes of %d for a few labels", len(packed), len(now))
	}
}

// Weights that were pruned but share no values are told by where they stand and
// what they are: 3 bytes for each that is left, and little for the zeros.
func TestPrunedAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	const n, left = 200 * 500, 0.05
	_, parts, err := PackParts(fileOf(t, weights("w", 200, 500, sparse(r, dense(r, n), left))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if most := int(n * (left*3.8 + 0.3/8)); parts[0].Form != "scattered" || parts[0].Packed > most {
		t.Errorf("%+v, more than %d bytes", parts[0], most)
	}
}

func TestPublicModels(t *testing.T) {
	for _, name := range []string{"pretrainedResnet_quant", "kws_ref_model", "kws_ref_model_float32", "hello_world_float", "micro_speech_quantized", "trained_lstm_int8", "audio_preprocessor_int8"} {
		file, err := os.ReadFile(testkit.Shared(t, "models/"+name+".tflite"))
		if err != nil {
			t.Fatal(err)
		}
		packed, err := Pack(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := Unpack(packed, nil); err != nil || !bytes.Equal(out, file) {
			t.Errorf("%s does not come back: %v", name, err)
		}
		t.Logf("%s: %d bytes of %d", name, len(packed), len(file))
	}
}

// What has next to nothing in it is packed so long that it may be unpacked.
func TestEmptyWeights(t *testing.T) {
	file := fileOf(t, constant{"w", model.Int8, []int{8 << 20}, make([]byte, 8<<20)})
	packed, err := Pack(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Unpack(packed, nil)
	if err != nil || !bytes.Equal(out, file) {
		t.Fatalf("%d bytes do not come back: %v", len(packed), err)
	}
	if len(packed) > 33<<10 {
		t.Errorf("8 MB of zeros took %d bytes", len(packed))
	}
}

func TestRefused(t *testing.T) {
	file := fileOf(t, weights("w", 4, 4, dense(rand.New(rand.NewPCG(1, 1)), 16)))
	for _, c := range []struct {
		name         string
		tflite, base []byte
		words        string
	}{
		{"text", []byte("no model at all"), nil, "TFL3"},
		{"cut", file[:len(file)/2], nil, "not a valid .tflite"},
		{"a base that is none", file, []byte("no model at all"), "the base: "},
	} {
		if _, err := Pack(c.tflite, c.base); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	packed, err := Pack(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(packed, nil); !errors.Is(err, model.ErrFormat) {
		t.Errorf("a packed model is packed again: %v", err)
	}
	if !Is(packed) || Is(file) || Is(nil) {
		t.Error("Is is wrong")
	}
}

// Ten megabytes of weights of each kind, one thread.
func BenchmarkTenMegabytes(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	const n = 2_500_000
	kinds := map[string]constant{
		"dense":           weights("w", 1000, n/1000, dense(r, n)),
		"pruned":          weights("w", 1000, n/1000, sparse(r, dense(r, n), 0.1)),
		"pruned, shared":  weights("w", 1000, n/1000, shared(sparse(r, dense(r, n), 0.1), 32)),
		"int8":            {"w", model.Int8, []int{4000, n / 1000}, bytesOf(r, 4*n)},
		"shared, 6 bits":  weights("w", 1000, n/1000, shared(dense(r, n), 64)),
		"pruned and int8": {"w", model.Int8, []int{4000, n / 1000}, bytesOf(r, 4*n)},
	}
	few := kinds["pruned and int8"].data
	for i := range few {
		if i%8 != 0 {
			few[i] = 0
		}
	}
	for name, c := range kinds {
		file := fileOf(b, c)
		packed, err := Pack(file, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("pack "+name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportMetric(float64(len(packed)), "bytes")
			for b.Loop() {
				if _, err := Pack(file, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("unpack "+name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				if _, err := Unpack(packed, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The coder gives back what it was given, whatever the chances.
func TestCoder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type step struct {
			p uint32
			b int
		}
		steps := rapid.SliceOf(rapid.Custom(func(t *rapid.T) step {
			p := rapid.SampledFrom([]uint32{1, 2, 100, 1 << 15, 65000, 65534, 65535}).Draw(t, "chance")
			return step{p, rapid.IntRange(0, 1).Draw(t, "bit")}
		})).Draw(t, "steps")
		numbers := rapid.SliceOf(rapid.Uint32()).Draw(t, "numbers")
		w, l := newWriter(), newLengths()
		for _, s := range steps {
			w.bit(s.p, s.b)
		}
		for _, n := range numbers {
			l.code(w, n)
		}
		r := newReader(w.finish())
		for i, s := range steps {
			if got := r.bit(s.p, 0); got != s.b {
				t.Fatalf("bit %d of %d is %d", i, len(steps), got)
			}
		}
		l = newLengths()
		for i, n := range numbers {
			if got := l.code(r, 0); got != n {
				t.Fatalf("number %d (%d bits) is %d, not %d", i, bits.Len32(n), got, n)
			}
		}
		if r.cut() {
			t.Fatal("the reader wants more than was written")
		}
	})
}

// Values whose last 16 bits are 0 cost two bytes less each.
func TestRoundValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	size := func(v []float32) int {
		l, ok := list(model.FloatBytes(v), 4)
		w := newWriter()
		if !ok || codeList(w, 4, l, nil) != nil {
			t.Fatal("no list")
		}
		data := w.finish()
		back := &listed{}
		if err := codeList(newReader(data), 4, back, nil); err != nil || !slices.Equal(back.keys, l.keys) {
			t.Fatalf("%x came back as %x: %v", l.keys, back.keys, err)
		}
		return len(data)
	}
	v := dense(r, 64)
	whole := size(v)
	for i := range v {
		v[i] = math.Float32frombits(math.Float32bits(v[i]) >> 16 << 16)
	}
	if short := size(v); short > whole-2*64+2 {
		t.Errorf("64 values take %d bytes, rounded %d", whole, short)
	}
}
