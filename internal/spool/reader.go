package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Record is one record as a Reader returns it. Data is valid until the next
// call of the Reader.
type Record struct {
	Seq  uint64
	Data []byte
}

// Reader walks the records of a Log in order, beginning with the oldest that
// is not acknowledged. It sees only what is on the medium. A Reader is for
// one goroutine; a Log may have several.
type Reader struct {
	l    *Log
	seq  uint64 // the next to return
	seg  *segment
	file File
	end  uint64 // of seg, as it was at the last look
	size int64

	index uint32 // of the record at off, if nothing is damaged
	off   int64
	buf   []byte // the file's bytes from at on
	at    int64
	recs  []Record
}

const (
	readChunk = 256 << 10
	readFails = 5 // failed reads in a row until a segment is given up
)

// Reader returns a new reader. Close it to free its file.
func (l *Log) Reader() *Reader { return &Reader{l: l} }

// Rewind begins again with the oldest record that is not acknowledged.
func (r *Reader) Rewind() {
	r.leave()
	r.seq = 0
}

// Close frees the reader's file.
func (r *Reader) Close() { r.leave() }

// Next returns the next records, at most n, and waits until there is one.
func (r *Reader) Next(ctx context.Context, n int) ([]Record, error) {
	for {
		more := r.l.Wait()
		recs, err := r.Try(n)
		if err != nil || len(recs) > 0 {
			return recs, err
		}
		select {
		case <-more:
		case <-r.l.done:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Try returns the next records, at most n, none when there are none now. An
// error means that the medium could not be read; the next call tries again,
// and after a few such errors the segment is given up as damaged.
func (r *Reader) Try(n int) ([]Record, error) {
	r.recs = r.recs[:0]
	for len(r.recs) == 0 && r.locate() {
		if err := r.fill(n); err != nil {
			return nil, err
		}
	}
	return r.recs, nil
}

// locate makes seg the segment that holds the next record; false when there
// is none.
func (r *Reader) locate() bool {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	r.seq = max(r.seq, l.acked+1)
	if r.seg != nil && (r.seq >= r.seg.end && r.seg != l.active || !slices.Contains(l.segs, r.seg)) {
		r.leave()
	}
	if r.seq >= l.next {
		return false
	}
	if r.seg == nil {
		i := slices.IndexFunc(l.segs, func(s *segment) bool { return s.end > r.seq })
		if i < 0 {
			return false
		}
		r.seg = l.segs[i]
		r.seq = max(r.seq, r.seg.first)
		r.off, r.index = headerSize, 0
	}
	r.end, r.size = r.seg.end, r.seg.size
	return true
}

func (r *Reader) leave() {
	if r.file != nil {
		_ = r.file.Close()
	}
	r.seg, r.file, r.buf, r.at = nil, nil, r.buf[:0], 0
}

// fill parses records out of the segment until there are n, the segment ends
// or the buffer does.
func (r *Reader) fill(n int) error {
	if r.size == 0 {
		if err := r.learnSize(); err != nil {
			return r.failed(err)
		}
	}
	for len(r.recs) < n && r.seq < r.end {
		b := r.buffered()
		size, ok := recordSize(b)
		if !ok {
			size = recordHead
		}
		if size > int64(len(b)) {
			if len(r.recs) > 0 {
				return nil
			}
			if r.off+size <= r.size {
				if err := r.read(size); err != nil {
					return r.failed(err)
				}
				if int64(len(r.buffered())) >= size {
					continue
				}
			}
		}
		index, data, ok := parseRecord(b, r.index)
		if !ok {
			if len(r.recs) > 0 {
				return nil // it is met again at the next call
			}
			if err := r.skipDamage(); err != nil {
				return r.failed(err)
			}
			continue
		}
		seq := r.seg.first + uint64(index)
		if missing := seq - (r.seg.first + uint64(r.index)); missing > 0 {
			r.tell(r.off, min(seq, r.end), nil)
		}
		if seq >= r.end {
			r.seq = r.end // behind the end lies what a failed Append left
			return nil
		}
		if seq >= r.seq {
			r.recs = append(r.recs, Record{Seq: seq, Data: data})
			r.seq = seq + 1
		}
		r.index = index + 1
		r.off += recordHead + int64(len(data))
	}
	return nil
}

// buffered is what of the file is in memory from the next record on.
func (r *Reader) buffered() []byte {
	if r.off < r.at || r.off >= r.at+int64(len(r.buf)) {
		return nil
	}
	return r.buf[r.off-r.at:]
}

// read fills the buffer from the next record on with at least need bytes,
// fewer where the file ends.
func (r *Reader) read(need int64) error {
	if err := r.open(); err != nil {
		return err
	}
	n := max(min(max(need, readChunk), r.size-r.off), 0) // a file may be shorter than its header
	r.buf = slices.Grow(r.buf[:0], int(n))[:n]
	m, err := r.file.ReadAt(r.buf, r.off)
	r.buf, r.at = r.buf[:m], r.off
	if err != nil && !errors.Is(err, io.EOF) {
		r.buf = r.buf[:0]
		return err
	}
	r.l.mu.Lock()
	r.seg.fails = 0
	r.l.mu.Unlock()
	return nil
}

func (r *Reader) open() error {
	if r.file != nil {
		return nil
	}
	f, err := r.l.fs.OpenFile(filepath.Join(r.l.dir, r.seg.name), os.O_RDONLY, 0)
	if err == nil {
		r.file = f
	}
	return err
}

// learnSize asks for the size of a segment that could not be read at Open.
func (r *Reader) learnSize() error {
	if err := r.open(); err != nil {
		return err
	}
	size, err := r.file.Size()
	if err != nil {
		return err
	}
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.size = max(size, headerSize)
	if r.seg.size == 0 && slices.Contains(r.l.segs, r.seg) {
		r.seg.size = r.size
		r.l.bytes += r.size
	}
	return nil
}

// skipDamage goes to the next undamaged record, or to the segment's end.
func (r *Reader) skipDamage() error {
	if err := r.read(r.size - r.off); err != nil {
		return err
	}
	if d := resync(r.buf, r.index); d >= 0 {
		index, _, _ := parseRecord(r.buf[d:], r.index)
		r.tell(r.off, min(r.seg.first+uint64(index), r.end), nil)
		r.off += int64(d)
		r.index = index
		return nil
	}
	r.tell(r.off, r.end, nil)
	r.seq = r.end
	return nil
}

// failed counts a read error and gives the segment up after some.
func (r *Reader) failed(err error) error {
	r.l.mu.Lock()
	r.seg.fails++
	fails := r.seg.fails
	r.l.mu.Unlock()
	if fails < readFails {
		err = fmt.Errorf("spool %s: read %s: %w", filepath.Base(r.l.dir), r.seg.name, err)
		r.leave()
		return err
	}
	r.tell(r.off, r.end, err)
	r.seq = r.end
	return nil
}

// tell reports that the records before seq are not there, once.
func (r *Reader) tell(off int64, seq uint64, err error) {
	l := r.l
	l.mu.Lock()
	from := max(r.seg.first+uint64(r.index), r.seq)
	name, told := r.seg.name, off < r.seg.told
	r.seg.told = max(r.seg.told, off+1)
	l.mu.Unlock()
	if told || l.opt.OnDamage == nil {
		return
	}
	l.opt.OnDamage(Damage{Segment: name, Offset: off, Records: max(seq, from) - from, Err: err})
}
