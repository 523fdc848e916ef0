package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"edgegateway/internal/offer"
)

// incoming is one file on its way in, in a folder of its own:
//
//	file        of its full length, with holes
//	have-8192   a bit for each 8192 bytes that are there
//	chunk       the largest chunk that is asked for, after cut links
//
// A bit is set on disk after the bytes that it stands for are synced, so that
// after a power cut what it says is there. Damage is found by the hash of the
// whole, and then all of it is fetched again.
type incoming struct {
	dir   string
	file  offer.File
	data  *os.File
	have  *os.File
	bits  []byte
	unit  int
	left  int          // units that are not there
	first int          // no unit before it is missing
	asked map[int]bool // units that are under way
	level int          // index of the largest size that is asked for
}

// piece is one chunk: its size, number, and length.
type piece struct{ size, n, length int }

// openIncoming makes or continues the folder dir for f.
func openIncoming(dir string, f offer.File) (*incoming, error) {
	t := &incoming{dir: dir, file: f, unit: f.Unit(), asked: map[int]bool{}}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("incoming file: %w", err), t.close())
	}
	return t, nil
}

func (t *incoming) open() (err error) {
	units := t.file.Count(t.unit)
	name := "have-" + strconv.Itoa(t.unit)
	// Another unit's bits say nothing of these: the offer is another one.
	if others, _ := filepath.Glob(filepath.Join(t.dir, "have-*")); len(others) > 0 && filepath.Base(others[0]) != name {
		if err := os.RemoveAll(t.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	if t.data, err = os.OpenFile(t.path(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := t.data.Truncate(t.file.Bytes); err != nil {
		return err
	}
	if t.have, err = os.OpenFile(filepath.Join(t.dir, name), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	t.bits = make([]byte, (units+7)/8)
	if _, err := io.ReadFull(t.have, t.bits); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if err := errors.Join(t.data.Sync(), t.have.Sync(), syncDir(t.dir), syncDir(filepath.Dir(t.dir))); err != nil {
		return err
	}
	for u := range units {
		if !t.has(u) {
			t.left++
		}
	}
	size := 0
	if b, err := os.ReadFile(filepath.Join(t.dir, "chunk")); err == nil {
		size, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	for sizes := t.file.Chunks; t.level < len(sizes)-1; t.level++ {
		if size == 0 && worthwhile(sizes[t.level], sizes[t.level+1], unknownLink) || size > 0 && sizes[t.level] <= size {
			break
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (t *incoming) path() string { return filepath.Join(t.dir, "file") }

func (t *incoming) close() error {
	var errs []error
	for _, f := range []*os.File{t.data, t.have} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func (t *incoming) remove() error { return os.RemoveAll(t.dir) }

func (t *incoming) has(unit int) bool { return t.bits[unit/8]&(1<<(unit%8)) != 0 }

// bytes is how many of the file's bytes are there.
func (t *incoming) bytes() int64 {
	last := t.file.Count(t.unit) - 1
	n := int64(last+1-t.left) * int64(t.unit)
	if t.has(last) {
		n -= int64(t.unit - t.file.Length(t.unit, last))
	}
	return n
}

// next is the first piece that is neither there nor under way, of the largest
// size up to most of which nothing is; ok is false when there is none.
func (t *incoming) next(most int) (p piece, ok bool) {
	units := t.file.Count(t.unit)
	for ; t.first < units && t.has(t.first); t.first++ {
	}
	for first := t.first; first < units; first++ {
		if !t.missing(first) {
			continue
		}
		for _, size := range t.file.Chunks[t.level:] {
			if per := size / t.unit; (size <= most || size == t.unit) && first%per == 0 && t.allMissing(first, first+per) {
				return piece{size: size, n: first / per, length: t.file.Length(size, first/per)}, true
			}
		}
	}
	return piece{}, false
}

func (t *incoming) allMissing(first, end int) bool {
	for u := first; u < min(end, t.file.Count(t.unit)); u++ {
		if !t.missing(u) {
			return false
		}
	}
	return true
}

func (t *incoming) missing(unit int) bool { return !t.has(unit) && !t.asked[unit] }

// mark notes that a piece is under way, or no more.
func (t *incoming) mark(p piece, asked bool) {
	per := p.size / t.unit
	for u := p.n * per; u < min((p.n+1)*per, t.file.Count(t.unit)); u++ {
		if asked {
			t.asked[u] = true
		} else {
			delete(t.asked, u)
		}
	}
}

// put writes a piece that arrived; it counts once it is on disk.
func (t *incoming) put(p piece, b []byte) error {
	t.mark(p, false)
	if _, err := t.data.WriteAt(b, int64(p.n)*int64(p.size)); err != nil {
		return fmt.Errorf("incoming file: %w", err)
	}
	if err := t.data.Sync(); err != nil {
		return fmt.Errorf("incoming file: %w", err)
	}
	per := p.size / t.unit
	first, end := p.n*per, min((p.n+1)*per, t.file.Count(t.unit))
	for u := first; u < end; u++ {
		if !t.has(u) {
			t.left--
		}
		t.bits[u/8] |= 1 << (u % 8)
	}
	if _, err := t.have.WriteAt(t.bits[first/8:(end-1)/8+1], int64(first/8)); err != nil {
		return fmt.Errorf("incoming file: %w", err)
	}
	if err := t.have.Sync(); err != nil {
		return fmt.Errorf("incoming file: %w", err)
	}
	return nil
}

// forGood is an error that stays: another try would give it again.
type forGood struct{ error }

func refuse(format string, args ...any) error { return forGood{fmt.Errorf(format, args...)} }

// check compares the whole with its hash. Where it is another, nothing of it
// can be used.
func (t *incoming) check() error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(t.data, 0, t.file.Bytes)); err != nil {
		return fmt.Errorf("incoming file: %w", err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != t.file.SHA256 {
		return refuse("it is not what was offered: the %d bytes have the SHA-256 %s, not %s", t.file.Bytes, sum, t.file.SHA256)
	}
	return nil
}

// A chunk costs its topic three times and the packets around it; a link that
// breaks costs half a chunk on the average. Over links that carry so many
// bytes, the smaller of two sizes costs less where they carry less than
//
//	larger * smaller / (2 * chunkCost)
//
// which is 5 MB between 96 and 32 KiB, and 450 kB between 32 and 8 KiB.
//
// Of a link that is not known it is taken that it carries 1 MiB.
const (
	chunkCost   = 300
	unknownLink = 1 << 20
)

func worthwhile(larger, smaller int, carried int64) bool {
	return carried >= int64(larger)*int64(smaller)/(2*chunkCost)
}

// cut notes that a link broke in the middle of chunks after it carried so many
// bytes of this file: where a smaller size costs less over such links, the
// next one is asked for from now on.
func (t *incoming) cut(carried int64) {
	sizes := t.file.Chunks
	if t.level < len(sizes)-1 && !worthwhile(sizes[t.level], sizes[t.level+1], carried+int64(sizes[t.level]/2)) {
		t.setLevel(t.level + 1)
	}
}

// good notes that a link carried so many bytes already: where a larger size
// costs less over such links, it is asked for.
func (t *incoming) good(carried int64) {
	if sizes := t.file.Chunks; t.level > 0 && worthwhile(sizes[t.level-1], sizes[t.level], carried) {
		t.setLevel(t.level - 1)
	}
}

func (t *incoming) setLevel(level int) {
	t.level = level
	// It only saves bytes: no need to sync it, nor to fail without.
	_ = os.WriteFile(filepath.Join(t.dir, "chunk"), fmt.Appendln(nil, t.file.Chunks[level]), 0o600)
}
