package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Step is told how many samples are done; its error ends the work. It may be
// nil.
type Step func(done int) error

// ExportCSV writes a set of numbers as a table: time, source, label, then the
// values under their names. Samples of another form than the first are left
// out and counted.
func ExportCSV(dir string, to io.Writer, step Step) (rows, left int, err error) {
	out := csv.NewWriter(bufio.NewWriterSize(to, 1<<16))
	var head []string
	var first Header
	left, err = Each(dir, func(h Header, s Sample) error {
		if h.Pictures {
			return fmt.Errorf("%s holds pictures; they are exported to a folder", dir)
		}
		if head == nil {
			first = h
			head = columns(h, len(s.Values))
			if err := out.Write(head); err != nil {
				return err
			}
		}
		if !h.equal(first) || len(s.Values)+3 != len(head) {
			return errTorn
		}
		row := []string{s.Time.UTC().Format(time.RFC3339Nano), s.Source, s.Label}
		for _, v := range s.Values {
			row = append(row, strconv.FormatFloat(v, 'g', -1, 64))
		}
		if rows++; step != nil {
			if err := step(rows); err != nil {
				return err
			}
		}
		return out.Write(row)
	})
	out.Flush()
	return rows, left, errors.Join(err, out.Error())
}

// columns names the columns of n values: value0 and on where they have no
// names, x[-1] and x[0] in a window of two readings.
func columns(h Header, n int) []string {
	list := []string{"time", "source", "label"}
	for i := range n {
		switch w := len(h.Features); {
		case h.Readings && w > 0:
			list = append(list, fmt.Sprintf("%s[%d]", h.Features[i%w], i/w-n/w+1))
		case w == n && !h.Readings:
			list = append(list, h.Features[i])
		default:
			list = append(list, "value"+strconv.Itoa(i))
		}
	}
	return list
}

// ExportPictures writes the pictures as they came to a folder for each class;
// those without a label to the folder "unlabelled".
func ExportPictures(dir, to string, step Step) (files, damaged int, err error) {
	damaged, err = Each(dir, func(h Header, s Sample) error {
		if !h.Pictures {
			return fmt.Errorf("%s holds numbers; they are exported to a .csv file", dir)
		}
		class := "unlabelled"
		if s.Label != "" {
			class = safeName(s.Label)
		}
		if err := os.MkdirAll(filepath.Join(to, class), 0o755); err != nil {
			return err
		}
		// O_EXCL below: nothing that is there already is overwritten.
		name := s.Time.UTC().Format("20060102T150405.000000") + "-" + strconv.Itoa(files) + extension(s.Picture)
		f, err := os.OpenFile(filepath.Join(to, class, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(s.Picture)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if files++; step != nil {
			return step(files)
		}
		return nil
	})
	return files, damaged, err
}
