package upstream

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/spool"
)

// Outbox is what waits on disk for the cloud: a log of alerts and a log of
// results, each strictly in order and with a bound of its own. At the bound
// the oldest whole segment goes, counted by stream.
type Outbox struct {
	log     zerolog.Logger
	gateway string // set by NewBridge, before there is anything to append
	cfg     atomic.Pointer[Config]
	logs    [classes]*spool.Log
	metrics *metrics
	said    said

	// What each stream has waiting in the log of results, in bytes.
	mu      sync.Mutex
	waiting map[string]int64

	scratch sync.Pool // of *scratch
}

type scratch struct {
	buf   []byte
	recs  [classes][][]byte
	drops []refusal
}

// refusal is a record that does not come in line.
type refusal struct {
	rec    *Record
	reason string
}

// Reasons with which a record is dropped, beside spool.DropFull and DropAge.
const (
	dropShare   = "share"   // its stream has more than its share waiting
	dropSize    = "size"    // over max_payload_bytes
	dropTopic   = "topic"   // a topic no broker takes, or the cloud does not
	dropDisk    = "disk"    // the medium failed for too long
	dropRefused = "refused" // the cloud ends the link at it
	dropBad     = "damaged" // unreadable after it was read back
)

// OpenOutbox opens or creates the outbox in dir, which nobody else may use.
// What waited there waits again.
func OpenOutbox(dir string, cfg Config, log zerolog.Logger, reg prometheus.Registerer) (*Outbox, error) {
	return openOutbox(dir, cfg, log, reg, nil)
}

func openOutbox(dir string, cfg Config, log zerolog.Logger, reg prometheus.Registerer, fs spool.FS) (*Outbox, error) {
	o := &Outbox{log: log, waiting: map[string]int64{}}
	o.cfg.Store(&cfg)
	o.scratch.New = func() any { return new(scratch) }
	o.metrics = newMetrics(o)
	for class := range classes {
		l, err := spool.Open(filepath.Join(dir, class.String()), spool.Options{
			MaxBytes: cfg.maxBytes(class), MaxAge: cfg.Limits.MaxAge, MaxRecordBytes: maxMessage, FS: fs,
			OnDrop:   func(reason string, _ uint64, data []byte) { o.spoolDropped(class, reason, data) },
			OnDamage: func(d spool.Damage) { o.damaged(class, d) },
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("outbox: %w", err), o.Close())
		}
		o.logs[class] = l
	}
	if err := errors.Join(o.count(), o.metrics.register(reg)); err != nil {
		return nil, errors.Join(fmt.Errorf("outbox: %w", err), o.Close())
	}
	return o, nil
}

// maxMessage is the longest message there can be.
const maxMessage = 256 << 20

func (c *Config) maxBytes(class Class) int64 {
	if class == Alerts {
		return int64(c.Limits.AlertsBytes)
	}
	return int64(c.Limits.ResultsBytes)
}

// count sums up what each stream has waiting from before.
func (o *Outbox) count() error {
	r := o.logs[Results].Reader()
	defer r.Close()
	for {
		recs, err := r.Try(1024)
		if err != nil || len(recs) == 0 {
			return err
		}
		o.mu.Lock()
		for _, rec := range recs {
			if s, err := parseRecord(rec.Data); err == nil {
				o.waiting[string(s.stream)] += int64(len(rec.Data))
			}
		}
		o.mu.Unlock()
	}
}

// reload takes over changed limits.
func (o *Outbox) reload(cfg Config) {
	o.cfg.Store(&cfg)
	for class, l := range o.logs {
		l.SetLimits(cfg.maxBytes(Class(class)), cfg.Limits.MaxAge)
	}
}

// Append puts records in line and returns when they are on the medium. What
// the link does not send is left out; what no broker would take and what is
// over its stream's share is dropped and counted. An error means that the
// medium failed: then some of the records may be in line, and appending all
// of them again is right. May be called from many goroutines; the records are
// only lent.
func (o *Outbox) Append(recs ...Record) error {
	cfg := o.cfg.Load()
	s := o.scratch.Get().(*scratch)
	defer o.scratch.Put(s)
	s.buf = s.buf[:0]
	for class := range s.recs {
		s.recs[class] = s.recs[class][:0]
	}
	s.drops = s.drops[:0]
	size := 0
	for i := range recs {
		size += len(recs[i].Stream) + len(recs[i].Topic) + len(recs[i].Payload) + 32
	}
	if cap(s.buf) < size { // growing later would move what is sliced
		s.buf = make([]byte, 0, size)
	}
	now := time.Now()
	for i := range recs {
		r := &recs[i]
		if !cfg.sends(r.Class) {
			continue
		}
		reason := o.unfit(cfg, r)
		start := len(s.buf)
		if reason == "" {
			s.buf = appendRecord(s.buf, r, now)
		}
		rec := s.buf[start:len(s.buf):len(s.buf)]
		switch {
		case reason != "":
		case int64(len(rec)) > cfg.maxBytes(r.Class)/4:
			reason = dropSize
		case r.Class == Results && !o.claim(cfg, r.Stream, int64(len(rec))):
			reason = dropShare
		default:
			s.recs[r.Class] = append(s.recs[r.Class], rec)
			continue
		}
		s.buf = s.buf[:start]
		s.drops = append(s.drops, refusal{r, reason})
	}
	for class := range classes {
		if n, err := o.write(class, s.recs[class], cfg.maxBytes(class)/4); err != nil {
			o.unclaim(class, s.recs[class][n:])
			for c := class + 1; c < classes; c++ {
				o.unclaim(c, s.recs[c])
			}
			return fmt.Errorf("outbox: %w", err)
		}
	}
	for _, d := range s.drops { // now, since after an error all come again
		o.drop(d.rec.Class, d.rec.Stream, d.reason, 1)
	}
	clear(s.drops)
	return nil
}

// write appends records to a class's log, no more than most bytes at once,
// and says how many it took.
func (o *Outbox) write(class Class, recs [][]byte, most int64) (done int, err error) {
	for done < len(recs) {
		n, size := 0, int64(0)
		for ; done+n < len(recs); n++ {
			if size += int64(len(recs[done+n])) + 32; n > 0 && size > most {
				break
			}
		}
		if err := o.logs[class].Append(recs[done : done+n]...); err != nil {
			return done, err
		}
		o.metrics.appended[class].Add(float64(n))
		done += n
	}
	return done, nil
}

// GiveUp counts records for which Append kept failing.
func (o *Outbox) GiveUp(recs ...Record) {
	cfg := o.cfg.Load()
	for i := range recs {
		if r := &recs[i]; cfg.sends(r.Class) {
			o.drop(r.Class, r.Stream, dropDisk, 1)
		}
	}
}

// unfit says why a record stays out of the line: it would make the broker cut
// the link again and again.
func (o *Outbox) unfit(cfg *Config, r *Record) (reason string) {
	prefix := topicPrefix(*cfg, o.gateway)
	levels := strings.Count(prefix, "/") + strings.Count(r.Topic, "/") + 2
	switch {
	case len(r.Payload) > cfg.MaxPayloadBytes:
		return dropSize
	case checkTopic(r.Topic) != nil, len(prefix)+1+len(r.Topic) > cfg.MaxTopicBytes,
		cfg.MaxTopicLevels > 0 && levels > cfg.MaxTopicLevels:
		return dropTopic
	}
	return ""
}

// claim adds size to what the stream has waiting, unless that is over its
// share while other streams have something waiting too.
func (o *Outbox) claim(cfg *Config, stream string, size int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	had, there := o.waiting[stream]
	alone := len(o.waiting) == 0 || there && len(o.waiting) == 1
	if !alone && float64(had+size) > cfg.Limits.Share*float64(cfg.Limits.ResultsBytes) {
		return false
	}
	o.waiting[stream] = had + size
	return true
}

func (o *Outbox) release(stream []byte, size int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if left := o.waiting[string(stream)] - size; left > 0 {
		o.waiting[string(stream)] = left
	} else {
		delete(o.waiting, string(stream))
	}
}

func (o *Outbox) unclaim(class Class, recs [][]byte) {
	if class != Results {
		return
	}
	for _, rec := range recs {
		if s, err := parseRecord(rec); err == nil {
			o.release(s.stream, int64(len(rec)))
		}
	}
}

// ack removes records that the cloud acknowledged, the oldest of their class.
func (o *Outbox) ack(class Class, recs []spool.Record) {
	o.leave(class, recs, func(stored) { o.metrics.acked[class].Inc() })
}

// refuse removes the oldest record of its class, which the cloud does not take.
func (o *Outbox) refuse(class Class, rec spool.Record) {
	o.leave(class, []spool.Record{rec}, func(s stored) { o.drop(class, string(s.stream), dropRefused, 1) })
}

// leave removes the oldest records of a class and counts each.
func (o *Outbox) leave(class Class, recs []spool.Record, count func(stored)) {
	if len(recs) == 0 {
		return
	}
	before, err := o.logs[class].Ack(recs[len(recs)-1].Seq)
	if err != nil && o.said.now("ack") {
		// They are gone in this process; after a restart they may go up again.
		o.log.Warn().Err(err).Msg("outbox: the acknowledged position was not kept")
	}
	for _, rec := range recs {
		if rec.Seq <= before { // dropped while it was under way, and counted so
			continue
		}
		s, err := parseRecord(rec.Data)
		count(s)
		if err == nil && class == Results {
			o.release(s.stream, int64(len(rec.Data)))
		}
	}
}

func (o *Outbox) spoolDropped(class Class, reason string, data []byte) {
	s, err := parseRecord(data)
	if err != nil {
		o.drop(class, "", reason, 1)
		return
	}
	if class == Results {
		o.release(s.stream, int64(len(data)))
	}
	o.drop(class, string(s.stream), reason, 1)
}

func (o *Outbox) damaged(class Class, d spool.Damage) {
	o.metrics.lost.Add(float64(d.Records))
	o.log.Error().Err(d.Err).Stringer("class", class).Str("segment", d.Segment).Int64("offset", d.Offset).
		Uint64("records", d.Records).Msg("outbox: damage on disk skipped")
}

// drop counts, and says it at most once a second for each class, stream and
// reason, with how many there were since the last line.
func (o *Outbox) drop(class Class, stream, reason string, n int) {
	c := o.metrics.dropped.WithLabelValues(class.String(), stream, reason)
	c.Add(float64(n))
	if n, ok := o.said.count(class.String()+"\x00"+stream+"\x00"+reason, n); ok {
		o.log.Warn().Stringer("class", class).Str("stream", stream).Str("reason", reason).Int("count", n).Msg("outbox: dropped")
	}
}

// Pending is how many records wait.
func (o *Outbox) Pending() (alerts, results int) {
	alerts, _ = o.logs[Alerts].Len()
	results, _ = o.logs[Results].Len()
	return alerts, results
}

// oldest is when the oldest waiting record of a class was appended; zero when
// none waits.
func (o *Outbox) oldest(class Class) time.Time {
	r := o.logs[class].Reader()
	defer r.Close()
	recs, err := r.Try(1)
	if err != nil || len(recs) == 0 {
		return time.Time{}
	}
	s, err := parseRecord(recs[0].Data)
	if err != nil {
		return time.Time{}
	}
	return s.time
}

// Close ends the outbox; what waits stays on disk.
func (o *Outbox) Close() error {
	var errs []error
	for _, l := range o.logs {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// said holds a message back that was said less than a second ago.
type said struct {
	mu   sync.Mutex
	last map[string]held
}

// held is what was held back since at.
type held struct {
	at time.Time
	n  int
}

func (s *said) now(what string) bool {
	_, ok := s.count(what, 1)
	return ok
}

// count is now for n things, and gives all that were not said yet.
func (s *said) count(what string, n int) (all int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, last := time.Now(), s.last[what]
	if last.n += n; t.Sub(last.at) < time.Second {
		s.last[what] = last
		return 0, false
	}
	if s.last == nil || len(s.last) > 1000 {
		s.last = map[string]held{}
	}
	s.last[what] = held{at: t}
	return last.n, true
}
