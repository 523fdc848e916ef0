package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// segment is one file of the log. Guarded by Log.mu, except the name and
// first, which do not change.
type segment struct {
	name    string
	first   uint64    // sequence of its first record
	end     uint64    // sequence after its last
	size    int64     // bytes that are on disk for certain, what is behind does not count; 0: not known yet
	created time.Time // zero when its header is damaged
	last    time.Time // of the newest record, or later
	told    int64     // damage before this offset was told
	fails   int       // reads in a row that failed
}

// load finds the segments of a folder, cuts a torn tail and sets the next
// sequence.
func (l *Log) load() error {
	names, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", l.dir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		first, gen, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		l.gen = max(l.gen, gen)
		s := &segment{name: name, first: first}
		if err := l.readHeader(s); err != nil {
			s.size, s.created = 0, time.Time{} // who reads it says so
		}
		if n := len(l.segs); n > 0 {
			before := l.segs[n-1]
			before.end = first
			before.last = s.created
		}
		l.segs = append(l.segs, s)
	}
	acked := l.acks.load()
	l.next = acked + 1
	if n := len(l.segs); n > 0 {
		if err := l.cutTail(l.segs[n-1]); err != nil {
			return err
		}
		l.next = max(l.next, l.segs[n-1].end)
		acked = max(acked, l.segs[0].first-1)
	}
	l.acked = acked
	empty := func(s *segment) bool { return s.end <= s.first }
	for _, s := range l.segs {
		if empty(s) { // a crash came before its first record
			if err := l.remove([]*segment{s}); err != nil {
				return err
			}
		}
	}
	l.segs = slices.DeleteFunc(l.segs, empty)
	for _, s := range l.segs {
		l.bytes += s.size
	}
	return l.remove(l.popDone())
}

func (l *Log) readHeader(s *segment) error {
	f, err := l.fs.OpenFile(filepath.Join(l.dir, s.name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.size, err = f.Size(); err != nil {
		return fmt.Errorf("size of %s: %w", s.name, err)
	}
	var head [headerSize]byte
	if _, err := f.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", s.name, err)
	}
	s.created, _ = parseHeader(head[:], s.first)
	return nil
}

// cutTail finds where the newest segment really ends: a crash may have left
// part of a batch behind it.
func (l *Log) cutTail(s *segment) error {
	if s.size == 0 { // it could not be read: try again, and say so
		if err := l.readHeader(s); err != nil {
			return err
		}
	}
	body, err := l.readBody(s)
	if err != nil {
		return err
	}
	end, n, _ := scan(body, func(uint32, []byte) {})
	s.end = s.first + uint64(n)
	s.last = time.Now() // not known; its age is counted anew
	cut := headerSize + int64(end)
	if s.size < headerSize || s.end == s.first {
		return nil // load removes it
	}
	f, err := l.fs.OpenFile(filepath.Join(l.dir, s.name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if cut < s.size {
		if err := f.Truncate(cut); err != nil {
			return fmt.Errorf("cut the torn tail of %s: %w", s.name, err)
		}
		if l.opt.OnDamage != nil {
			l.opt.OnDamage(Damage{Segment: s.name, Offset: cut})
		}
		s.size = cut
	}
	// A killed process may have left records that are only in memory yet.
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.name, err)
	}
	return l.fs.SyncDir(l.dir)
}

// readBody reads the records of a segment.
func (l *Log) readBody(s *segment) ([]byte, error) {
	n := s.size - headerSize
	if n <= 0 {
		return nil, nil
	}
	f, err := l.fs.OpenFile(filepath.Join(l.dir, s.name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body := make([]byte, n)
	if m, err := f.ReadAt(body, headerSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", s.name, err)
	} else if m < len(body) {
		body = body[:m]
	}
	return body, nil
}

// popDone takes the sealed segments whose records are all acknowledged from
// the list. Called with mu held, or before anyone else has the log.
func (l *Log) popDone() []*segment {
	n := 0
	for n < len(l.segs) && l.segs[n] != l.active && l.segs[n].end <= l.acked+1 {
		l.bytes -= l.segs[n].size
		n++
	}
	done := slices.Clone(l.segs[:n])
	l.segs = slices.Delete(l.segs, 0, n)
	return done
}

// remove deletes the files of segments that left the list, oldest first. One
// that fails is tried again with the next, so that no hole comes to be.
func (l *Log) remove(segs []*segment) error {
	l.trashMu.Lock()
	defer l.trashMu.Unlock()
	l.trash = append(l.trash, segs...)
	for len(l.trash) > 0 {
		name := l.trash[0].name
		if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		l.trash = l.trash[1:]
	}
	return nil
}

// create begins a new segment. Only the committer calls it.
func (l *Log) create() error {
	l.mu.Lock()
	first := l.next
	l.mu.Unlock()
	l.gen++
	now := time.Now()
	s := &segment{name: segmentName(first, l.gen), first: first, end: first, size: headerSize, created: now, last: now}
	path := filepath.Join(l.dir, s.name)
	f, err := l.fs.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(appendHeader(nil, first, now), 0); err != nil {
		return errors.Join(fmt.Errorf("begin %s: %w", s.name, err), f.Close(), l.fs.Remove(path))
	}
	l.file, l.fresh = f, true
	l.mu.Lock()
	l.active = s
	l.segs = append(l.segs, s)
	l.bytes += s.size
	l.mu.Unlock()
	return nil
}

// seal ends the active segment: nothing is written to it any more. One
// without a record that counts is removed.
func (l *Log) seal() {
	if l.file == nil {
		return
	}
	_ = l.file.Close() // all that counts in it is synced
	l.file = nil
	l.mu.Lock()
	s := l.active
	l.active = nil
	var done []*segment
	if s.end == s.first {
		l.segs = slices.DeleteFunc(l.segs, func(x *segment) bool { return x == s })
		l.bytes -= s.size
		done = []*segment{s}
	}
	done = append(done, l.popDone()...)
	l.mu.Unlock()
	_ = l.remove(done) // what stays behind is removed at the next Open
}

// Reasons with which OnDrop is called.
const (
	DropFull = "full" // the log is at its bound in bytes
	DropAge  = "age"  // older than the bound in time
)

// dropOldest gives up the oldest segment and tells what of it was not
// acknowledged. Only the committer calls it.
func (l *Log) dropOldest(reason string) {
	l.mu.Lock()
	if len(l.segs) == 0 {
		l.mu.Unlock()
		return
	}
	s := l.segs[0]
	if s == l.active {
		l.mu.Unlock()
		l.seal()
		l.mu.Lock()
		if len(l.segs) == 0 || l.segs[0] != s { // seal removed it
			l.mu.Unlock()
			return
		}
	}
	l.segs = slices.Delete(l.segs, 0, 1)
	l.bytes -= s.size
	acked := l.acked
	l.acked = max(l.acked, s.end-1)
	l.mu.Unlock()
	l.tellDropped(s, acked+1, reason)
	_ = l.remove([]*segment{s})
}

// tellDropped tells OnDrop the records of a segment from seq on, and OnDamage
// those that are not to be read: all of them are in one of the two counts.
func (l *Log) tellDropped(s *segment, seq uint64, reason string) {
	r := &Reader{l: l, seq: max(seq, s.first), end: s.end, size: s.size}
	defer r.leave()
	for r.seq < r.end {
		if r.seg == nil { // also after a failed read
			r.seg, r.off, r.index = s, headerSize, 0
		}
		r.recs = r.recs[:0]
		if err := r.fill(256); err != nil {
			continue // after some of these the reader gives up by itself
		}
		for _, rec := range r.recs {
			if l.opt.OnDrop != nil {
				l.opt.OnDrop(reason, rec.Seq, rec.Data)
			}
		}
	}
}

// clockSet is a time before which a clock was not set yet: a box without a
// battery starts in 1970, and what it wrote then has no known age.
var clockSet = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// dropAged gives up the segments whose newest record is over the bound.
func (l *Log) dropAged() {
	for l.oldestOver(l.age()) {
		l.dropOldest(DropAge)
	}
}

// oldestOver reports whether the newest record of the oldest segment is older
// than age, 0 for any age. Where that is not known the next segment's tells,
// which is younger.
func (l *Log) oldestOver(age time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age <= 0 || len(l.segs) == 0 || l.segs[0].end == l.segs[0].first {
		return false
	}
	i := slices.IndexFunc(l.segs, func(s *segment) bool { return s.last.After(clockSet) })
	return i >= 0 && time.Since(l.segs[i].last) > age
}
