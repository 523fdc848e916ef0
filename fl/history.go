package fl

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"time"

	"edgegateway/fl/aggregate"
)

// RoundReport is what became of one round.
type RoundReport struct {
	Round    int               `cbor:"1,keyasint" json:"round"`
	Began    Millis            `cbor:"2,keyasint" json:"began"`
	Ended    Millis            `cbor:"3,keyasint" json:"ended"`
	Base     Hash              `cbor:"4,keyasint" json:"base"`    // of the weights that it began with
	Model    Hash              `cbor:"5,keyasint" json:"model"`   // of those that came of it
	Invited  int               `cbor:"6,keyasint" json:"invited"` // in an asynchronous task: who still trains, and who delivered
	Updates  int               `cbor:"7,keyasint" json:"updates"` // that were there
	Late     int               `cbor:"8,keyasint" json:"late"`    // of them, those begun in an earlier round
	Counted  int               `cbor:"9,keyasint" json:"counted"` // of them, those that moved the weights
	Samples  int64             `cbor:"10,keyasint" json:"samples"`
	Norm     float64           `cbor:"11,keyasint" json:"norm"` // length of the step
	SetAside []aggregate.Aside `cbor:"12,keyasint" json:"set_aside,omitempty"`
	Bytes    int64             `cbor:"13,keyasint" json:"bytes_up"` // of the updates' bodies as they were sent
	Held     Metrics           `cbor:"14,keyasint" json:"held_out"` // of the new weights at the coordinator
	Before   Metrics           `cbor:"15,keyasint" json:"before"`   // of the weights it began with, by the participants
	After    Metrics           `cbor:"16,keyasint" json:"after"`    // of what each of them trained, by themselves
	Trained  float64           `cbor:"17,keyasint" json:"trained_seconds"`
	Why      string            `cbor:"18,keyasint" json:"why,omitempty"`      // what kept the weights as they were
	Best     bool              `cbor:"19,keyasint" json:"best_so_far"`        // the weights that were judged in this round are the best until then
	Outliers []aggregate.Aside `cbor:"20,keyasint" json:"outliers,omitempty"` // counted, but they stand out
	Waiting  int               `cbor:"21,keyasint" json:"waiting,omitempty"`  // in fedbuff's buffer, for the next round
}

// Judged gives the judgement that a round brought, and after which round the
// judged weights were made: the new ones where the coordinator has held-out
// samples, else those that the round began with, of which the participants
// reported. What they trained on their own is no judgement of any common
// weights. Where nobody judged, the metrics have no samples.
func (r *RoundReport) Judged() (Metrics, int) {
	if r.Held.Samples > 0 {
		return r.Held, r.Round
	}
	return r.Before, r.Round - 1
}

// Millis is a time in Unix milliseconds; in JSON it is one of RFC 3339.
type Millis int64

// Time gives it as such, in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }

// MarshalText writes RFC 3339.
func (m Millis) MarshalText() ([]byte, error) { return m.Time().MarshalText() }

// UnmarshalText reads RFC 3339.
func (m *Millis) UnmarshalText(text []byte) error {
	var t time.Time
	err := t.UnmarshalText(text)
	*m = Millis(t.UnixMilli())
	return err
}

// HistoryJSON gives rounds as an indented JSON list.
func HistoryJSON(list []RoundReport) ([]byte, error) {
	if list == nil {
		list = []RoundReport{}
	}
	text, err := json.MarshalIndent(list, "", "  ")
	return append(text, '\n'), err
}

// Aside is how many updates were set aside, without those that were counted for
// less.
func (r *RoundReport) Aside() (n int) {
	for _, a := range r.SetAside {
		if !a.Counted {
			n++
		}
	}
	return n
}

// HistoryCSV gives rounds as a table, a row each. A figure that there is none
// of is an empty field.
func HistoryCSV(list []RoundReport) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Write([]string{"round", "began", "ended", "base", "model", "invited", "updates", "late", "counted", "set_aside", "samples", "norm", "bytes_up",
		"held_out_samples", "held_out_loss", "held_out_accuracy", "before_samples", "before_loss", "before_accuracy",
		"after_samples", "after_loss", "after_accuracy", "trained_seconds"})
	for _, r := range list {
		row := []string{strconv.Itoa(r.Round), r.Began.Time().Format(time.RFC3339Nano), r.Ended.Time().Format(time.RFC3339Nano), r.Base.String(), r.Model.String()}
		for _, n := range []int64{int64(r.Invited), int64(r.Updates), int64(r.Late), int64(r.Counted), int64(r.Aside()), r.Samples} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		row = append(row, number(r.Norm), strconv.FormatInt(r.Bytes, 10))
		for _, m := range []Metrics{r.Held, r.Before, r.After} {
			row = append(row, m.columns()...)
		}
		w.Write(append(row, number(r.Trained)))
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

func (m Metrics) columns() []string {
	list := []string{strconv.Itoa(m.Samples), "", ""}
	if m.Samples > 0 {
		list[1] = number(m.Loss)
		if m.Accuracy >= 0 {
			list[2] = number(m.Accuracy)
		}
	}
	return list
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// mean is a mean of metrics, each weighted by its samples.
type mean struct {
	samples        int64
	loss, accuracy float64
	values         bool
}

func (s *mean) add(m Metrics) {
	w := float64(m.Samples)
	s.samples += int64(m.Samples)
	s.loss += w * m.Loss
	s.accuracy += w * m.Accuracy
	s.values = s.values || m.Samples > 0 && m.Accuracy < 0
}

func (s *mean) metrics() Metrics {
	w := float64(s.samples)
	m := Metrics{Samples: int(s.samples), Loss: s.loss / w, Accuracy: s.accuracy / w}
	if m.check() != nil { // there are none, or no loss of this world
		return Metrics{}
	}
	if s.values {
		m.Accuracy = -1
	}
	return m
}

// Better says whether metrics are better than others: by accuracy, then by
// loss; of values by loss.
func (m Metrics) Better(o Metrics) bool {
	switch {
	case m.Samples == 0 || o.Samples == 0:
		return m.Samples > 0
	case m.Accuracy != o.Accuracy:
		return m.Accuracy > o.Accuracy
	}
	return m.Loss < o.Loss
}
