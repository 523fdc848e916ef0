package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"edgegateway/internal/spool"
	"edgegateway/internal/spool/spooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string, opt spool.Options) *spool.Log {
	t.Helper()
	l, err := spool.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func appendAll(t testing.TB, l *spool.Log, recs ...string) {
	t.Helper()
	for _, r := range recs {
		if err := l.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t testing.TB, l *spool.Log) (got []string) {
	t.Helper()
	r := l.Reader()
	defer r.Close()
	for {
		recs, err := r.Try(7)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) == 0 {
			return got
		}
		for _, rec := range recs {
			got = append(got, string(rec.Data))
		}
	}
}

func numbered(from, to int) (recs []string) {
	for i := from; i <= to; i++ {
		recs = append(recs, fmt.Sprintf("%04d%s", i, strings.Repeat(".", 96)))
	}
	return recs
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// On a real file system: restarts in the same process, order, whole segments
// leaving as they are acknowledged.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	opt := spool.Options{MaxBytes: 1 << 20, SegmentBytes: 2000}
	l := open(t, dir, opt)
	appendAll(t, l, numbered(1, 100)...)
	r := l.Reader()
	defer r.Close()
	recs, err := r.Next(t.Context(), 50)
	if err != nil {
		t.Fatal(err)
	}
	before := len(segments(t, dir))
	if _, err := l.Ack(recs[len(recs)-1].Seq); err != nil {
		t.Fatal(err)
	}
	done := len(recs)
	if after := len(segments(t, dir)); after >= before {
		t.Errorf("%d segments before the acknowledgement, %d after", before, after)
	}
	for range 3 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir, opt)
		if got := readAll(t, l); !slices.Equal(got, numbered(done+1, 100)) {
			t.Fatalf("after a restart: %d records: %.40q", len(got), got)
		}
		if n, _ := l.Len(); n != 100-done {
			t.Fatalf("Len is %d, want %d", n, 100-done)
		}
	}
	if err := l.Append(); err != nil {
		t.Errorf("appending nothing: %v", err)
	}
	if err := l.Append(make([]byte, 1<<19)); !errors.Is(err, spool.ErrTooLarge) {
		t.Errorf("a record of half the log: %v", err)
	}
	l.Close()
	if err := l.Append([]byte("x")); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Appends from many goroutines share syncs, and each keeps its own order.
func TestGroupedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &spooltest.FS{}
		l := open(t, "/q", spool.Options{FS: fs, MaxBytes: 64 << 20})
		const producers, each = 64, 50
		gate := make(chan struct{})
		fs.Fail = func(op, _ string) error {
			if op == "sync" {
				<-gate
			}
			return nil
		}
		var wg sync.WaitGroup
		for p := range producers {
			wg.Go(func() {
				for i := range each {
					if err := l.Append(fmt.Appendf(nil, "%02d %04d", p, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		synctest.Wait() // one is at its first sync, the others stand in line
		close(gate)
		wg.Wait()
		if n := fs.Syncs(); n > producers*each-producers+2 {
			t.Errorf("%d syncs for %d appends: they are not shared", n, producers*each)
		}
		next := make([]int, producers)
		for _, s := range readAll(t, l) {
			var p, i int
			if _, err := fmt.Sscanf(s, "%d %d", &p, &i); err != nil || i != next[p] {
				t.Fatalf("%q, want number %d of its producer", s, next[p])
			}
			next[p]++
		}
		for p, n := range next {
			if n != each {
				t.Errorf("producer %d: %d records", p, n)
			}
		}
		l.Close()
	})
}

// Damage in the middle costs what it hit and no more, is counted and told once.
func TestDamage(t *testing.T) {
	const recSize = 100 + 12
	tests := []struct {
		name   string
		damage func(t *testing.T, segs []string)
		lost   []int
		tail   bool // cut at Open: told without a count
	}{
		{name: "a bit of data", damage: flip(0, 32+3*recSize+50), lost: []int{4}},
		{name: "a length", damage: flip(0, 32+3*recSize+6), lost: []int{4}},
		{name: "an index", damage: flip(0, 32+3*recSize+8), lost: []int{4}},
		{name: "two neighbours", damage: flip(0, 32+4*recSize-1, 32+4*recSize+1), lost: []int{4, 5}},
		{name: "two apart", damage: flip(0, 32+2*recSize+20, 32+6*recSize+20), lost: []int{3, 7}},
		{name: "the header", damage: flip(0, 3), lost: nil},
		{name: "the last of a segment", damage: flip(0, 32+9*recSize+50), lost: []int{10}},
		{name: "a sealed segment cut short", damage: cut(1, 32+7*recSize+5), lost: []int{18, 19, 20}},
		{name: "a segment gone", damage: func(t *testing.T, segs []string) { os.Remove(segs[1]) }, lost: []int{11, 12, 13, 14, 15, 16, 17, 18, 19, 20}},
		{name: "the middle of the newest", damage: flip(2, 32+3*recSize+50), lost: []int{24}},
		{name: "a torn tail", damage: cut(2, 32+9*recSize+60), lost: []int{30}, tail: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			opt := spool.Options{MaxBytes: 1 << 20, SegmentBytes: 32 + 10*recSize}
			l := open(t, dir, opt)
			appendAll(t, l, numbered(1, 30)...)
			l.Close()
			segs := segments(t, dir)
			if len(segs) != 3 {
				t.Fatalf("%d segments, want 3", len(segs))
			}
			tt.damage(t, segs)
			var told []spool.Damage
			opt.OnDamage = func(d spool.Damage) { told = append(told, d) }
			l = open(t, dir, opt)
			want := slices.DeleteFunc(numbered(1, 30), func(s string) bool {
				return slices.ContainsFunc(tt.lost, func(n int) bool { return strings.HasPrefix(s, fmt.Sprintf("%04d", n)) })
			})
			for range 2 {
				if got := readAll(t, l); !slices.Equal(got, want) {
					t.Errorf("got %d records, want %d: %.5q", len(got), len(want), got)
				}
			}
			var lost uint64
			for _, d := range told {
				lost += d.Records
			}
			if tt.tail {
				if len(told) != 1 || lost != 0 {
					t.Errorf("told %+v", told)
				}
			} else if lost != uint64(len(tt.lost)) {
				t.Errorf("told %d lost, want %d: %+v", lost, len(tt.lost), told)
			}
			appendAll(t, l, "after")
			if got := readAll(t, l); got[len(got)-1] != "after" {
				t.Errorf("what is appended after the damage is not there")
			}
		})
	}
}

func flip(seg int, offsets ...int) func(*testing.T, []string) {
	return func(t *testing.T, segs []string) {
		b, err := os.ReadFile(segs[seg])
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range offsets {
			b[off] ^= 0x55
		}
		if err := os.WriteFile(segs[seg], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func cut(seg int, size int64) func(*testing.T, []string) {
	return func(t *testing.T, segs []string) {
		if err := os.Truncate(segs[seg], size); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk and a failing one refuse appends, lose nothing of what was
// there, and work again afterwards.
func TestDiskTrouble(t *testing.T) {
	fail := func(ops ...string) func(*spooltest.FS) {
		return func(fs *spooltest.FS) {
			fs.Fail = func(op, _ string) error {
				if slices.Contains(ops, op) {
					return syscall.EIO
				}
				return nil
			}
		}
	}
	for name, trouble := range map[string]func(*spooltest.FS){
		"no space":               func(fs *spooltest.FS) { fs.Space = 1 },
		"write":                  fail("write"),
		"sync":                   fail("sync"),
		"folder sync and create": fail("syncdir", "create"),
		"everything":             fail("create", "write", "sync", "truncate", "remove", "syncdir"),
	} {
		t.Run(name, func(t *testing.T) {
			fs := &spooltest.FS{}
			opt := spool.Options{MaxBytes: 1 << 20, SegmentBytes: 1000, FS: fs}
			l := open(t, "/q", opt)
			var want []string
			for i := range 5 {
				good := numbered(10*i, 10*i+3)
				appendAll(t, l, good...)
				want = append(want, good...)
				trouble(fs)
				failed := 0
				for range 12 { // long enough to need a new segment
					if err := l.Append([]byte(strings.Repeat("bad", 40))); err != nil {
						failed++
					}
				}
				if failed == 0 {
					t.Error("no append failed")
				}
				fs.Fail, fs.Space = nil, 0
			}
			isGood := func(s string) bool { return !strings.HasPrefix(s, "bad") }
			if got := keep(readAll(t, l), isGood); !slices.Equal(got, want) {
				t.Errorf("in the same process: %.5q", got)
			}
			after := fs.Kill(nil)
			opt.FS = after
			if got := keep(readAll(t, open(t, "/q", opt)), isGood); !slices.Equal(got, want) {
				t.Errorf("after a power cut: %.5q", got)
			}
		})
	}
}

func keep(s []string, f func(string) bool) []string {
	return slices.DeleteFunc(s, func(x string) bool { return !f(x) })
}

// A segment that cannot be read is given up after some tries, and told.
func TestUnreadable(t *testing.T) {
	fs := &spooltest.FS{}
	var told []spool.Damage
	l := open(t, "/q", spool.Options{MaxBytes: 1 << 20, SegmentBytes: 32 + 10*112, FS: fs, OnDamage: func(d spool.Damage) { told = append(told, d) }})
	appendAll(t, l, numbered(1, 25)...)
	first := ""
	fs.Fail = func(op, name string) error {
		if op == "read" {
			if first == "" {
				first = name
			}
			if name == first {
				return syscall.EIO
			}
		}
		return nil
	}
	r := l.Reader()
	defer r.Close()
	failed := 0
	for {
		recs, err := r.Try(5)
		if err != nil {
			failed++
			continue
		}
		if string(recs[0].Data[:4]) != "0011" {
			t.Errorf("read %.4s after the unreadable segment", recs[0].Data)
		}
		break
	}
	if failed == 0 || len(told) != 1 || told[0].Records != 10 || !errors.Is(told[0].Err, syscall.EIO) {
		t.Errorf("%d errors, told %+v", failed, told)
	}
}

// At the bound the oldest whole segment goes, each of its records is told,
// and readers go on behind it.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	var dropped []string
	opt := spool.Options{MaxBytes: 5000, SegmentBytes: 1250, OnDrop: func(reason string, _ uint64, data []byte) {
		if reason != spool.DropFull {
			t.Errorf("reason %q", reason)
		}
		dropped = append(dropped, string(data))
	}}
	l := open(t, dir, opt)
	r := l.Reader()
	defer r.Close()
	appendAll(t, l, numbered(1, 5)...)
	recs, err := r.Try(3)
	if err != nil || len(recs) != 3 {
		t.Fatal(len(recs), err)
	}
	if _, err := l.Ack(recs[1].Seq); err != nil { // 1 and 2 are done with
		t.Fatal(err)
	}
	appendAll(t, l, numbered(6, 200)...)
	if _, bytes := l.Len(); bytes > 5000 {
		t.Errorf("%d bytes", bytes)
	}
	got := readAll(t, l)
	if all := append(slices.Clone(dropped), got...); !slices.Equal(all, numbered(3, 200)) {
		t.Errorf("%d dropped and %d left are not all", len(dropped), len(got))
	}
	recs, err = r.Try(1)
	if err != nil || len(recs) != 1 || string(recs[0].Data) != got[0] {
		t.Errorf("the reader went on with %.4s, want %.4s (%v)", recs[0].Data, got[0], err)
	}
	if n, _ := l.Len(); n != len(got) {
		t.Errorf("Len %d, %d there", n, len(got))
	}
}

// Records over the bound in age go, also when nothing is appended any more.
func TestAge(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// The bubble begins in 2000, when no clock of ours was set yet.
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
		var dropped atomic.Int64
		l := open(t, dir, spool.Options{MaxAge: 8 * time.Hour, FS: &spooltest.FS{}, OnDrop: func(reason string, _ uint64, _ []byte) {
			if reason != spool.DropAge {
				t.Errorf("reason %q", reason)
			}
			dropped.Add(1)
		}})
		for i := range 10 {
			appendAll(t, l, numbered(i, i)...)
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		// The sealed segment of record i holds it alone: 0 and 1 are over 8 h.
		if n := dropped.Load(); n == 0 || n > 2 {
			t.Errorf("%d dropped after ten hours", n)
		}
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if n, _ := l.Len(); n != 0 || dropped.Load() != 10 {
			t.Errorf("%d left, %d dropped", n, dropped.Load())
		}
		appendAll(t, l, "new")
		if got := readAll(t, l); !slices.Equal(got, []string{"new"}) {
			t.Errorf("%q", got)
		}
		l.Close()
	})
}

// A clock that starts in 1970 and is then set makes nothing old.
func TestAgeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2024, 12, 31, 0, 0, 0, 0, time.UTC)))
		l := open(t, "/q", spool.Options{MaxAge: time.Hour, FS: &spooltest.FS{}})
		appendAll(t, l, "early")
		time.Sleep(3 * 24 * time.Hour)
		appendAll(t, l, "late")
		if got := readAll(t, l); !slices.Equal(got, []string{"early", "late"}) {
			t.Errorf("%q", got)
		}
		l.Close()
	})
}

func TestNextWaits(t *testing.T) {
	l := open(t, t.TempDir(), spool.Options{})
	got := make(chan string)
	go func() {
		r := l.Reader()
		defer r.Close()
		for {
			recs, err := r.Next(context.Background(), 10)
			if err != nil {
				if !errors.Is(err, spool.ErrClosed) {
					t.Error(err)
				}
				close(got)
				return
			}
			for _, rec := range recs {
				got <- string(rec.Data)
			}
		}
	}()
	for i := range 5 {
		want := fmt.Sprint(i)
		appendAll(t, l, want)
		if s := <-got; s != want {
			t.Errorf("got %s, want %s", s, want)
		}
	}
	l.Close()
	if _, open := <-got; open {
		t.Error("something after Close")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, t.TempDir(), spool.Options{}).Reader().Next(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 16, 64, 512} {
		b.Run(fmt.Sprint("batch", size), func(b *testing.B) {
			l := open(b, b.TempDir(), spool.Options{MaxBytes: 256 << 20, SegmentBytes: 8 << 20})
			recs := make([][]byte, size)
			for i := range recs {
				recs[i] = bytes.Repeat([]byte{byte(i)}, 256)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := l.Append(recs...); err != nil {
					b.Fatal(err)
				}
				n += size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
	b.Run("64 goroutines of 1", func(b *testing.B) {
		l := open(b, b.TempDir(), spool.Options{MaxBytes: 256 << 20, SegmentBytes: 8 << 20})
		rec := make([]byte, 256)
		b.SetParallelism(32)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := l.Append(rec); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

func BenchmarkRead(b *testing.B) {
	l := open(b, b.TempDir(), spool.Options{MaxBytes: 256 << 20})
	recs := make([][]byte, 500)
	for i := range recs {
		recs[i] = make([]byte, 256)
	}
	for range 200 {
		if err := l.Append(recs...); err != nil {
			b.Fatal(err)
		}
	}
	r := l.Reader()
	defer r.Close()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Rewind()
		for {
			recs, err := r.Try(128)
			if err != nil {
				b.Fatal(err)
			}
			if len(recs) == 0 {
				break
			}
			n += len(recs)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
