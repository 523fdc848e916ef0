package fl

import (
	"context"
	"errors"
	"time"

	"edgegateway/infer/train"
)

// Message is one message of the protocol as a broker carries it: QoS 1.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool // an empty retained one clears what the broker keeps
}

// Transport carries messages. Whatever it loses, doubles or delays is sent
// again: it only has to say when the link is there.
type Transport interface {
	// Publish returns when the broker acknowledged, or at once with an error that
	// wraps ErrNoLink where there is no link.
	Publish(ctx context.Context, m Message) error
	// Subscribe hands what comes to handle, one at a time, also after the link
	// was lost and is back, until ctx ends. It returns when it is subscribed or
	// will be as soon as there is a link.
	Subscribe(ctx context.Context, filters []string, handle func(Message)) error
	// Get gets what the broker retains at one exact topic; ctx bounds the wait.
	Get(ctx context.Context, topic string) ([]byte, error)
	// Link receives a value each time the link is there (again), after what was
	// subscribed is so again. One goroutine receives from it.
	Link() <-chan struct{}
}

// ErrNoLink is wrapped by errors of a Transport that is not connected now: what
// was to be sent waits for the link.
var ErrNoLink = errors.New("there is no link to the broker")

// Dataset is the samples of this participant. They never leave it.
type Dataset interface {
	// Count is how many labelled samples there are now.
	Count(ctx context.Context) (int, error)
	// Load gives the first n of them, in the order in which they were recorded:
	// the same n gives the same samples, so that a round goes on after a restart.
	Load(ctx context.Context, n int) (*train.Dataset, error)
}

// Publisher brings a new model to work here, or refuses it.
type Publisher interface {
	// Publish makes a .tflite of the weights, judges it beside the model in use
	// and brings it to work. The error is the reason why it is not wanted here:
	// the one in use is better, or it failed its trial. One that wraps ErrLater is
	// no verdict: the same model is offered again. Publish may be given a model
	// that it has been given before, after a restart.
	Publish(ctx context.Context, m NewModel) (Verdict, error)
}

// NewModel is what a task made, for one gateway.
type NewModel struct {
	ID      string // of the task
	Task    *Task  // its Publish says the model's name in the gateway's configuration, and whether to quantize
	Round   int    // after which the weights are
	Base    Hash   // of the weights
	Weights *Weights
	Final   bool // the task's last
}

// Verdict is how a new model did beside the one in use, on samples of this
// gateway that neither was trained on here. Figures that there are none of have
// Samples 0.
type Verdict struct {
	New, Old Metrics
}

// ErrLater is wrapped by errors that may pass: of a disk that is full, a child
// that was ended for its limits, a stop of the program.
var ErrLater = errors.New("not now")

// State is a small store of files that survives a SIGKILL: a Put is whole or
// not there.
type State interface {
	Put(name string, data []byte) error
	// Loose is a Put of what would be sent again: a SIGKILL does not lose it, but
	// where the power fails it may be gone or damaged. It waits for no disk.
	Loose(name string, data []byte) error
	Get(name string) ([]byte, error) // nil, nil where there is none
	Delete(name string) error
	List(prefix string) ([]string, error)
}

// Action is one thing that a Coordinator or a Participant wants done. Exactly
// one field is set.
type Action struct {
	Send  *Message
	Fetch []string  // retained topics; each is handed to Handle as it comes
	Train *Job      // the result is handed to Trained
	Offer *NewModel // for the Publisher; its verdict is handed to Published
	Wake  time.Time // call Tick then, or sooner
}
