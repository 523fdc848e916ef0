package spool_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"edgegateway/internal/spool"
	"edgegateway/internal/spool/spooltest"
)

const recSize = 100 + 12 // of numbered records on disk

// The folders of a new log are as durable as its records: a power cut right
// after the first Append finds all of them.
func TestNewFolders(t *testing.T) {
	fs := &spooltest.FS{}
	l := open(t, "/data/outbox/cloud/results", spool.Options{FS: fs})
	appendAll(t, l, "first")
	after := fs.Kill(nil)
	if got := readAll(t, open(t, "/data/outbox/cloud/results", spool.Options{FS: after})); !slices.Equal(got, []string{"first"}) {
		t.Errorf("after a power cut: %q", got)
	}
}

// After a failed sync the file is left alone: a second sync of it would say
// that all is well. What is appended next goes elsewhere and is kept.
func TestFailedSyncIsNotRetried(t *testing.T) {
	fs := &spooltest.FS{}
	l := open(t, "/q", spool.Options{FS: fs})
	appendAll(t, l, "before")
	var mu sync.Mutex
	failed, again := "", []string{}
	fs.Fail = func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op == "sync" && failed == "":
			failed = name
			return syscall.EIO
		case name == failed && (op == "sync" || op == "write"):
			again = append(again, op)
		}
		return nil
	}
	if err := l.Append([]byte("lost")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("over a sync that failed: %v", err)
	}
	appendAll(t, l, "after")
	if len(again) > 0 {
		t.Errorf("%s was used again: %v", failed, again)
	}
	want := []string{"before", "after"}
	if got := readAll(t, l); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for seed := range uint64(20) {
		after := fs.Kill(rand.New(rand.NewPCG(seed, 0)))
		if got := readAll(t, open(t, "/q", spool.Options{FS: after})); !slices.Equal(got, want) {
			t.Errorf("after a power cut: %q", got)
		}
	}
}

// A disk that turned read-only takes nothing, still gives what it holds, and
// says so when a log is opened on it that needs a repair.
func TestReadOnly(t *testing.T) {
	fs := &spooltest.FS{}
	opt := spool.Options{MaxBytes: 1 << 20, SegmentBytes: 1000, FS: fs}
	l := open(t, "/q", opt)
	appendAll(t, l, numbered(1, 20)...)
	readOnly := func(op, _ string) error {
		if slices.Contains([]string{"create", "mkdir", "write", "truncate", "remove", "sync"}, op) {
			return syscall.EROFS
		}
		return nil
	}
	fs.Fail = readOnly
	if err := l.Append([]byte("no")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("append: %v", err)
	}
	if got := readAll(t, l); !slices.Equal(got, numbered(1, 20)) {
		t.Errorf("%d records", len(got))
	}
	if _, err := l.Ack(5); !errors.Is(err, syscall.EROFS) {
		t.Errorf("ack: %v", err)
	}
	if got := readAll(t, l); !slices.Equal(got, numbered(6, 20)) {
		t.Errorf("after the acknowledgement %d records", len(got))
	}
	l.Close()
	if _, err := spool.Open("/q", opt); !errors.Is(err, syscall.EROFS) {
		t.Errorf("open: %v", err)
	}
	fs.Fail = nil
	// The position could not be kept: what was acknowledged comes again.
	if got := readAll(t, open(t, "/q", opt)); !slices.Equal(got, numbered(1, 20)) {
		t.Errorf("writable again: %d records", len(got))
	}
}

// A segment that cannot be read when the log is opened does not keep it from
// opening: it is read when the medium does, else its records are told.
func TestUnreadableAtOpen(t *testing.T) {
	for _, op := range []string{"open", "size", "read"} {
		for _, passes := range []bool{true, false} {
			fs := &spooltest.FS{}
			var told []spool.Damage
			opt := spool.Options{MaxBytes: 1 << 20, SegmentBytes: 32 + 10*recSize, FS: fs, OnDamage: func(d spool.Damage) { told = append(told, d) }}
			l := open(t, "/q", opt)
			appendAll(t, l, numbered(1, 25)...)
			l.Close()
			names, err := fs.ReadDir("/q")
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(names)
			bad := names[slices.IndexFunc(names, func(n string) bool { return filepath.Ext(n) == ".seg" })]
			fs.Fail = func(o, name string) error {
				if o == op && name == bad {
					return syscall.EIO
				}
				return nil
			}
			l = open(t, "/q", opt)
			if passes {
				fs.Fail = nil
				if got := readAll(t, l); !slices.Equal(got, numbered(1, 25)) || len(told) > 0 {
					t.Errorf("%s: %d records, told %+v", op, len(got), told)
				}
				if n, bytes := l.Len(); n != 25 || bytes != 3*32+25*recSize {
					t.Errorf("%s: %d records in %d bytes", op, n, bytes)
				}
				continue
			}
			var got []string
			for r, fails := l.Reader(), 0; ; {
				recs, err := r.Try(100)
				if err != nil {
					if fails++; fails > 10 {
						t.Fatal(err)
					}
					continue
				}
				if len(recs) == 0 {
					r.Close()
					break
				}
				for _, rec := range recs {
					got = append(got, string(rec.Data))
				}
			}
			if !slices.Equal(got, numbered(11, 25)) || len(told) != 1 || told[0].Records != 10 || !errors.Is(told[0].Err, syscall.EIO) {
				t.Errorf("%s: %d records, told %+v", op, len(got), told)
			}
		}
	}
}

// What leaves at the bound and was damaged is in one of the two counts.
func TestFullOfDamage(t *testing.T) {
	for _, unreadable := range []bool{false, true} {
		fs := &spooltest.FS{}
		var dropped []string
		var lost uint64
		opt := spool.Options{MaxBytes: 4000, SegmentBytes: 32 + 8*recSize, FS: fs,
			OnDrop:   func(_ string, _ uint64, data []byte) { dropped = append(dropped, string(data[:4])) },
			OnDamage: func(d spool.Damage) { lost += d.Records },
		}
		l := open(t, "/q", opt)
		appendAll(t, l, numbered(1, 8)...)
		names, err := fs.ReadDir("/q")
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		if _, err := l.Ack(2); err != nil {
			t.Fatal(err)
		}
		if unreadable {
			fs.Fail = func(op, name string) error {
				if op == "read" && name == names[0] {
					return syscall.EIO
				}
				return nil
			}
		} else {
			fs.Bytes("/q/" + names[0])[32+4*recSize+50] ^= 1
			// Who read it before has told it; it is not counted twice.
			if got := readAll(t, l); len(got) != 5 || lost != 1 {
				t.Fatalf("%d records, %d lost", len(got), lost)
			}
		}
		appendAll(t, l, numbered(9, 40)...)
		first := readAll(t, l)[0][:4]
		var n uint64
		for _, s := range numbered(3, 40) {
			if s[:4] < first {
				n++
			}
		}
		want := uint64(1)
		if unreadable {
			want = 6
		}
		if lost != want || uint64(len(dropped))+lost != n {
			t.Errorf("unreadable %v: %d dropped and %d lost of %d: %v", unreadable, len(dropped), lost, n, dropped)
		}
	}
}

// Changed bounds hold for segments and records too.
func TestSetLimits(t *testing.T) {
	l := open(t, "/q", spool.Options{MaxBytes: 1 << 20, FS: &spooltest.FS{}})
	big := make([]byte, 300<<10)
	if err := l.Append(big); !errors.Is(err, spool.ErrTooLarge) {
		t.Errorf("more than a quarter: %v", err)
	}
	l.SetLimits(4<<20, 0)
	if err := l.Append(big); err != nil {
		t.Errorf("less than a quarter: %v", err)
	}
	l.SetLimits(8000, 0)
	appendAll(t, l, numbered(1, 200)...)
	if n, bytes := l.Len(); bytes > 8000 || n < 35 { // a quarter leaves at once, not all
		t.Errorf("%d records in %d bytes", n, bytes)
	}
}

// Ack tells where the log stood, so that nothing is counted both as dropped
// and as acknowledged.
func TestAckAfterDrop(t *testing.T) {
	var dropped uint64
	l := open(t, "/q", spool.Options{MaxBytes: 5000, SegmentBytes: 1250, FS: &spooltest.FS{},
		OnDrop: func(_ string, seq uint64, _ []byte) { dropped = seq }})
	appendAll(t, l, numbered(1, 20)...)
	if before, err := l.Ack(2); before != 0 || err != nil {
		t.Errorf("%d, %v", before, err)
	}
	appendAll(t, l, numbered(21, 60)...)
	if dropped < 3 {
		t.Fatal("nothing was dropped")
	}
	if before, err := l.Ack(dropped - 1); before != dropped || err != nil {
		t.Errorf("of what was dropped: %d, %v", before, err)
	}
	if before, err := l.Ack(dropped + 1); before != dropped || err != nil {
		t.Errorf("of the next: %d, %v", before, err)
	}
	if got := readAll(t, l); !strings.HasPrefix(got[0], numbered(int(dropped)+2, int(dropped)+2)[0]) {
		t.Errorf("goes on with %.4s", got[0])
	}
}

// An acknowledgement of what is not there yet acknowledges nothing to come.
func TestAckBeyondTheEnd(t *testing.T) {
	l := open(t, "/q", spool.Options{FS: &spooltest.FS{}})
	appendAll(t, l, "1")
	if _, err := l.Ack(100); err != nil {
		t.Fatal(err)
	}
	appendAll(t, l, "2", "3")
	if got := readAll(t, l); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("%q", got)
	}
}

// A power cut in the middle of writing the acknowledged position leaves the
// one before: it is kept in two places, written in turn.
func TestTornPosition(t *testing.T) {
	for _, slot := range []int{0, 16} {
		fs := &spooltest.FS{}
		l := open(t, "/q", spool.Options{FS: fs})
		appendAll(t, l, numbered(1, 9)...)
		for _, seq := range []uint64{3, 5} {
			if _, err := l.Ack(seq); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		fs.Bytes("/q/ack")[slot] ^= 1
		if got := readAll(t, open(t, "/q", spool.Options{FS: fs})); !slices.Equal(got, numbered(6, 9)) {
			t.Errorf("with place %d torn %d are left, want 4", slot/16, len(got))
		}
	}
}

// What a killed process had written and not synced is there at the next start,
// and what was seen once stays over a power cut.
func TestSeenIsKept(t *testing.T) {
	from, to := &spooltest.FS{}, &spooltest.FS{}
	l := open(t, "/q", spool.Options{FS: from})
	appendAll(t, l, numbered(1, 3)...)
	l.Close()
	open(t, "/q", spool.Options{FS: to}).Close()
	names, err := from.ReadDir("/q")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := to.OpenFile("/q/"+name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(from.Bytes("/q/"+name), 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, when := range []string{"after the kill", "after a power cut"} {
		l := open(t, "/q", spool.Options{FS: to})
		if got := readAll(t, l); !slices.Equal(got, numbered(1, 3)) {
			t.Errorf("%s: %q", when, got)
		}
		to = to.Kill(nil)
	}
}

// While the disk hangs, what waits for it is bounded: the rest stays with its
// appenders.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &spooltest.FS{}
		l := open(t, "/q", spool.Options{FS: fs})
		hang := make(chan struct{})
		fs.Fail = func(op, _ string) error {
			if op == "sync" {
				<-hang
			}
			return nil
		}
		before := fs.Syncs()
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if err := l.Append(make([]byte, 512<<10)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hang)
		all.Wait()
		// 8 MiB in pieces of 1 MiB at most.
		if n := fs.Syncs() - before; n < 8 {
			t.Errorf("all of it went to the disk in %d pieces", n)
		}
		l.Close()
	})
}

// A bound in time that shrinks holds with the next Append.
func TestSetAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
		l := open(t, "/q", spool.Options{FS: &spooltest.FS{}})
		appendAll(t, l, "old")
		time.Sleep(2 * time.Hour)
		l.SetLimits(1<<20, time.Hour)
		appendAll(t, l, "new")
		if got := readAll(t, l); !slices.Equal(got, []string{"new"}) {
			t.Errorf("%q", got)
		}
		l.Close()
	})
}
