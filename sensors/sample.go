package sensors

import (
	"errors"
	"time"
)

// Sample is what one payload held. A decoder resets it and reuses its memory.
type Sample struct {
	Time    time.Time // zero: the payload has none
	Seq     uint64
	HasSeq  bool
	Values  []float64 // in the order of the decoder's Names
	Bytes   []byte    // for input raw: tensor, the payload as it stands
	Picture []byte    // encoded; may be the payload itself
}

func (s *Sample) reset() {
	*s = Sample{Values: s.Values[:0]}
}

// Error is why a payload became no sample: a short reason to count by, and
// the text for people.
type Error struct {
	Why  string
	Text string
}

func (e *Error) Error() string { return e.Text }

// Reason gives the short reason of an error of this package, "" for others.
func Reason(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Why
	}
	return ""
}

// The reasons.
const (
	badJSON         = "bad_json"
	missingField    = "missing_field"
	notANumber      = "not_a_number"
	wrongLength     = "wrong_length"
	badCSV          = "bad_csv"
	badTime         = "bad_time"
	badPicture      = "bad_picture"
	badBase64       = "bad_base64"
	pictureTooLarge = "picture_too_large"
	tooLarge        = "too_large"
	tornChunks      = "torn_chunks"
	noSource        = "no_source"
)
