package upstream

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/spool"
	"edgegateway/internal/spool/spooltest"
)

func newOutbox(t testing.TB, dir string, cfg Config) *Outbox {
	t.Helper()
	o, err := OpenOutbox(dir, cfg, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func result(stream, source string, n, size int) Record {
	p := fmt.Sprintf(`{"id":"%s/%s/1-%d"}`, stream, source, n)
	return Record{Class: Results, Stream: stream, Topic: "results/" + stream + "/" + source, Payload: []byte(p + strings.Repeat(" ", max(0, size-len(p))))}
}

// line is what waits in a class, oldest first.
func line(t testing.TB, o *Outbox, class Class) (recs []Record) {
	t.Helper()
	r := o.logs[class].Reader()
	defer r.Close()
	for {
		got, err := r.Try(100)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return recs
		}
		for _, rec := range got {
			s, err := parseRecord(rec.Data)
			if err != nil {
				t.Fatal(err)
			}
			recs = append(recs, Record{Class: class, Stream: string(s.stream), Topic: string(s.topic), Payload: slices.Clone(s.payload), Retain: s.retain})
		}
	}
}

func dropped(o *Outbox, class Class, stream, reason string) int {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(o.metrics.dropped)
	families, err := reg.Gather()
	if err != nil {
		panic(err)
	}
	want := "class=" + class.String() + " reason=" + reason + " stream=" + stream
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if strings.Join(labels, " ") == want {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatal(families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.MaxPayloadBytes = 1000
	o := newOutbox(t, dir, cfg)
	alert := Record{Class: Alerts, Stream: "porch", Topic: "alerts/somebody/porch", Payload: []byte("{}"), Retain: true}
	empty := Record{Class: Alerts, Stream: "porch", Topic: "alerts/somebody/porch"}
	err := o.Append(result("host", "a", 1, 0), alert, result("host", "a", 2, 0), empty,
		result("host", "big", 3, 1001), result("host", "a+b", 4, 0), result("host", "a\xff", 5, 0))
	if err != nil {
		t.Fatal(err)
	}
	if a, r := o.Pending(); a != 2 || r != 2 {
		t.Errorf("%d alerts and %d results wait", a, r)
	}
	if a, b := dropped(o, Results, "host", dropSize), dropped(o, Results, "host", dropTopic); a != 1 || b != 2 {
		t.Errorf("%d dropped for their size, %d for their topic", a, b)
	}
	o.Close()
	o = newOutbox(t, dir, cfg)
	if diff := cmp.Diff([]Record{result("host", "a", 1, 0), result("host", "a", 2, 0)}, line(t, o, Results)); diff != "" {
		t.Errorf("results after a restart: %s", diff)
	}
	empty.Payload = []byte{}
	if diff := cmp.Diff([]Record{alert, empty}, line(t, o, Alerts)); diff != "" {
		t.Errorf("alerts after a restart: %s", diff)
	}
	if o.waiting["host"] == 0 {
		t.Error("what waited before the restart is not counted to its stream")
	}
	if o.oldest(Results).IsZero() {
		t.Error("no age")
	}
	cfg.Send = []string{"alerts"}
	o.reload(cfg)
	if err := o.Append(result("host", "a", 3, 0)); err != nil {
		t.Fatal(err)
	}
	if _, r := o.Pending(); r != 2 {
		t.Error("a result went in line though only alerts are sent")
	}
}

// A stream over its share is dropped while others wait too; at the bound the
// oldest go, each counted to its stream; alerts are untouched by both.
func TestLimits(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.ResultsBytes = 1 << 20
	o := newOutbox(t, t.TempDir(), cfg)
	if err := o.Append(Record{Class: Alerts, Stream: "door", Topic: "alerts/door", Payload: []byte("first")}, result("quiet", "a", 0, 1000)); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := o.Append(result("loud", "a", i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if n := dropped(o, Results, "loud", dropShare); n < 400 || n > 600 {
		t.Errorf("%d of a loud stream dropped, want about half", n)
	}
	if n := dropped(o, Results, "quiet", "full"); n != 0 {
		t.Errorf("%d of the quiet stream gone", n)
	}

	// Alone, a stream may fill all of it, and then its oldest go.
	o = newOutbox(t, t.TempDir(), cfg)
	for i := range 2000 {
		if err := o.Append(result("loud", "a", i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	left := line(t, o, Results)
	if n := dropped(o, Results, "loud", "full"); n+len(left) != 2000 || dropped(o, Results, "loud", dropShare) != 0 {
		t.Errorf("%d dropped and %d left of 2000", n, len(left))
	}
	for i, r := range left {
		if want := result("loud", "a", 2000-len(left)+i, 1000); string(r.Payload) != string(want.Payload) {
			t.Fatalf("%.40s at %d, want %.40s", r.Payload, i, want.Payload)
		}
	}
	if o.waiting["loud"] > 1<<20 {
		t.Errorf("%d bytes counted to the stream", o.waiting["loud"])
	}
}

// A stream's share is what it has waiting: what the cloud acknowledged makes
// room for as much again.
func TestShareIsGivenBack(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.ResultsBytes = 1 << 20
	o := newOutbox(t, t.TempDir(), cfg)
	if err := o.Append(result("quiet", "a", 0, 100)); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for dropped(o, Results, "loud", dropShare) == round {
			if err := o.Append(result("loud", "a", 0, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		if n := o.waiting["loud"]; n < 400_000 {
			t.Fatalf("round %d: the share is full with %d bytes", round, n)
		}
		r := o.logs[Results].Reader()
		for {
			recs, err := r.Try(1000)
			if err != nil {
				t.Fatal(err)
			}
			if len(recs) == 0 {
				break
			}
			o.ack(Results, recs)
		}
		r.Close()
		if _, n := o.Pending(); n != 0 || len(o.waiting) != 0 {
			t.Fatalf("round %d: %d wait, counted as %v", round, n, o.waiting)
		}
		if err := o.Append(result("quiet", "a", 0, 100)); err != nil {
			t.Fatal(err)
		}
	}
}

// Alerts have a bound of their own: the oldest go, counted, the newest stay in
// order, and results that wait are not touched.
func TestAlertsBound(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.AlertsBytes = 1 << 20
	o := newOutbox(t, t.TempDir(), cfg)
	if err := o.Append(result("host", "a", 0, 100)); err != nil {
		t.Fatal(err)
	}
	const n = 60
	for i := range n {
		if err := o.Append(Record{Class: Alerts, Stream: "door", Topic: fmt.Sprint("alerts/door/", i), Payload: make([]byte, 50_000)}); err != nil {
			t.Fatal(err)
		}
	}
	left := line(t, o, Alerts)
	if d := dropped(o, Alerts, "door", spool.DropFull); d+len(left) != n || len(left) < 10 {
		t.Errorf("%d dropped and %d left of %d", d, len(left), n)
	}
	for i, r := range left {
		if want := fmt.Sprint("alerts/door/", n-len(left)+i); r.Topic != want {
			t.Fatalf("%s at %d, want %s", r.Topic, i, want)
		}
	}
	if _, bytes := o.logs[Alerts].Len(); bytes > 1<<20 {
		t.Errorf("%d bytes on disk", bytes)
	}
	if _, r := o.Pending(); r != 1 {
		t.Errorf("%d results wait", r)
	}
}

// What waited for longer than limits.max_age is given up, alerts and results,
// counted to its stream; a bound that shrinks at a reload holds at once.
func TestHoursBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
		cfg := DefaultConfig()
		cfg.Limits.MaxAge = 8 * time.Hour
		o, err := openOutbox("/outbox", cfg, zerolog.Nop(), prometheus.NewRegistry(), &spooltest.FS{})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		both := func() {
			t.Helper()
			if err := o.Append(Record{Class: Alerts, Stream: "door", Topic: "alerts/door"}, result("host", "a", 1, 0)); err != nil {
				t.Fatal(err)
			}
		}
		gone := func(want int) {
			t.Helper()
			synctest.Wait()
			if a, r := dropped(o, Alerts, "door", spool.DropAge), dropped(o, Results, "host", spool.DropAge); a != want || r != want {
				t.Errorf("%d alerts and %d results given up, want %d", a, r, want)
			}
		}
		both()
		time.Sleep(7 * time.Hour)
		gone(0)
		time.Sleep(2 * time.Hour)
		gone(1)
		if len(o.waiting) != 0 {
			t.Errorf("counted as waiting: %v", o.waiting)
		}
		both()
		time.Sleep(2 * time.Hour)
		cfg.Limits.MaxAge = time.Hour
		o.reload(cfg)
		both()
		gone(2)
		if a, r := o.Pending(); a != 1 || r != 1 {
			t.Errorf("%d alerts and %d results wait", a, r)
		}
	})
}

// Queued means that Append returned: over a file layer that fails at random
// and at the kill forgets what was not synced, every returned Append of
// 20,000 is there again, in order per source, after each of several kills.
func TestFaultyFileLayer(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.ResultsBytes = 64 << 20
	fs := &spooltest.FS{}
	rnd := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	kept := map[string][]string{} // by source, what Append returned for
	for life := range 4 {
		var failing sync.Mutex
		fs.Fail = func(op, _ string) error {
			failing.Lock()
			defer failing.Unlock()
			switch n := rnd.IntN(200); {
			case op == "read" || op == "open" || op == "readdir":
				return nil
			case n == 0:
				return syscall.EIO
			case n == 1:
				return syscall.ENOSPC
			}
			return nil
		}
		var o *Outbox
		for o == nil { // opening may fail too
			o, _ = openOutbox("/outbox", cfg, zerolog.Nop(), prometheus.NewRegistry(), fs)
		}
		var wg sync.WaitGroup
		for p := range 10 {
			source := fmt.Sprintf("s%d", p)
			wg.Go(func() {
				for i := 0; i < 500; i += 5 {
					var recs []Record
					for j := range 5 {
						recs = append(recs, result("host", source, life*500+i+j, 100))
					}
					if o.Append(recs...) != nil {
						continue
					}
					mu.Lock()
					for _, r := range recs {
						kept[source] = append(kept[source], string(r.Payload))
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		var torn *rand.Rand
		if life%2 == 1 {
			torn = rnd
		}
		after := fs.Kill(torn)
		o.Close()
		fs = after
	}
	o, err := openOutbox("/outbox", cfg, zerolog.Nop(), prometheus.NewRegistry(), fs)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	total := 0
	for _, r := range line(t, o, Results) {
		source := r.Topic[strings.LastIndexByte(r.Topic, '/')+1:]
		// What an Append with an error left behind may stand between.
		if k := kept[source]; len(k) > 0 && k[0] == string(r.Payload) {
			kept[source] = k[1:]
			total++
		}
	}
	for source, k := range kept {
		if len(k) > 0 {
			t.Errorf("%s: %d of those whose Append returned are missing, from %.40s on", source, len(k), k[0])
		}
	}
	if total < 10000 {
		t.Errorf("only %d of 20000 appends succeeded; the test tests little", total)
	}
}

// What the cloud does not take by its size or topic stays out of the line,
// whatever else comes in the same call.
func TestUnfit(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxPayloadBytes, cfg.MaxTopicBytes, cfg.MaxTopicLevels = 1000, 60, 8
	o := newOutbox(t, t.TempDir(), cfg)
	o.gateway = "g" // gateways/g/ is 11 bytes and two levels
	alert := func(topic string, size int) Record {
		return Record{Class: Alerts, Stream: "porch", Topic: topic, Payload: make([]byte, size)}
	}
	fit := []Record{alert("alerts/a/b", 1000), alert("a/b/c/d/e/f", 1), alert(strings.Repeat("x", 49), 1)}
	err := o.Append(fit[0], alert("alerts/a/b/picture", 1001), fit[1], alert("a/b/c/d/e/f/g", 1), alert(strings.Repeat("x", 50), 1), alert("a/#", 1), fit[2])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fit, line(t, o, Alerts)); diff != "" {
		t.Error(diff)
	}
	if s, n := dropped(o, Alerts, "porch", dropSize), dropped(o, Alerts, "porch", dropTopic); s != 1 || n != 3 {
		t.Errorf("%d dropped for their size, %d for their topic", s, n)
	}
}

// One record that the log could never take is dropped: as an error it would be
// tried again without end, and all behind it would wait.
func TestLargerThanTheLog(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.ResultsBytes = 1 << 20 // Validate asks for more
	o := newOutbox(t, t.TempDir(), cfg)
	if err := o.Append(result("host", "a", 1, 300<<10), result("host", "a", 2, 100)); err != nil {
		t.Fatal(err)
	}
	if _, r := o.Pending(); r != 1 || dropped(o, Results, "host", dropSize) != 1 {
		t.Errorf("%d results wait, %d dropped for their size", r, dropped(o, Results, "host", dropSize))
	}
}

// However much comes at once, it comes in line: a burst of pictures is larger
// than the log takes in one piece.
func TestLargeBatch(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.ResultsBytes, cfg.Limits.AlertsBytes, cfg.MaxPayloadBytes = 4<<20, 1<<20, 150<<10
	o := newOutbox(t, t.TempDir(), cfg)
	var recs []Record
	for i := range 20 {
		recs = append(recs, result("host", "a", i, 150<<10)) // 3 MiB
	}
	if err := o.Append(recs...); err != nil {
		t.Fatal(err)
	}
	if got := line(t, o, Results); !slices.EqualFunc(recs, got, func(a, b Record) bool { return bytes.Equal(a.Payload, b.Payload) }) {
		t.Errorf("%d in line, or others", len(got))
	}
	// Bounds that grew at a reload are those of the log too.
	cfg.Limits.ResultsBytes, cfg.MaxPayloadBytes = 64<<20, 200<<10
	cfg.Limits.AlertsBytes = 32 << 20
	o.reload(cfg)
	big := Record{Class: Alerts, Stream: "porch", Topic: "a", Payload: make([]byte, 200<<10)}
	for range 40 {
		recs = append(recs, big)
	}
	if err := o.Append(recs...); err != nil {
		t.Fatal(err)
	}
	if a, r := o.Pending(); a != 40 || r != 40 {
		t.Errorf("%d alerts, %d results", a, r)
	}
}

// A call that failed and comes again counts what it drops once, and what is
// given up at last as lost to the disk.
func TestRetryCountsOnce(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxPayloadBytes = 1000
	cfg.Send = []string{"results"}
	fs := &spooltest.FS{}
	o, err := openOutbox("/outbox", cfg, zerolog.Nop(), prometheus.NewRegistry(), fs)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	recs := []Record{result("host", "a", 1, 100), result("host", "a", 2, 1001), {Class: Alerts, Stream: "host", Topic: "not sent"}}
	fs.Fail = func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	for range 5 {
		if err := o.Append(recs...); err == nil {
			t.Fatal("appended to a disk that fails")
		}
	}
	if n := o.waiting["host"]; n != 0 {
		t.Errorf("%d bytes counted to a stream that has nothing waiting", n)
	}
	o.GiveUp(recs[0])
	fs.Fail = nil
	if err := o.Append(recs...); err != nil {
		t.Fatal(err)
	}
	if s, d := dropped(o, Results, "host", dropSize), dropped(o, Results, "host", dropDisk); s != 1 || d != 1 {
		t.Errorf("%d dropped for their size, %d lost to the disk", s, d)
	}
	if got := line(t, o, Results); len(got) != 1 {
		t.Errorf("%d in line", len(got))
	}
}

// Alerts are written first: where that fails, results of the same call count as
// little to their stream.
func TestFailedAlertsClaimNothing(t *testing.T) {
	fs := &spooltest.FS{}
	o, err := openOutbox("/outbox", DefaultConfig(), zerolog.Nop(), prometheus.NewRegistry(), fs)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	fs.Fail = func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	if err := o.Append(Record{Class: Alerts, Stream: "door", Topic: "alerts/door"}, result("host", "a", 1, 100)); err == nil {
		t.Fatal("appended to a disk that fails")
	}
	if len(o.waiting) != 0 {
		t.Errorf("counted as waiting: %v", o.waiting)
	}
}

// What damage on the disk costs is counted.
func TestDamageIsCounted(t *testing.T) {
	fs := &spooltest.FS{}
	o, err := openOutbox("/outbox", DefaultConfig(), zerolog.Nop(), prometheus.NewRegistry(), fs)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := o.Append(result("host", "a", 1, 100), result("host", "a", 2, 100), result("host", "a", 3, 100)); err != nil {
		t.Fatal(err)
	}
	names, err := fs.ReadDir("/outbox/results")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	b := fs.Bytes("/outbox/results/" + names[0])
	b[bytes.Index(b, []byte("/1-2"))] ^= 1
	if left := line(t, o, Results); len(left) != 2 {
		t.Errorf("%d are left", len(left))
	}
	if n := value(t, o.metrics.lost); n != 1 {
		t.Errorf("%v counted as lost", n)
	}
}

// A cloud that is away is tried less and less often, up to retry_max.
func TestTriedLessOften(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.URL = "unix://" + dir + "/nobody"
		o, err := openOutbox("/outbox", cfg, zerolog.Nop(), prometheus.NewRegistry(), &spooltest.FS{})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		b, err := NewBridge("cloud", "g", cfg, o, nil, zerolog.Nop(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		if err := b.Run(ctx); err != nil {
			t.Fatal(err)
		}
		// Each minute once or twice, and half a dozen on the way there.
		if n := value(t, o.metrics.failures); n < 60 || n > 135 {
			t.Errorf("%v tries in an hour", n)
		}
	})
}

// What leaves at the bound while it is under way is counted as dropped alone,
// though the cloud acknowledges it after all.
func TestDroppedUnderWay(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits.ResultsBytes = 1 << 20
	o := newOutbox(t, t.TempDir(), cfg)
	if err := o.Append(result("quiet", "a", 0, 1000)); err != nil {
		t.Fatal(err)
	}
	r := o.logs[Results].Reader()
	defer r.Close()
	recs, err := r.Try(1)
	if err != nil || len(recs) != 1 {
		t.Fatal(len(recs), err)
	}
	rec := spool.Record{Seq: recs[0].Seq, Data: slices.Clone(recs[0].Data)}
	for dropped(o, Results, "quiet", "full") == 0 {
		for _, stream := range []string{"one", "two", "three"} {
			if err := o.Append(result(stream, "a", 1, 1000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := o.Append(result("quiet", "a", 1, 1000)); err != nil {
		t.Fatal(err)
	}
	had := o.waiting["quiet"]
	o.ack(Results, []spool.Record{rec})
	if n := o.waiting["quiet"]; n != had || had == 0 {
		t.Errorf("%d bytes counted to the stream, %d before", n, had)
	}
	if n := value(t, o.metrics.acked[Results]); n != 0 {
		t.Errorf("%v acknowledged", n)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &Record{Stream: "s", Topic: "results/s/a", Payload: []byte("{}"), Retain: true}, time.UnixMilli(1770000000000)))
	f.Add([]byte{format1})
	f.Add([]byte{format1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseRecord(b)
		if err != nil {
			return
		}
		r := Record{Stream: string(s.stream), Topic: string(s.topic), Payload: s.payload, Retain: s.retain}
		again, err := parseRecord(appendRecord(nil, &r, s.time))
		if err != nil || string(again.payload) != string(s.payload) || string(again.topic) != r.Topic || again.retain != r.Retain {
			t.Errorf("%q read back is %+v, %v", b, again, err)
		}
	})
}

func BenchmarkOutboxAppend(b *testing.B) {
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprint("batch", n), func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.Limits.ResultsBytes = 1 << 30
			o := newOutbox(b, b.TempDir(), cfg)
			recs := make([]Record, n)
			for i := range recs {
				recs[i] = result("host", "a", i, 300)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := o.Append(recs...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// Of what is dropped each line tells how many there were since the last one.
func TestDropLineCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s said
		var got []string
		for range 3 {
			for _, what := range []string{"a", "b", "a"} {
				if n, ok := s.count(what, 2); ok {
					got = append(got, fmt.Sprint(what, n))
				}
			}
			time.Sleep(time.Second)
		}
		if want := []string{"a2", "b2", "a4", "b2", "a4", "b2"}; !slices.Equal(got, want) {
			t.Errorf("it says %v, want %v", got, want)
		}
	})
}
