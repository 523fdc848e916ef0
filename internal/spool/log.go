package spool

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound a Log. Zero fields take the defaults.
type Options struct {
	// MaxBytes is the most that the segments may take on disk; 64 MiB.
	MaxBytes int64
	// SegmentBytes is when a new segment is begun: what leaves at once when
	// the log is full. 4 MiB, and never more than a quarter of MaxBytes.
	SegmentBytes int64
	// MaxRecordBytes is the longest record; 16 MiB, and never more than a
	// quarter of MaxBytes.
	MaxRecordBytes int
	// MaxAge is how long an unacknowledged record is kept; 0 for ever. A
	// segment goes when its newest record is older.
	MaxAge time.Duration
	// OnDrop is told each unacknowledged record that leaves because of a
	// bound. It is called from the log's own goroutine, must be quick and must
	// not call the log; data is only lent.
	OnDrop func(reason string, seq uint64, data []byte)
	// OnDamage is told each damaged stretch once, by whoever reads it.
	OnDamage func(Damage)
	// FS is the file layer; nil for the operating system's.
	FS FS
}

// Damage is a stretch of a segment that could not be read. Records is how
// many it held that nobody had acknowledged; 0 for a torn tail that Open cut
// off, for which no Append had returned.
type Damage struct {
	Segment string
	Offset  int64
	Records uint64
	Err     error // what reading said; nil for a checksum that does not fit
}

// Errors of Append.
var (
	ErrClosed   = errors.New("the log is closed")
	ErrTooLarge = errors.New("larger than the log takes")
)

// Log is the queue in one folder, which nobody else may use. Its methods may
// be called from many goroutines.
type Log struct {
	dir      string
	opt      Options // but for the two bounds, which may change
	maxBytes atomic.Int64
	maxAge   atomic.Int64
	fs       FS
	acks     *ackFile

	mu     sync.Mutex
	segs   []*segment // oldest first; the active one is the last
	active *segment
	next   uint64 // sequence of the next record
	acked  uint64 // all up to it are done with
	bytes  int64
	batch  *batch
	room   *sync.Cond
	more   chan struct{} // closed when records come; nil while nobody waits
	closed bool

	trashMu sync.Mutex
	trash   []*segment // to be removed

	// The committer's own.
	gen   uint32
	file  File
	fresh bool // its name is not synced in the folder yet

	kick chan struct{}
	done chan struct{}
}

// batch is what waits for the next write; its appenders wait for done.
type batch struct {
	buf  []byte
	n    int
	done chan struct{}
	err  error
}

// maxBatch is when an appender waits for the write before it adds its own.
const maxBatch = 1 << 20

// Open opens or creates the log in dir. Records that were appended and not
// acknowledged are there again.
func Open(dir string, opt Options) (*Log, error) {
	l := &Log{dir: dir, opt: withDefaults(opt), batch: &batch{done: make(chan struct{})},
		kick: make(chan struct{}, 1), done: make(chan struct{})}
	l.fs = l.opt.FS
	l.SetLimits(l.opt.MaxBytes, l.opt.MaxAge)
	l.room = sync.NewCond(&l.mu)
	l.acks = &ackFile{fs: l.fs, dir: dir}
	if err := makeDir(l.fs, dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	go l.run()
	return l, nil
}

func withDefaults(o Options) Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 4 << 20
	}
	if o.MaxRecordBytes <= 0 {
		o.MaxRecordBytes = 16 << 20
	}
	if o.FS == nil {
		o.FS = osFS{}
	}
	return o
}

// Append writes the records one behind the other and returns when they are
// on the medium. Together they may take half of the log at most. Appends that come together share a write and a sync. After
// an error none of the records count, though after a crash some of them may
// be found again; what was there before is untouched, and a later Append
// works again when the medium does.
func (l *Log) Append(recs ...[]byte) error {
	if len(recs) == 0 {
		return nil
	}
	var total int64
	most := min(int64(l.opt.MaxRecordBytes), l.maxBytes.Load()/4)
	for _, r := range recs {
		if int64(len(r)) > most {
			return fmt.Errorf("spool %s: a record of %d bytes is %w (%d)", filepath.Base(l.dir), len(r), ErrTooLarge, most)
		}
		total += recordHead + int64(len(r))
	}
	if total > l.maxBytes.Load()/2 {
		return fmt.Errorf("spool %s: %d records of %d bytes together are %w", filepath.Base(l.dir), len(recs), total, ErrTooLarge)
	}
	l.mu.Lock()
	for len(l.batch.buf) > 0 && int64(len(l.batch.buf))+total > min(maxBatch, l.maxBytes.Load()/4) && !l.closed {
		l.room.Wait()
	}
	if l.closed {
		l.mu.Unlock()
		return fmt.Errorf("spool %s: %w", filepath.Base(l.dir), ErrClosed)
	}
	b := l.batch
	for _, r := range recs {
		// The committer, who knows the index, fills the rest of the head.
		b.buf = append(b.buf, 0, 0, 0, 0, byte(len(r)), byte(len(r)>>8), byte(len(r)>>16), byte(len(r)>>24), 0, 0, 0, 0)
		b.buf = append(b.buf, r...)
	}
	b.n += len(recs)
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
	<-b.done
	return b.err
}

// run is the committer: it alone writes segments.
func (l *Log) run() {
	defer close(l.done)
	age := time.NewTicker(time.Minute)
	defer age.Stop()
	var spare []byte
	for {
		select {
		case <-l.kick:
		case <-age.C:
			l.dropAged()
		}
		l.mu.Lock()
		b, closed := l.batch, l.closed
		some := b.n > 0
		if some {
			l.batch = &batch{buf: spare[:0], done: make(chan struct{})}
			l.room.Broadcast()
		}
		l.mu.Unlock()
		if some {
			if err := l.write(b); err != nil {
				b.err = fmt.Errorf("spool %s: %w", filepath.Base(l.dir), err)
			}
			spare = b.buf
			close(b.done)
			if cap(spare) > 2*maxBatch {
				spare = nil
			}
		}
		if closed {
			l.seal()
			return
		}
	}
}

// write puts a batch on the medium.
func (l *Log) write(b *batch) error {
	size := int64(len(b.buf))
	l.dropAged()
	if l.file != nil && (l.active.size+size > min(l.opt.SegmentBytes, l.maxBytes.Load()/4) ||
		l.age() > 0 && time.Since(l.active.created) > l.age()/8) {
		l.seal()
	}
	l.makeRoom(size)
	if l.file == nil {
		if err := l.create(); err != nil {
			return err
		}
	}
	s := l.active
	for off, index := 0, uint32(s.end-s.first); off < len(b.buf); index++ {
		n, _ := recordSize(b.buf[off:])
		putRecordHead(b.buf[off:off+int(n)], index)
		off += int(n)
	}
	if _, err := l.file.WriteAt(b.buf, s.size); err != nil {
		// What was written of it must not be taken for records later.
		if terr := l.file.Truncate(s.size); terr != nil || l.fresh {
			l.seal()
		}
		return fmt.Errorf("write %s: %w", s.name, err)
	}
	if err := l.sync(); err != nil {
		// What a failed sync left on the medium is not known, and the next
		// sync would not say: nothing more goes into this segment.
		_ = l.file.Truncate(s.size)
		l.seal()
		return err
	}
	l.mu.Lock()
	s.size += size
	s.end += uint64(b.n)
	s.last = time.Now()
	l.bytes += size
	l.next = s.end
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	l.mu.Unlock()
	return nil
}

func (l *Log) sync() error {
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", l.active.name, err)
	}
	if l.fresh {
		if err := l.fs.SyncDir(l.dir); err != nil {
			return fmt.Errorf("sync %s: %w", l.dir, err)
		}
		l.fresh = false
	}
	return nil
}

// makeRoom drops oldest segments until size more bytes fit.
func (l *Log) makeRoom(size int64) {
	for {
		l.mu.Lock()
		full := len(l.segs) > 0 && l.bytes+size+headerSize > l.maxBytes.Load()
		l.mu.Unlock()
		if !full {
			return
		}
		l.dropOldest(DropFull)
	}
}

// Ack says that all records up to seq are done with. Those up to before were
// so already: acknowledged, or dropped and told to OnDrop. An error means that
// the position may be forgotten at the next Open.
func (l *Log) Ack(seq uint64) (before uint64, err error) {
	l.mu.Lock()
	before = l.acked
	seq = min(seq, l.next-1)
	if seq <= l.acked || l.closed {
		l.mu.Unlock()
		return before, nil
	}
	l.acked = seq
	done := l.popDone()
	l.mu.Unlock()
	if err := errors.Join(l.acks.store(seq, false), l.remove(done)); err != nil {
		return before, fmt.Errorf("spool %s: %w", filepath.Base(l.dir), err)
	}
	return before, nil
}

// Len is how many records are not acknowledged, lost ones among them
// included, and how many bytes the log takes on disk.
func (l *Log) Len() (records int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.next - 1 - l.acked), l.bytes
}

// SetLimits changes the bounds; they are applied with the next Append.
func (l *Log) SetLimits(maxBytes int64, maxAge time.Duration) {
	l.maxBytes.Store(maxBytes)
	l.maxAge.Store(int64(maxAge))
}

func (l *Log) age() time.Duration { return time.Duration(l.maxAge.Load()) }

// Wait returns a channel that is closed when records are appended after the
// call.
func (l *Log) Wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	return l.more
}

// Close ends the log. Appends that wait are written first.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	acked := l.acked
	l.room.Broadcast()
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
	<-l.done
	var err error
	if acked > 0 {
		err = l.acks.store(acked, true)
	}
	if err = errors.Join(err, l.acks.close()); err != nil {
		return fmt.Errorf("spool %s: close: %w", filepath.Base(l.dir), err)
	}
	return nil
}
