package fl

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText gives the hex digits, for JSON; in CBOR it is 32 bytes.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hex digits.
func (h *Hash) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("a hash of %q: %w", text, err)
	}
	return h.UnmarshalBinary(b)
}

// MarshalBinary gives the bytes of a hash.
func (h Hash) MarshalBinary() ([]byte, error) { return h[:], nil }

// UnmarshalBinary takes exactly as many bytes as a hash has.
func (h *Hash) UnmarshalBinary(b []byte) error {
	if len(b) != len(h) {
		return fmt.Errorf("a hash of %d bytes, not %d", len(b), len(h))
	}
	copy(h[:], b)
	return nil
}

// Kind says what a message is.
type Kind string

// The kinds of messages. Topics, with T the task's id and G a gateway's name:
//
//	fl/T/task             retained  Announcement, by the coordinator
//	fl/T/model/HASH/N     retained  chunk N of Weights, by the coordinator
//	fl/T/to/G             retained  Call, by the coordinator
//	fl/T/from/G/hello               Hello, by a participant
//	fl/T/from/G/update              a chunk of an Update
//	fl/T/from/G/report              Report: what became of a new model there
const (
	KindTask   Kind = "task"
	KindModel  Kind = "model"
	KindCall   Kind = "call"
	KindHello  Kind = "hello"
	KindUpdate Kind = "update"
	KindReport Kind = "report"
)

// Header is what a message is signed over, with its part of the body. Bodies
// are CBOR, compressed by zstd, cut into chunks of which each is a message.
type Header struct {
	Format int    `cbor:"1,keyasint"` // 1
	Kind   Kind   `cbor:"2,keyasint"`
	Task   string `cbor:"3,keyasint"`            // the task's id
	Round  int    `cbor:"4,keyasint"`            // from 1 on; 0 before the first
	Base   Hash   `cbor:"5,keyasint"`            // of the weights that the round begins with
	Body   Hash   `cbor:"6,keyasint"`            // of the whole body as it is sent
	Bytes  int    `cbor:"7,keyasint"`            // of the whole body as it is sent
	Chunk  int    `cbor:"8,keyasint"`            // from 0 on
	Chunks int    `cbor:"9,keyasint"`            // at least 1
	Seq    uint64 `cbor:"10,keyasint"`           // grows with each body of a sender; chunks of one share it
	From   string `cbor:"11,keyasint,omitempty"` // the gateway; "" for the coordinator
	To     string `cbor:"12,keyasint,omitempty"` // the gateway that a Call is for; "" for everybody
}

// Announcement is what a coordinator says of a task to everybody.
type Announcement struct {
	Task   []byte  `cbor:"1,keyasint"` // as Task.Encode gives it
	State  string  `cbor:"2,keyasint"` // waiting, running, done, stopped
	Round  int     `cbor:"3,keyasint"`
	Rounds int     `cbor:"4,keyasint"`
	Model  Ref     `cbor:"5,keyasint"` // the weights as they are now
	Best   Ref     `cbor:"6,keyasint"` // the best by the task's evaluation
	Why    string  `cbor:"7,keyasint,omitempty"`
	Score  Metrics `cbor:"8,keyasint"` // of Model
	File   Ref     `cbor:"9,keyasint"` // the task's .tflite as its body, Hash being its SHA-256; without Chunks where it has none
}

// Ref is weights that the broker retains in chunks.
type Ref struct {
	Hash   Hash `cbor:"1,keyasint" json:"hash"` // of the weights (Weights.Hash)
	Body   Hash `cbor:"2,keyasint" json:"body"` // of the chunks put together; names their topics
	Bytes  int  `cbor:"3,keyasint" json:"bytes"`
	Chunks int  `cbor:"4,keyasint" json:"chunks"`
	Round  int  `cbor:"5,keyasint" json:"round"` // after which they are
}

// Call is what a coordinator has to say to one gateway: retained, so that it
// waits for one that is away. The round of its header is the one that the gateway
// is invited to; without an invitation that of the update which the Call is about,
// 0 for none. The newest by Seq holds, whatever its round. An invitation that is
// taken back leaves an update of its round unwanted, unless the task counts late
// ones: then it is sent until a Call of its round says Done.
type Call struct {
	Invited  bool   `cbor:"1,keyasint"`
	Model    Ref    `cbor:"2,keyasint"`           // to begin with
	Deadline int64  `cbor:"3,keyasint"`           // Unix milliseconds; 0: none
	Have     []int  `cbor:"4,keyasint,omitempty"` // chunks of the update that are there
	Done     bool   `cbor:"5,keyasint"`           // the update is there, whole and kept
	Counted  string `cbor:"6,keyasint,omitempty"` // the last one: counted, late, set aside: why
	Refused  string `cbor:"7,keyasint,omitempty"` // why this gateway takes no part
}

// Hello is a participant that is there, and how much it has to train on.
type Hello struct {
	Samples int    `cbor:"1,keyasint"`
	Version string `cbor:"2,keyasint"` // of the program
	Chunk   int    `cbor:"3,keyasint"` // bytes of body in a message that the link bears
}

// Update is what a participant learned in a round.
type Update struct {
	Samples int     `cbor:"1,keyasint"`
	Delta   []byte  `cbor:"2,keyasint"` // as aggregate.Encode gives it
	Before  Metrics `cbor:"3,keyasint"` // of the base on this participant's held-out samples
	After   Metrics `cbor:"4,keyasint"` // of what it trained, there
	Seconds float64 `cbor:"5,keyasint"`
}

// Report is what became of a new model at a gateway, or that its training failed.
type Report struct {
	Model Hash    `cbor:"1,keyasint" json:"model"`
	State string  `cbor:"2,keyasint" json:"state"` // live, refused, trying; withdrawn: it was live; failed: a round that begins with these weights cannot be trained there
	Why   string  `cbor:"3,keyasint,omitempty" json:"why,omitempty"`
	New   Metrics `cbor:"4,keyasint" json:"new"`
	Old   Metrics `cbor:"5,keyasint" json:"old"`
}

// Metrics are figures of a model on some samples. NaN never travels: what
// there is none of is 0, with Samples 0.
type Metrics struct {
	Samples  int     `cbor:"1,keyasint" json:"samples"`
	Loss     float64 `cbor:"2,keyasint" json:"loss,omitempty"` // 0 also where nobody reckoned it, as of a .tflite of classes: JSON leaves it out
	Accuracy float64 `cbor:"3,keyasint" json:"accuracy"`       // 0..1; of values: -1
}
