package offer

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxMessage is what a message of a push takes at most, its topic included:
// what AWS IoT takes.
const MaxMessage = 128 << 10

// Limits of an offer.
const (
	MaxBytes  = 16 << 10  // of an offer or a report as JSON
	maxName   = 64        // bytes of a name, a version, an id
	maxTopic  = 200       // bytes of a chunk's topic without size and number
	maxFiles  = 8         // ways to get one version
	maxSizes  = 8         // sizes of chunks of a file
	maxUnits  = 1 << 20   // chunks of the smallest size
	least     = 1 << 10   // bytes of a chunk
	MaxChunk  = 127 << 10 // bytes of a chunk, so that its topic fits beside it
	OffersAt  = "/models/offers/"
	ReportsAt = "/models/reports/"
)

// What a gateway is to do with a version once it has it.
const (
	Keep     = ""         // nothing; somebody activates it later
	Rollout  = "rollout"  // trial, shadow and canary, as its configuration says
	Activate = "activate" // trial, then all of it
)

// Offer names a version of a model that waits at the broker.
type Offer struct {
	ID      string    `json:"id"` // of this push; who reports says it again
	Name    string    `json:"name"`
	Version string    `json:"version,omitempty"` // "": the gateway numbers it
	Model   string    `json:"model"`             // SHA-256 of the .tflite, hexadecimal
	Then    string    `json:"then,omitempty"`    // Keep, Rollout or Activate
	Until   time.Time `json:"until,omitzero"`    // it counts no more after that
	Files   []File    `json:"files"`             // ways to get it, the best first
}

// File is a file in chunks at the broker: a bundle, a .tflite or a packed model.
type File struct {
	SHA256 string `json:"sha256"` // of all its bytes, hexadecimal
	Bytes  int64  `json:"bytes"`
	Base   string `json:"base,omitempty"` // SHA-256 of the .tflite that it builds on
	Topic  string `json:"topic"`          // before the chunks' size and number; ends in SHA256
	Chunks []int  `json:"chunks"`         // their sizes, largest first; each is a multiple of the next
}

// ChunkTopic is where chunk n of a size is retained.
func (f *File) ChunkTopic(size, n int) string { return fmt.Sprintf("%s/%d/%d", f.Topic, size, n) }

// Count is how many chunks of a size there are.
func (f *File) Count(size int) int { return int((f.Bytes + int64(size) - 1) / int64(size)) }

// Length is how long chunk n of a size is: the last may be shorter.
func (f *File) Length(size, n int) int { return int(min(int64(size), f.Bytes-int64(n)*int64(size))) }

// Unit is the smallest size.
func (f *File) Unit() int { return f.Chunks[len(f.Chunks)-1] }

// Over says whether an offer counts no more.
func (o *Offer) Over(now time.Time) bool { return !o.Until.IsZero() && now.After(o.Until) }

// Chunks are the topics of the chunks of all files, each once for a file.
func (o *Offer) Chunks() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range o.Files {
			f := &o.Files[i]
			for _, size := range f.Chunks {
				for n := range f.Count(size) {
					if !yield(f.ChunkTopic(size, n)) {
						return
					}
				}
			}
		}
	}
}

// Parse reads an offer and checks it; what it does not know it passes over.
func Parse(payload []byte) (*Offer, error) {
	var o Offer
	if err := read(payload, &o); err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	return &o, nil
}

func read(payload []byte, v any) error {
	if len(payload) > MaxBytes {
		return fmt.Errorf("%d bytes are over %d", len(payload), MaxBytes)
	}
	return json.Unmarshal(payload, v)
}

// Validate says what is wrong with an offer.
func (o *Offer) Validate() error {
	if !level(o.ID) {
		return fmt.Errorf("id: %.80q is no name of up to %d bytes", o.ID, maxName)
	}
	if !level(o.Name) {
		return fmt.Errorf("name: %.80q is no name of up to %d bytes without / + # and $", o.Name, maxName)
	}
	if o.Version != "" && !level(o.Version) {
		return fmt.Errorf("version: %.80q is no version", o.Version)
	}
	if !isSum(o.Model) {
		return fmt.Errorf("model: %.80q is no SHA-256", o.Model)
	}
	if o.Then != Keep && o.Then != Rollout && o.Then != Activate {
		return fmt.Errorf("then: %.80q is neither %s nor %s", o.Then, Rollout, Activate)
	}
	if len(o.Files) == 0 || len(o.Files) > maxFiles {
		return fmt.Errorf("files: there are %d, not 1 to %d", len(o.Files), maxFiles)
	}
	for i := range o.Files {
		if err := o.Files[i].validate(); err != nil {
			return fmt.Errorf("files[%d].%w", i, err)
		}
	}
	return nil
}

func (f *File) validate() error {
	if !isSum(f.SHA256) {
		return fmt.Errorf("sha256: %.80q is no SHA-256", f.SHA256)
	}
	if f.Base != "" && !isSum(f.Base) {
		return fmt.Errorf("base: %.80q is no SHA-256", f.Base)
	}
	if len(f.Topic) > maxTopic || !strings.HasSuffix(f.Topic, "/"+f.SHA256) || strings.HasPrefix(f.Topic, "$") ||
		strings.ContainsAny(f.Topic, "+#\x00") || !utf8.ValidString(f.Topic) {
		return fmt.Errorf("topic: %.80q is no topic of up to %d bytes that ends in /%s", f.Topic, maxTopic, f.SHA256)
	}
	if err := Sizes(f.Chunks); err != nil {
		return fmt.Errorf("chunks: %w", err)
	}
	if most := int64(f.Unit()) * maxUnits; f.Bytes < 1 || f.Bytes > most {
		return fmt.Errorf("bytes: %d is not in 1..%d, %d chunks of %d", f.Bytes, most, maxUnits, f.Unit())
	}
	return nil
}

// Sizes says what is wrong with a list of chunk sizes.
func Sizes(sizes []int) error {
	if len(sizes) == 0 || len(sizes) > maxSizes {
		return fmt.Errorf("there are %d sizes, not 1 to %d", len(sizes), maxSizes)
	}
	for i, size := range sizes {
		if size < least || size > MaxChunk {
			return fmt.Errorf("%d is not in %d..%d", size, least, MaxChunk)
		}
		if i > 0 && (sizes[i-1] <= size || sizes[i-1]%size != 0) {
			return fmt.Errorf("%d stands before %d and is no multiple of it", sizes[i-1], size)
		}
	}
	return nil
}

// level says whether s is fit to be a level of a topic and a part of a file's
// name.
func level(s string) bool {
	return s != "" && len(s) <= maxName && s != "." && s != ".." && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`/\+#$`, r) })
}

func isSum(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && strings.ToLower(s) == s
}

// The states that a report names. A gateway may say more: what its store calls
// the stage of the version.
const (
	Waiting   = "waiting"   // it cannot go on for now; Why says what it lacks
	Fetching  = "fetching"  // Bytes of Of are there
	Got       = "got"       // it is in the store
	Refused   = "refused"   // it is not, for good: Why
	Wanted    = "wanted"    // it will be tried
	Live      = "live"      // it answers
	Failed    = "failed"    // it was tried and does not: Why
	Withdrawn = "withdrawn" // somebody there does not want it any more
	Retired   = "retired"   // it did, and another one does now
)

// Report is what a gateway says of an offer.
type Report struct {
	ID      string    `json:"id"` // the offer's
	Gateway string    `json:"gateway"`
	Name    string    `json:"name"`
	Version string    `json:"version,omitempty"`
	State   string    `json:"state"`
	Why     string    `json:"why,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"` // of the file that are there
	Of      int64     `json:"of,omitempty"`    // of the file
	Chunk   int       `json:"chunk,omitempty"` // the largest that is asked for now
	Links   int       `json:"links,omitempty"` // connections that it took so far, since the gateway started
	At      time.Time `json:"at"`
}

// Encode is the JSON of an offer or a report.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain fields
	}
	return b
}

// ParseReport reads a report.
func ParseReport(payload []byte) (*Report, error) {
	var r Report
	if err := read(payload, &r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if r.State == "" {
		return nil, errors.New("report: it names no state")
	}
	return &r, nil
}

// Done says whether a report is the last word on an offer that wants then.
func (r *Report) Done(then string) bool {
	switch r.State {
	case Refused, Failed, Live, Withdrawn, Retired:
		return true
	case Got:
		return then == Keep
	}
	return false
}
