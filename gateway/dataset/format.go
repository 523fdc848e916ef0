package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sample is one of a set.
type Sample struct {
	Time    time.Time
	Begin   time.Time // of a window's first reading; zero elsewhere
	Source  string
	ID      string // of the result it was recorded with
	Label   string // "" for none
	Values  []float64
	Picture []byte // encoded, as it came
}

// Header is what all samples of a log have in common, its first line.
type Header struct {
	// Features are the names of the values, nil where they have none; where
	// Readings is set, those of one reading, of which a sample holds many.
	Features []string `json:"features,omitempty"`
	Readings bool     `json:"readings,omitempty"`
	Pictures bool     `json:"pictures,omitempty"`
}

func (h Header) equal(o Header) bool {
	return h.Pictures == o.Pictures && h.Readings == o.Readings && slices.Equal(h.Features, o.Features)
}

// line is a sample in a log.
type line struct {
	Time   time.Time `json:"time"`
	Begin  time.Time `json:"begin,omitzero"`
	Source string    `json:"source,omitempty"`
	ID     string    `json:"id,omitempty"`
	Label  string    `json:"label,omitempty"`
	Values []float64 `json:"values,omitempty"`
	File   string    `json:"file,omitempty"` // of the picture, in the log's folder
	Bytes  int       `json:"bytes,omitempty"`
	CRC    uint32    `json:"crc,omitempty"` // of its bytes
}

// maxLine is the longest line of a log: a window of a million values has less.
const maxLine = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// frame makes a line of a log: the checksum of the JSON, the JSON, the end.
func frame(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err // a value that is not finite
	}
	return append(append(fmt.Appendf(nil, "%08x ", checksum(b)), b...), '\n'), nil
}

var errTorn = errors.New("a torn line")

// unframe reads one, without its end, into v.
func unframe(b []byte, v any) error {
	sum, text, ok := bytes.Cut(b, []byte(" "))
	if !ok || len(sum) != 8 {
		return errTorn
	}
	if want, err := strconv.ParseUint(string(sum), 16, 32); err != nil || uint32(want) != checksum(text) {
		return errTorn
	}
	return json.Unmarshal(text, v)
}

// Dir is the folder of a set below the gateway's data folder.
func Dir(data, name string) string {
	name = url.PathEscape(name)
	if strings.HasPrefix(name, ".") {
		name = "%2E" + name[1:]
	}
	return filepath.Join(data, "datasets", name)
}

// nameOf is the name of a set by its folder.
func nameOf(dir string) string {
	base := filepath.Base(dir)
	if name, err := url.PathUnescape(base); err == nil {
		return name
	}
	return base
}

const logSuffix = ".log"

func logName(n int) string { return fmt.Sprintf("%08d%s", n, logSuffix) }

// logNumber is the number of a log by its file's name.
func logNumber(name string) (int, bool) {
	text, ok := strings.CutSuffix(name, logSuffix)
	n, err := strconv.Atoi(text)
	return n, ok && err == nil && n > 0 && logName(n) == name
}

// pictures is the folder of a log's pictures.
func pictures(dir string, n int) string { return filepath.Join(dir, fmt.Sprintf("%08d", n)) }
