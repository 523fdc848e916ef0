package sensors

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// Assembler joins pictures that come in pieces: on <topic>/start, chunk, end,
// or on image (pieces) and image_end. It is bounded in bytes, in pictures
// under way and in the time each of them has. It is for many goroutines.
type Assembler struct {
	max     int // bytes of one picture
	timeout time.Duration

	mu   sync.Mutex
	open map[string]assembly // by topic without its last level
	held int                 // bytes of all of them
}

type assembly struct {
	data  []byte
	begun time.Time
}

const (
	maxOpen = 64 // pictures under way
	maxHeld = 4  // times max: bytes of all pictures under way
)

// NewAssembler makes one with the bounds of a checked configuration.
func NewAssembler(cfg InputConfig) *Assembler {
	return &Assembler{max: cfg.MaxBytes, timeout: cfg.ChunkTimeout, open: map[string]assembly{}}
}

// ChunkSource is the source without the level that says which piece it is.
func ChunkSource(source string) string {
	base, last := cutLast(source)
	switch last {
	case "start", "chunk", "end", "image", "image_end":
		return base
	}
	return source
}

func cutLast(topic string) (base, last string) {
	if i := strings.LastIndexByte(topic, '/'); i >= 0 {
		return topic[:i], topic[i+1:]
	}
	return "", topic
}

// Add takes a piece and gives the payload that is whole with it, the caller's
// own; one on a topic of another name is whole as it stands. With an error
// about an earlier picture the piece itself was taken all the same. Errors are
// *Error.
func (a *Assembler) Add(topic string, payload []byte) (whole []byte, complete bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	base, last := cutLast(topic)
	now := time.Now()
	under, ok := a.open[base]
	if late := now.Sub(under.begun); ok && late >= a.timeout {
		a.drop(base)
		err, ok = torn("a picture of %d bytes was begun %v ago and is not complete", len(under.data), late.Round(time.Millisecond)), false
	}
	switch last {
	case "start":
		if ok {
			a.drop(base)
			err = torn("a picture of %d bytes was not ended before the next began", len(under.data))
		}
		if announces(payload) {
			payload = nil
		}
	case "image":
		if ok && sniff(payload) != "" {
			a.drop(base)
			err = torn("a picture of %d bytes was not ended before the next began", len(under.data))
		}
	case "chunk":
		if err != nil {
			return nil, false, err
		}
		if !ok {
			return nil, false, torn("a piece came before its start")
		}
	case "end", "image_end":
		if err != nil {
			return nil, false, err
		}
		if !ok {
			return nil, false, torn("an end came without a start")
		}
		a.drop(base)
		if len(under.data)+len(payload) > a.max {
			return nil, false, a.tooLarge()
		}
		return append(under.data, payload...), true, nil
	default:
		return payload, true, nil // a whole picture on a topic of its own
	}
	if putErr := a.put(base, payload, now); putErr != nil {
		err = putErr
	}
	return nil, false, err
}

// Late drops the pictures that were not complete in time and gives an *Error
// for each; next is when to ask again: none is late sooner.
func (a *Assembler) Late() (late []error, next time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next = a.timeout
	for base, under := range a.open {
		age := time.Since(under.begun)
		if age < a.timeout {
			next = min(next, a.timeout-age)
			continue
		}
		a.drop(base)
		late = append(late, torn("topic %s: a picture of %d bytes was begun %v ago and is not complete", base, len(under.data), age.Round(time.Millisecond)))
	}
	return late, next
}

// Open is how many pictures are under way.
func (a *Assembler) Open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open)
}

// announces says whether the payload of a start tells about the picture (a
// word, a size, a JSON object) and is no part of it.
func announces(payload []byte) bool {
	return len(payload) < 16 || sniff(payload) == "" && gjson.ValidBytes(payload[:min(len(payload), 1024)])
}

// put appends a piece. Where that passes a bound, the picture that has been
// under way longest gives way.
func (a *Assembler) put(base string, piece []byte, now time.Time) (err error) {
	under, ok := a.open[base]
	if len(under.data)+len(piece) > a.max {
		a.drop(base)
		return a.tooLarge()
	}
	for len(a.open) > 0 && (!ok && len(a.open) >= maxOpen || a.held+len(piece) > maxHeld*a.max) {
		oldest := ""
		for name := range a.open {
			if name != base && (oldest == "" || a.open[name].begun.Before(a.open[oldest].begun)) {
				oldest = name
			}
		}
		if oldest == "" {
			break
		}
		a.drop(oldest)
		err = torn("too many pictures are under way: the oldest gives way")
	}
	if !ok {
		base = strings.Clone(base) // not the whole of a message's topic
		under.begun = now
	}
	under.data = append(under.data, piece...)
	a.held += len(piece)
	a.open[base] = under
	return err
}

func (a *Assembler) drop(base string) {
	a.held -= len(a.open[base].data)
	delete(a.open, base)
}

func (a *Assembler) tooLarge() error {
	return &Error{tooLarge, fmt.Sprintf("the pieces are over the limit of %d bytes together", a.max)}
}

func torn(format string, args ...any) error {
	return &Error{tornChunks, fmt.Sprintf(format, args...)}
}
