package upstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"pgregory.net/rapid"

	"edgegateway/internal/offer"
)

func fileOf(b []byte, chunks ...int) offer.File {
	sum := sha256.Sum256(b)
	name := hex.EncodeToString(sum[:])
	return offer.File{SHA256: name, Bytes: int64(len(b)), Topic: "models/" + name, Chunks: chunks}
}

// Whatever comes in what order, is given up, and however often it is opened
// anew: nothing is asked for that is there or under way, what is there is
// known, and the whole is the file.
func TestIncoming(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 1, 40_000).Draw(t, "file")
		sizes := rapid.SampledFrom([][]int{{12 << 10, 4 << 10, 1 << 10}, {8 << 10, 2 << 10}, {1 << 10}, {64 << 10, 1 << 10}}).Draw(t, "sizes")
		f := fileOf(b, sizes...)
		folder := filepath.Join(dir, f.SHA256)
		defer os.RemoveAll(folder)
		in, err := openIncoming(folder, f)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { in.close() }()
		there, under := make([]bool, len(b)), map[piece]bool{}
		span := func(p piece) []bool { return there[p.n*p.size : p.n*p.size+p.length] }
		reopen := func() {
			bytes, level := in.bytes(), in.level
			if err := in.close(); err != nil {
				t.Fatal(err)
			}
			if in, err = openIncoming(folder, f); err != nil {
				t.Fatal(err)
			}
			if in.bytes() != bytes || in.level != level {
				t.Fatalf("%d bytes at size %d were there, %d at %d are", bytes, level, in.bytes(), in.level)
			}
			clear(under)
		}
		for steps := 0; in.left > 0; steps++ {
			what := rapid.IntRange(0, 9).Draw(t, "step")
			if steps > 200 {
				what = 0 // it ends
			}
			switch what {
			case 1:
				reopen()
			case 2:
				in.cut(int64(rapid.IntRange(0, 100_000).Draw(t, "carried")))
			case 3:
				in.good(int64(rapid.IntRange(0, 10_000_000).Draw(t, "carried")))
			}
			p, ok := in.next(rapid.IntRange(0, 128<<10).Draw(t, "most"))
			if !ok && len(under) == 0 {
				t.Fatalf("%d units are missing and none is to be asked for", in.left)
			}
			if ok {
				for other := range under {
					if p.n*p.size < other.n*other.size+other.length && other.n*other.size < p.n*p.size+p.length {
						t.Fatalf("%+v is asked for while %+v is", p, other)
					}
				}
				for _, is := range span(p) {
					if is {
						t.Fatalf("%+v is asked for and partly there", p)
					}
				}
				in.mark(p, true)
				under[p] = true
			}
			for p := range under {
				if what > 6 && ok {
					break // several under way
				}
				delete(under, p)
				if what == 4 {
					in.mark(p, false)
					break
				}
				if err := in.put(p, b[p.n*p.size:p.n*p.size+p.length]); err != nil {
					t.Fatal(err)
				}
				for i := range span(p) {
					span(p)[i] = true
				}
				break
			}
			n := int64(0)
			for _, is := range there {
				if is {
					n++
				}
			}
			if in.bytes() != n {
				t.Fatalf("%d bytes are there, it says %d", n, in.bytes())
			}
		}
		reopen()
		got, err := os.ReadFile(in.path())
		if err != nil || !bytes.Equal(got, b) || in.check() != nil {
			t.Fatalf("the whole is not the file: %v", err)
		}
	})
}

// Damage on the disk, and an offer with other chunks, cost the transfer and
// nothing else.
func TestIncomingDamaged(t *testing.T) {
	b := bytes.Repeat([]byte("model"), 2000)
	f, dir := fileOf(b, 4096, 1024), filepath.Join(t.TempDir(), "x")
	in, err := openIncoming(dir, f)
	if err != nil {
		t.Fatal(err)
	}
	for p, ok := in.next(4096); ok; p, ok = in.next(4096) {
		if err := in.put(p, b[p.n*p.size:p.n*p.size+p.length]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in.data.WriteAt([]byte("M"), 5000); err != nil {
		t.Fatal(err)
	}
	if err := in.check(); !errors.As(err, new(forGood)) || !strings.Contains(err.Error(), "not what was offered") {
		t.Errorf("of damaged bytes: %v", err)
	}
	in.close()
	if err := os.Truncate(filepath.Join(dir, "have-1024"), 1); err != nil {
		t.Fatal(err)
	}
	if in, err = openIncoming(dir, f); err != nil || in.bytes() != 8*1024 {
		t.Errorf("with bits of 8 chunks: %v", err)
	}
	in.close()
	f.Chunks = []int{2048}
	if in, err = openIncoming(dir, f); err != nil || in.bytes() != 0 {
		t.Errorf("with chunks of another size: %v", err)
	}
	in.close()
}

// The size of chunks goes down one at a time where links break early, and up
// where one carries much.
func TestChunkSize(t *testing.T) {
	for _, tt := range []struct {
		name    string
		carried []int64 // of links that broke
		good    int64   // of one that goes on
		want    int
	}{
		{"at first", nil, 0, 32 << 10},
		{"6 MB without a cut", nil, 6e6, 96 << 10},
		{"cut after 1 MB each time", []int64{1e6, 1e6, 1e6, 1e6}, 0, 32 << 10},
		{"cut after 100 KB once", []int64{1e5}, 0, 8 << 10},
		{"cut after 100 KB often", []int64{1e5, 1e5, 1e5, 1e5}, 0, 8 << 10},
		{"cut after 10 MB", []int64{1e7, 1e7}, 0, 32 << 10},
		{"then 1 MB without a cut", []int64{1e5, 1e5}, 1e6, 32 << 10},
		{"cut after 1 MB, then 6 MB without", []int64{1e6}, 6e6, 96 << 10},
	} {
		in, err := openIncoming(filepath.Join(t.TempDir(), "x"), fileOf([]byte("model"), 96<<10, 32<<10, 8<<10))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range tt.carried {
			in.cut(n)
		}
		in.good(tt.good)
		if got := in.file.Chunks[in.level]; got != tt.want {
			t.Errorf("%s: chunks of %d, want %d", tt.name, got, tt.want)
		}
		in.close()
	}
}

// What is asked for ahead comes within seconds, whatever the link carries: an
// acknowledgement of a result waits no longer behind it.
func TestAhead(t *testing.T) {
	const timeout = 20 * time.Second
	for _, rate := range []int{1 << 10, 10 << 10, 100 << 10, 1 << 20, 1 << 30} { // bytes a second
		a := ahead{timeout: timeout}
		const trip = 600 * time.Millisecond // by satellite
		late := func() time.Duration {
			return trip + time.Duration(float64(max(a.bytes, 8<<10))/float64(rate)*float64(time.Second))
		}
		for range 100 {
			a.arrived(late(), 8<<10)
		}
		if wait := late(); a.bytes > 8<<10 && wait > timeout/5 {
			t.Errorf("at %d bytes a second %d are asked for, and come after %v", rate, a.bytes, wait)
		}
		if a.bytes > mostAhead || rate >= 1<<20 && a.bytes != mostAhead {
			t.Errorf("at %d bytes a second %d are asked for", rate, a.bytes)
		}
	}
}

// Folders of transfers that nobody offers go, the oldest first, and only these.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	in, err := OpenIncoming(dir, "g", nil, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	name := func(i int) string { return strings.Repeat(string(rune('a'+i)), 64) }
	for i := range 8 {
		file := filepath.Join(dir, name(i), "file")
		at := now.Add(-time.Duration(i) * time.Hour)
		if i == 1 {
			at = now.Add(-8 * 24 * time.Hour)
		}
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "add-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	in.sweep(func(sum string) bool { return sum == name(7) }, now)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range left {
		got = append(got, filepath.Base(p)[:1])
	}
	// Four of those that nobody offers, without the one of last week, and what
	// is offered or of somebody else.
	if strings.Join(got, "") != "aacdeh" {
		t.Errorf("left: %v", got)
	}
}

// What was said of an offer last is known after a restart; damage to it is not
// the end of the gateway.
func TestOutcomes(t *testing.T) {
	dir := t.TempDir()
	open := func() *Incoming {
		in, err := OpenIncoming(dir, "g", nil, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	in := open()
	for i := range 100 {
		in.settle(&offer.Offer{ID: string(rune('0' + i)), Name: "n"}, offer.Refused, "why")
	}
	in = open()
	if d := in.outcome(string(rune('0' + 99))); d == nil || d.State != offer.Refused || d.Why != "why" {
		t.Errorf("%+v", d)
	}
	if in.outcome("0") != nil || len(in.done) != keptOutcomes {
		t.Errorf("%d are kept", len(in.done))
	}
	if err := os.WriteFile(in.doneFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if in = open(); len(in.done) != 0 {
		t.Error("damage is read")
	}
}

// silent is a connection on which nothing comes.
type silent struct{ done chan struct{} }

func (s silent) Get(ctx context.Context, _ string) ([]byte, error) {
	select {
	case <-s.done:
		return nil, errors.New("not connected")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s silent) Done() <-chan struct{} { return s.done }

// A fetch ends with its context, with its reason, and with its connection.
func TestFetchEnds(t *testing.T) {
	for _, lost := range []bool{false, true} {
		in, err := openIncoming(filepath.Join(t.TempDir(), "x"), fileOf(make([]byte, 5000), 4096, 1024))
		if err != nil {
			t.Fatal(err)
		}
		conn := silent{make(chan struct{})}
		ctx, stop := context.WithCancelCause(t.Context())
		want := errWithdrawn
		if lost {
			want = errLinkLost
			close(conn.done)
		} else {
			stop(errWithdrawn)
		}
		if err := in.fetch(ctx, conn, &ahead{}, func() {}); err != want || len(in.asked) > 0 {
			t.Errorf("it ended with %v, %d under way", err, len(in.asked))
		}
		stop(nil)
		in.close()
	}
}
