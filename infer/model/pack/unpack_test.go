package pack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"edgegateway/infer/model"
)

// small is a model with a constant of each form, and an older version of it.
func small(t interface{ Fatal(...any) }) (file, base []byte) {
	r := rand.New(rand.NewPCG(7, 8))
	text := []byte(strings.Repeat("one, two, three, ", 20))
	now := shared(sparse(r, dense(r, 200), 0.3), 16)
	list := func(w []float32, first float32) []constant {
		return []constant{
			weights("shared", 10, 20, w),
			weights("dense", 8, 30, append([]float32{first}, dense(rand.New(rand.NewPCG(9, 9)), 239)...)),
			weights("pruned", 12, 20, sparse(rand.New(rand.NewPCG(9, 7)), dense(rand.New(rand.NewPCG(9, 7)), 240), 0.1)),
			{"text", model.Uint8, []int{len(text)}, text},
			{"int8", model.Int8, []int{50}, bytesOf(rand.New(rand.NewPCG(9, 8)), 50)},
		}
	}
	was := slices.Clone(now)
	was[3] += 0.3 / 16
	return fileOf(t, list(now, 1)...), fileOf(t, list(was, 2)...)
}

// Cut anywhere and with any bit turned over, it is an error.
func TestDamaged(t *testing.T) {
	file, base := small(t)
	find := func([32]byte) ([]byte, error) { return base, nil }
	for _, base := range [][]byte{nil, base} {
		packed, err := Pack(file, base)
		if err != nil {
			t.Fatal(err)
		}
		fails := func(what string, at int, d []byte) {
			if out, err := Unpack(d, find); !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNoBase) {
				t.Fatalf("%s %d of %d: %d bytes, %v", what, at, len(packed), len(out), err)
			}
		}
		for n := range packed {
			fails("cut at", n, packed[:n])
		}
		fails("one byte more than", len(packed), append(slices.Clone(packed), 0))
		d := slices.Clone(packed)
		for i := range d {
			for bit := range 8 {
				d[i] ^= 1 << bit
				fails("turned over a bit of", i, d)
				d[i] ^= 1 << bit
			}
		}
		// With a check sum that fits, what is left is the SHA-256.
		for i := contentAt; i < len(d); i++ {
			d[i] ^= 1 << (i % 8)
			stamp(d)
			if out, err := Unpack(d, find); err == nil && !bytes.Equal(out, file) {
				t.Fatalf("byte %d damaged gives another model", i)
			}
			d[i] ^= 1 << (i % 8)
		}
	}
}

// What claims to be huge is refused before memory is taken for it.
func TestBombs(t *testing.T) {
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zeros := zip.EncodeAll(make([]byte, 64<<20), nil)
	claim := func(size uint64, body ...byte) []byte {
		p := slices.Concat([]byte(magic), make([]byte, 4+32+1), varint(size), []byte{0}, body)
		stamp(p)
		return p
	}
	for name, p := range map[string][]byte{
		"a file of 2 GB":             claim(1<<31-1, 0, 0, 0, 0, 0, 0),
		"a file of 2^63 bytes":       claim(1<<63, 0, 0, 0, 0, 0, 0),
		"a million constants":        claim(1<<18, slices.Concat(varint(1e6), varint(1e6), []byte{0, 0})...),
		"tables of zeros in zstd":    claim(1<<18, slices.Concat([]byte{0, 0, 0, 0, byte(zipped)}, varint(uint64(len(zeros))), zeros)...),
		"tables out of nothing":      claim(1<<18, 0, 0, 0, 0, byte(symbols), 1, 0),
		"tables as they were before": claim(1<<18, 0, 0, 0, 0, byte(same), 0),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Unpack(p, nil)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
			t.Errorf("%s took %d bytes of memory", name, n)
		}
	}
}

func varint(v uint64) (out []byte) {
	for ; v > 127; v >>= 7 {
		out = append(out, byte(v)|128)
	}
	return append(out, byte(v))
}

func TestBaseMissing(t *testing.T) {
	file, base := small(t)
	packed, err := Pack(file, base)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ReadHeader(packed)
	if err != nil || h.Base == nil || h.Size != len(file) {
		t.Fatalf("%+v, %v", h, err)
	}
	other := errors.New("the folder cannot be read")
	for _, c := range []struct {
		find func([32]byte) ([]byte, error)
		is   error
	}{
		{nil, ErrNoBase},
		{func([32]byte) ([]byte, error) { return file, nil }, ErrNoBase},
		{func([32]byte) ([]byte, error) { return nil, other }, other},
	} {
		if _, err := Unpack(packed, c.find); !errors.Is(err, c.is) {
			t.Errorf("%v, not %v", err, c.is)
		}
	}
}

// A model file is read, packed or not, and what it builds on is found beside
// it, by its hash; a row of versions too.
func TestReadFile(t *testing.T) {
	third, second := small(t)
	first := fileOf(t, weights("shared", 1, 4, []float32{1, 2, 3, 4}))
	dir := t.TempDir()
	put := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pack := func(file, base []byte) []byte {
		p, err := Pack(file, base)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	put("aaa.tflite", []byte("something else"))
	put("bbb.pack", []byte("something else"))
	if err := os.Mkdir(filepath.Join(dir, "folder.tflite"), 0o700); err != nil {
		t.Fatal(err)
	}
	two, three := put("two.pack", pack(second, first)), put("three.pack", pack(third, second))
	for _, path := range []string{two, three} {
		if _, err := ReadFile(path); !errors.Is(err, ErrNoBase) || !strings.Contains(err.Error(), "SHA-256") || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s without its base: %v", path, err)
		}
	}
	one := put("any name.tflite", first)
	for path, want := range map[string][]byte{one: first, two: second, three: third} {
		if got, err := ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	put("two.pack", []byte(magic+"damaged, and as long as a header has to be to be read"))
	if _, err := ReadFile(three); !errors.Is(err, ErrNoBase) {
		t.Errorf("with a damaged base: %v", err)
	}
	if _, err := ReadFile(filepath.Join(dir, "none.tflite")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Whatever the bytes, Unpack answers with an error or with a file of a size
// that it may have.
func FuzzUnpack(f *testing.F) {
	file, base := small(f)
	for _, b := range [][]byte{nil, base} {
		packed, err := Pack(file, b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	empty, err := Pack(fileOf(f), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	find := func([32]byte) ([]byte, error) { return base, nil }
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<11 {
			return // longer ones only take longer
		}
		if len(data) >= contentAt {
			data = slices.Clone(data)
			copy(data, magic)
			stamp(data)
		}
		h, err := ReadHeader(data)
		if err != nil {
			return
		}
		// Whatever hash is claimed, what comes out would be looked at.
		if h.Size <= floor+ratio*len(data) {
			var old []byte
			if h.Base != nil {
				old = base
			}
			if out, err := unpack(h, old); err == nil && len(out) != h.Size {
				t.Fatalf("%d bytes came out, not %d", len(out), h.Size)
			}
		}
		_, _ = Unpack(data, find)
	})
}
