package fl

import (
	"errors"
	"fmt"
)

// Reason is the name of why a message is refused, as it is counted and logged.
type Reason string

// The reasons, in the order in which a message is looked at.
const (
	TooLarge    Reason = "too_large"    // more bytes than a message may have
	Malformed   Reason = "malformed"    // no envelope or no header of this protocol
	BadFormat   Reason = "format"       // of another version of the protocol
	BadTopic    Reason = "topic"        // the topic is not the header's
	BadChunk    Reason = "chunk"        // numbers of chunks that cannot be
	UnknownTask Reason = "task"         // of no task that is known here
	UnknownKey  Reason = "key"          // signed with a key that is not known for its sender
	BadSign     Reason = "signature"    // not signed by the key that it names
	BadKind     Reason = "kind"         // not what this sender may say
	StaleSeq    Reason = "stale_seq"    // older than what the sender said since
	StaleRound  Reason = "stale_round"  // of a round that is over
	FutureRound Reason = "future_round" // of a round that has not begun
	Uninvited   Reason = "uninvited"    // of a round that its sender takes no part in
	BadBase     Reason = "base"         // built on other weights than the round's
	Conflict    Reason = "conflict"     // another body under the same sequence number
	Busy        Reason = "busy"         // too many bodies are open
	BadBody     Reason = "body"         // too long, not the hash that was said, or not readable
	BadWeights  Reason = "weights"      // not as many numbers as the model has
	NotFinite   Reason = "not_finite"   // a NaN or an infinity
	BadSamples  Reason = "samples"      // none, or more than anybody has
)

// Refusal is the error of a message that is not taken. It changes nothing but
// a counter.
type Refusal struct {
	Reason Reason
	Text   string
}

func (r *Refusal) Error() string { return fmt.Sprintf("refused (%s): %s", r.Reason, r.Text) }

// ReasonOf gives the reason of an error that is a Refusal, "" of another.
func ReasonOf(err error) Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func refuse(why Reason, format string, args ...any) error {
	return &Refusal{why, fmt.Sprintf(format, args...)}
}
