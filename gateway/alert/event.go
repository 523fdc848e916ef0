package alert

import (
	"encoding/json"
	"time"
)

// Event is one change of one alert at one source.
type Event struct {
	ID       string          `json:"id"` // the same from raised to cleared
	Alert    string          `json:"alert"`
	Stream   string          `json:"stream"`
	Source   string          `json:"source"`
	State    string          `json:"state"` // raised, repeated or cleared
	Severity string          `json:"severity"`
	Message  string          `json:"message,omitempty"`
	Time     time.Time       `json:"time"`  // of this event
	Since    time.Time       `json:"since"` // raised
	Count    int             `json:"count"` // results that fulfilled the condition since
	Result   json.RawMessage `json:"result,omitempty"`
	Drift    json.RawMessage `json:"drift,omitempty"` // of the alert of drift: how the stream stands
	Picture  []byte          `json:"-"`               // of a camera
}

// JSON is the event as one object.
func (e *Event) JSON() []byte {
	b, err := json.Marshal(e)
	if err != nil { // the result is JSON by construction
		panic(err)
	}
	return b
}
