package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// parts is how many logs a full set has: the oldest samples leave a log at a
// time.
const parts = 16

// limits are the bounds of a set.
type limits struct {
	samples int
	bytes   int64
}

// segment is one log and its pictures.
type segment struct {
	number  int
	samples int
	bytes   int64
}

// writer appends to a set. It is for one goroutine and one process.
type writer struct {
	dir      string
	segments []segment // oldest first; the last is open where file is not nil
	file     *os.File
	size     int64 // of the file: all of it whole lines
	header   Header
	samples  int
	bytes    int64
	dirty    bool
}

// openWriter makes the folder where it is missing, takes stock and cleans up
// after a crash: a torn line at the end, pictures that no line names.
func openWriter(dir string) (*writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	w := &writer{dir: dir}
	numbers, err := logs(dir)
	if err != nil {
		return nil, err
	}
	for i, n := range numbers {
		s, header, whole, named, err := stock(dir, n)
		if err != nil {
			return nil, err
		}
		w.segments = append(w.segments, s)
		w.samples, w.bytes = w.samples+s.samples, w.bytes+s.bytes
		if i < len(numbers)-1 {
			continue
		}
		if err := sweep(pictures(dir, n), named); err != nil {
			return nil, err
		}
		if header == nil { // not even its first line is whole
			return w, nil
		}
		if w.file, err = os.OpenFile(filepath.Join(dir, logName(n)), os.O_WRONLY, 0); err != nil {
			return nil, err
		}
		if err := w.cut(whole); err != nil {
			return nil, errors.Join(err, w.file.Close())
		}
		w.header = *header
	}
	return w, nil
}

// logs are the numbers of a set's logs in order.
func logs(dir string) (list []int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if n, ok := logNumber(e.Name()); ok && e.Type().IsRegular() {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list, nil
}

// stock counts a log. whole is where its whole lines end, named are the files
// of its pictures.
func stock(dir string, n int) (s segment, header *Header, whole int64, named map[string]bool, err error) {
	s.number = n
	f, err := os.Open(filepath.Join(dir, logName(n)))
	if err != nil {
		return s, nil, 0, nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	named = map[string]bool{}
	for {
		b, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // what is left is torn
		}
		if err != nil {
			return s, nil, 0, nil, err
		}
		b = bytes.TrimSuffix(b, []byte("\n"))
		if header == nil {
			header = &Header{}
			if unframe(b, header) != nil {
				header = nil
				break
			}
		} else {
			var l line
			if unframe(b, &l) == nil {
				s.samples++
				s.bytes += int64(l.Bytes)
				if l.File != "" {
					named[l.File] = true
				}
			}
		}
		whole += int64(len(b)) + 1
	}
	s.bytes += whole
	return s, header, whole, named, nil
}

// sweep removes the pictures that no line names.
func sweep(dir string, named map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !named[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// cut drops what is in the open log behind its whole lines.
func (w *writer) cut(whole int64) error {
	w.size = whole
	if err := w.file.Truncate(whole); err != nil {
		return err
	}
	_, err := w.file.Seek(whole, io.SeekStart)
	return err
}

// errTooLarge is of a sample that alone is over the bounds of its set.
var errTooLarge = errors.New("the sample is larger than max_bytes")

// append writes one sample; evicted are those that left for it.
func (w *writer) append(h Header, most limits, s *Sample) (evicted int, err error) {
	l := line{Time: s.Time, Begin: s.Begin, Source: s.Source, ID: s.ID, Label: s.Label, Values: s.Values}
	if h.Pictures {
		l.Bytes, l.CRC = len(s.Picture), checksum(s.Picture)
		l.File = "00000000" + extension(s.Picture) // as long as the name will be
	}
	b, err := frame(l)
	if err != nil {
		return 0, err
	}
	head, err := frame(h)
	if err != nil {
		return 0, err
	}
	need := int64(len(b) + len(s.Picture))
	if need+int64(len(head)) > most.bytes {
		return 0, errTooLarge
	}
	if last := w.last(); w.file == nil || !w.header.equal(h) || last.samples > 0 && (last.samples >= max(1, most.samples/parts) || last.bytes+need > most.bytes/parts) {
		if err := w.rotate(h, head); err != nil {
			return 0, err
		}
	}
	for len(w.segments) > 1 && (w.samples+1 > most.samples || w.bytes+need > most.bytes) {
		n, err := w.evict()
		if evicted += n; err != nil {
			return evicted, err
		}
	}
	last := w.last()
	if h.Pictures {
		l.File = fmt.Sprintf("%08d%s", last.samples+1, extension(s.Picture))
		if err := w.picture(last.number, l.File, s.Picture); err != nil {
			return evicted, err
		}
		if b, err = frame(l); err != nil {
			return evicted, err
		}
	}
	if _, err := w.file.Write(b); err != nil {
		return evicted, errors.Join(err, w.cut(w.size))
	}
	w.dirty = true
	w.size += int64(len(b))
	last.samples++
	last.bytes += need
	w.samples++
	w.bytes += need
	return evicted, nil
}

func (w *writer) last() *segment {
	if len(w.segments) == 0 {
		return nil
	}
	return &w.segments[len(w.segments)-1]
}

// rotate begins a new log.
func (w *writer) rotate(h Header, head []byte) error {
	if err := w.close(); err != nil {
		return err
	}
	n := 1
	if last := w.last(); last != nil {
		n = last.number + 1
	}
	f, err := os.OpenFile(filepath.Join(w.dir, logName(n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(head); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	w.file, w.size, w.header = f, int64(len(head)), h
	w.segments = append(w.segments, segment{number: n, bytes: w.size})
	w.bytes += w.size
	return nil
}

// evict removes the oldest log and its pictures.
func (w *writer) evict() (samples int, err error) {
	s := w.segments[0]
	if err := os.Remove(filepath.Join(w.dir, logName(s.number))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	w.segments = slices.Delete(w.segments, 0, 1)
	w.samples -= s.samples
	w.bytes -= s.bytes
	return s.samples, os.RemoveAll(pictures(w.dir, s.number))
}

// picture writes one beside its place and renames it: the folder never shows
// a torn one.
func (w *writer) picture(n int, name string, b []byte) error {
	path := filepath.Join(pictures(w.dir, n), name)
	err := os.WriteFile(path+".part", b, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(path+".part", b, 0o600)
		}
	}
	if err == nil {
		err = os.Rename(path+".part", path)
	}
	if err != nil {
		_ = os.Remove(path + ".part") // it may not be there
	}
	return err
}

// extension of an encoded picture's file.
func extension(picture []byte) string {
	switch {
	case bytes.HasPrefix(picture, []byte("\x89PNG")):
		return ".png"
	case bytes.HasPrefix(picture, []byte("BM")):
		return ".bmp"
	}
	return ".jpg"
}

// sync brings the lines to the disk. Pictures have checksums: one that a power
// cut tore is left out by who reads.
func (w *writer) sync() error {
	if w.file == nil || !w.dirty {
		return nil
	}
	w.dirty = false
	return w.file.Sync()
}

// close ends the open log.
func (w *writer) close() error {
	if w.file == nil {
		return nil
	}
	err := w.sync()
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return err
}

// isSet says whether a folder holds a set.
func isSet(dir string) bool {
	list, err := logs(dir)
	return err == nil && len(list) > 0
}

// safeName is a class as the name of a folder.
func safeName(class string) string {
	class = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r < ' ' {
			return '-'
		}
		return r
	}, class)
	if class == "" || strings.HasPrefix(class, ".") {
		return "_" + class
	}
	return class
}
