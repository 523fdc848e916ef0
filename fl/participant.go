package fl

import (
	"crypto/ed25519"
	"time"
)

// ParticipantConfig is how a participant takes part, beside what the task says.
type ParticipantConfig struct {
	Task    string        // id of the task that it follows
	Version string        // of the program, for the coordinator
	Chunk   int           // bytes of body in a message; 0: 96 KiB
	Publish bool          // it has a Publisher: new models are fetched and offered to it
	Retry   time.Duration // after which what failed or did not come is tried again; 0: a minute
	// Before are applied to what a participant would have the weights move by,
	// in their order, before it is sent.
	Before []func(*Job, []float32) error
}

// Participant follows one task for one gateway. It is told what arrives and
// answers with what is to be done; it has no goroutines and no clock, and is
// for one goroutine. What it must not forget is in its State before it answers.
type Participant struct {
	gateway string
	st      State
	key     ed25519.PrivateKey
	trusted []ed25519.PublicKey
	cfg     ParticipantConfig
}

// ParticipantStatus is a participant as a person looks at it.
type ParticipantStatus struct {
	Task      string    `json:"task"`              // its name; the id until it is known
	ID        string    `json:"id"`                // of the task
	State     string    `json:"state"`             // of the task: waiting, running, done, stopped; "" until it is known
	Doing     string    `json:"doing"`             // waiting, fetching, training, sending, sent, refused
	Round     int       `json:"round"`             // the task's
	Rounds    int       `json:"rounds"`            // it has at most
	Samples   int       `json:"samples"`           // here
	Why       string    `json:"why,omitempty"`     // it takes no part, or what failed at last
	Counted   string    `json:"counted,omitempty"` // what became of the last update
	Sent      int       `json:"sent"`              // updates that the coordinator has, since the start
	SentBytes int64     `json:"sent_bytes"`        // of messages, since the start
	Refused   int       `json:"refused"`           // messages, since the start
	Before    Metrics   `json:"before"`            // of the round's weights on the samples held out here, in the last round
	After     Metrics   `json:"after"`             // of what was trained of them
	Model     *Outcome  `json:"model,omitempty"`   // the last new model that was offered here
	Deadline  time.Time `json:"deadline,omitzero"` // of the round
}

// Outcome is what became of a new model.
type Outcome struct {
	Round int     `json:"round"`
	State string  `json:"state"` // trying, live, refused
	Why   string  `json:"why,omitempty"`
	New   Metrics `json:"new"` // of it, on the samples held out here
	Old   Metrics `json:"old"` // of the model in use
}
