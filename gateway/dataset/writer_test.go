package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var plenty = limits{1 << 20, 1 << 30}

// What is written is read, in order, over restarts.
func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	var want []Sample
	for i := range 10 {
		write(t, dir, pair, plenty, values(i))
		want = append(want, values(i))
	}
	got, damaged := all(t, dir)
	if diff := cmp.Diff(want, got); diff != "" || damaged != 0 {
		t.Errorf("%d damaged (-want +got)\n%s", damaged, diff)
	}
	if list, _ := logs(dir); len(list) != 1 {
		t.Errorf("logs %v", list)
	}
	write(t, dir, Header{Features: []string{"z"}}, plenty, Sample{Values: []float64{1}})
	if list, _ := logs(dir); len(list) != 2 {
		t.Errorf("other features in the same log: %v", list)
	}
}

// A log cut at each of its bytes shows the samples that are whole, before and
// after it is written on.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, pair, plenty, values(0), values(1), values(2))
	whole, err := os.ReadFile(newest(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, logName(1)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		lines := max(0, bytes.Count(whole[:cut], []byte("\n"))-1)
		var want []Sample
		for i := range lines {
			want = append(want, values(i))
		}
		got, damaged := all(t, torn)
		if diff := cmp.Diff(want, got); diff != "" || damaged != 0 {
			t.Fatalf("cut at %d: %d damaged (-want +got)\n%s", cut, damaged, diff)
		}
		write(t, torn, pair, plenty, values(9))
		got, damaged = all(t, torn)
		if diff := cmp.Diff(append(want, values(9)), got); diff != "" || damaged != 0 {
			t.Fatalf("cut at %d and written on: %d damaged (-want +got)\n%s", cut, damaged, diff)
		}
	}
	// A bit that fell over in the middle costs its own sample alone.
	bad := bytes.Clone(whole)
	bad[bytes.Index(bad, []byte(`"id":"1"`))+6] ^= 1
	if err := os.WriteFile(newest(t, dir), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	got, damaged := all(t, dir)
	if len(got) != 2 || got[1].ID != "2" || damaged != 1 {
		t.Errorf("after a bit fell over: %v, %d damaged", got, damaged)
	}
}

// A set never holds more than its bounds, whatever their size; the oldest
// leave first, and those that left are counted.
func TestBounds(t *testing.T) {
	photo := jpegOf(t, 64, 64, color.White)
	picture := func(i int) Sample { s := values(i); s.Values, s.Picture = nil, photo; return s }
	for _, tt := range []struct {
		h      Header
		make   func(int) Sample
		most   limits
		n, low int // appended, kept at least
	}{
		{pair, values, limits{1, 1 << 30}, 20, 1},
		{pair, values, limits{5, 1 << 30}, 20, 4},
		{pair, values, limits{160, 1 << 30}, 500, 150},
		{pair, values, limits{1 << 20, 8000}, 500, 40},
		{Header{Pictures: true}, picture, limits{20, 1 << 30}, 50, 19},
		{Header{Pictures: true}, picture, limits{1 << 20, 40 * int64(len(photo))}, 100, 20},
	} {
		dir := t.TempDir()
		w, err := openWriter(dir)
		if err != nil {
			t.Fatal(err)
		}
		evicted := 0
		for i := range tt.n {
			s := tt.make(i)
			n, err := w.append(tt.h, tt.most, &s)
			if evicted += n; err != nil {
				t.Fatal(err)
			}
			if w.samples > tt.most.samples || onDisk(t, dir) > tt.most.bytes || w.bytes != onDisk(t, dir) || w.samples+evicted != i+1 {
				t.Fatalf("%v: %d samples, %d bytes by count, %d on the disk, %d evicted of %d", tt.most, w.samples, w.bytes, onDisk(t, dir), evicted, i+1)
			}
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		got, damaged := all(t, dir)
		if len(got) != w.samples || len(got) < tt.low || damaged != 0 || got[len(got)-1].ID != fmt.Sprint(tt.n-1) || got[0].ID != fmt.Sprint(tt.n-len(got)) {
			t.Errorf("%v: %d kept (%d damaged), from %s", tt.most, len(got), damaged, got[0].ID)
		}
		again, err := openWriter(dir)
		if err != nil || again.samples != w.samples || again.bytes != w.bytes {
			t.Errorf("%v: taken stock of: %d %d, was %d %d, %v", tt.most, again.samples, again.bytes, w.samples, w.bytes, err)
		}
	}
	w, err := openWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := picture(0)
	if _, err := w.append(Header{Pictures: true}, limits{10, 500}, &s); !errors.Is(err, errTooLarge) {
		t.Errorf("a sample over the bound: %v", err)
	}
}

// Pictures are as they came. One that a power cut tore is left out, one that
// no line names is swept away.
func TestPictures(t *testing.T) {
	dir := t.TempDir()
	h := Header{Pictures: true}
	var want []Sample
	for i, c := range []color.Color{color.White, color.Black, color.Gray{128}} {
		want = append(want, Sample{Time: noon, Source: "porch", ID: fmt.Sprint(i), Label: "a/b", Picture: jpegOf(t, 20, 10, c)})
	}
	write(t, dir, h, plenty, want...)
	got, damaged := all(t, dir)
	if diff := cmp.Diff(want, got); diff != "" || damaged != 0 {
		t.Fatalf("%d damaged (-want +got)\n%s", damaged, diff)
	}
	folder := pictures(dir, 1)
	for _, name := range []string{"00000004.jpg.part", "00000004.jpg"} {
		if err := os.WriteFile(filepath.Join(folder, name), want[0].Picture[:50], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, h, plenty, want[0])
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 4 {
		t.Errorf("after a crash: %v, %v", entries, err)
	}
	if err := os.Truncate(filepath.Join(folder, "00000002.jpg"), 100); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folder, "00000003.jpg")); err != nil {
		t.Fatal(err)
	}
	if got, damaged = all(t, dir); len(got) != 2 || damaged != 2 {
		t.Errorf("%d samples, %d damaged", len(got), damaged)
	}
}

// Names of sets and classes become names of files that lead nowhere else.
func TestNames(t *testing.T) {
	for _, name := range []string{"press", "..", ".", "a/../../b", "ö ä", "%2E"} {
		dir := Dir("data", name)
		if filepath.Dir(dir) != filepath.Join("data", "datasets") || nameOf(dir) != name {
			t.Errorf("%q: %s, back %q", name, dir, nameOf(dir))
		}
	}
	for _, class := range []string{"..", "a/b", "", "\x00\n"} {
		if s := safeName(class); s == "" || strings.ContainsAny(s, "/\x00\n") || strings.HasPrefix(s, ".") {
			t.Errorf("class %q: %q", class, s)
		}
	}
}

// Whatever a folder holds, it is read without a crash, and samples that come
// out went in whole.
func FuzzLog(f *testing.F) {
	dir := f.TempDir()
	write(f, dir, pair, plenty, values(0), values(1))
	b, err := os.ReadFile(newest(f, dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, logName(1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		before, _ := all(t, dir)
		write(t, dir, pair, plenty, values(7))
		if after, _ := all(t, dir); len(after) != len(before)+1 {
			t.Fatalf("%d samples, then %d", len(before), len(after))
		}
	})
}
