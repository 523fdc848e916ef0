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
	"time"

	"edgegateway/sensors"
)

// Is says whether a folder holds a recorded or imported set.
func Is(dir string) bool { return isSet(dir) }

// Each hands every sample of a set, the oldest first, with the header of its
// log, to take, until that fails. A set may be written meanwhile. Lines and
// pictures that are torn or damaged are counted, not shown. What a sample
// holds is its own.
func Each(dir string, take func(h Header, s Sample) error) (damaged int, err error) {
	return scan(dir, func(h Header, l line, folder string) error {
		s := Sample{Time: l.Time, Begin: l.Begin, Source: l.Source, ID: l.ID, Label: l.Label, Values: l.Values}
		if h.Pictures {
			var err error
			if s.Picture, err = readPicture(folder, l); err != nil {
				return err
			}
		}
		return take(h, s)
	})
}

// readPicture gives a picture as it was written, or errTorn.
func readPicture(folder string, l line) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(folder, filepath.Base(l.File)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errTorn
	}
	if err == nil && (len(b) != l.Bytes || checksum(b) != l.CRC) {
		return nil, errTorn
	}
	return b, err
}

// scan reads the lines of all logs; folder is where a line's picture is.
// errTorn of take counts the line as damaged.
func scan(dir string, take func(h Header, l line, folder string) error) (damaged int, err error) {
	numbers, err := logs(dir)
	if err != nil {
		return 0, err
	}
	if len(numbers) == 0 {
		return 0, fmt.Errorf("%s holds no data set", dir)
	}
	for _, n := range numbers {
		torn, err := scanLog(dir, n, take)
		damaged += torn
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it left meanwhile
			return damaged, err
		}
	}
	return damaged, nil
}

func scanLog(dir string, n int, take func(Header, line, string) error) (damaged int, err error) {
	f, err := os.Open(filepath.Join(dir, logName(n)))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	var header *Header
	for {
		b, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return damaged, nil // a line without its end is one under way
		}
		if err != nil {
			return damaged, fmt.Errorf("%s: %w", f.Name(), err)
		}
		if header == nil {
			header = &Header{}
			if unframe(b, header) != nil {
				return damaged + 1, nil
			}
			continue
		}
		var l line
		if unframe(b, &l) != nil {
			damaged++
			continue
		}
		if err := take(*header, l, pictures(dir, n)); errors.Is(err, errTorn) {
			damaged++
		} else if err != nil {
			return damaged, err
		}
	}
}

// readLine reads a line without its end, up to maxLine.
func readLine(in *bufio.Reader) (b []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		b = append(b, part...)
		if err == nil {
			return bytes.TrimSuffix(b, []byte("\n")), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(b) > maxLine {
			return nil, errors.New("holds a line that is too long")
		}
	}
}

// Info is a set as a person looks at it.
type Info struct {
	Name     string    `json:"name"`
	Dir      string    `json:"dir"`
	Kind     string    `json:"kind"` // numbers or pictures
	Samples  int       `json:"samples"`
	Bytes    int64     `json:"bytes"`
	Classes  []Class   `json:"classes"` // in the order of their names; "" for samples without a label
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Damaged  int       `json:"damaged,omitempty"`
	Features []Feature `json:"features,omitempty"`
	Readings bool      `json:"readings,omitempty"` // samples are windows of readings with these features
}

// Class is one label and its samples.
type Class struct {
	Label   string `json:"label"`
	Samples int    `json:"samples"`
}

// Feature is a value by name and the range of what was recorded.
type Feature struct {
	Name string  `json:"name"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Look counts a set; Features are those of its newest header.
func Look(dir string) (Info, error) {
	in := Info{Name: nameOf(dir), Dir: dir, Kind: "numbers"}
	counts := map[string]int{}
	var header Header
	var err error
	in.Damaged, err = scan(dir, func(h Header, l line, _ string) error {
		if in.Samples == 0 || !h.equal(header) {
			header = h
			in.Features = nil
		}
		in.Samples++
		counts[l.Label]++
		if in.First.IsZero() || l.Time.Before(in.First) {
			in.First = l.Time
		}
		if l.Time.After(in.Last) {
			in.Last = l.Time
		}
		in.ranges(h, l.Values)
		return nil
	})
	if err != nil {
		return in, err
	}
	in.Readings = header.Readings
	if header.Pictures {
		in.Kind = "pictures"
	}
	for label, n := range counts {
		in.Classes = append(in.Classes, Class{label, n})
	}
	slices.SortFunc(in.Classes, func(a, b Class) int { return compareLabels(a.Label, b.Label) })
	in.Bytes, err = size(dir)
	return in, err
}

// ranges widens the ranges of the features by a sample.
func (in *Info) ranges(h Header, values []float64) {
	for i, v := range values {
		k := i
		if h.Readings && len(h.Features) > 0 {
			k = i % len(h.Features)
		}
		if k >= len(in.Features) {
			name := fmt.Sprint(k)
			if k < len(h.Features) {
				name = h.Features[k]
			}
			in.Features = append(in.Features, Feature{name, v, v})
			continue
		}
		f := &in.Features[k]
		f.Low, f.High = min(f.Low, v), max(f.High, v)
	}
}

// size is the bytes of all files of a set.
func size(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return ignoreGone(err)
	})
	return total, err
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// List looks at all sets below a gateway's data folder.
func List(data string) (list []Info, err error) {
	entries, err := os.ReadDir(filepath.Join(data, "datasets"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		dir := filepath.Join(data, "datasets", e.Name())
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || !isSet(dir) { // an import that was killed, or still runs
			continue
		}
		in, err := Look(dir)
		if err != nil {
			return nil, err
		}
		list = append(list, in)
	}
	return list, nil
}

// Entry is a sample and, for a picture, its file and size.
type Entry struct {
	Sample
	File   string
	Format string
	W, H   int
}

// Newest gives the last n samples of a set, the oldest of them first. Pictures
// are read, to see that they are whole.
func Newest(dir string, n int) (list []Entry, err error) {
	type at struct {
		line
		folder string
	}
	var last []at
	if _, err := scan(dir, func(_ Header, l line, folder string) error {
		if last = append(last, at{l, folder}); len(last) > n {
			last = last[1:]
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, l := range last {
		e := Entry{Sample: Sample{Time: l.Time, Begin: l.Begin, Source: l.Source, ID: l.ID, Label: l.Label, Values: l.Values}}
		if l.File != "" {
			e.File = filepath.Join(l.folder, filepath.Base(l.File))
			if e.Picture, err = readPicture(l.folder, l.line); err != nil {
				return nil, fmt.Errorf("%s: %w", e.File, err)
			}
			e.Format, e.W, e.H, _ = sensors.ImageInfo(e.Picture) // it was a picture for the stream
		}
		list = append(list, e)
	}
	return list, nil
}
