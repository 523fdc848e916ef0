package fl

import (
	"errors"
	"fmt"
	"math"

	"edgegateway/fl/aggregate"
)

// Bounds of what messages say.
const (
	maxWords   = 1 << 10 // bytes of a text for people
	maxSamples = 1 << 40 // that a gateway can have
)

// Into reads the body of a message of a single chunk into an *Announcement,
// *Call, *Hello or *Report. What is not that kind's is refused (BadKind), as is
// what cannot be (BadBody, NotFinite, BadSamples).
func (p *Part) Into(v any) error {
	var kind Kind
	var check func() error
	switch v := v.(type) {
	case *Announcement:
		kind, check = KindTask, v.check
	case *Call:
		kind, check = KindCall, v.check
	case *Hello:
		kind, check = KindHello, v.check
	case *Report:
		kind, check = KindReport, v.check
	default:
		return fmt.Errorf("fl: no message is a %T", v)
	}
	if p.Kind != kind || p.Chunks != 1 {
		return refuse(BadKind, "a %s where a %s belongs", p.Kind, kind)
	}
	if err := Unpack(p.Data, maxPlain, v); err != nil {
		return err
	}
	return check()
}

// DecodeUpdate reads the body of an update of a task with n weights, and its
// delta: n finite numbers. Refused are BadBody, BadWeights, NotFinite and
// BadSamples.
func DecodeUpdate(body []byte, n int) (*Update, []float32, error) {
	var u Update
	if err := Unpack(body, MostUpdate(n), &u); err != nil {
		return nil, nil, err
	}
	if u.Samples < 1 || u.Samples > maxSamples {
		return nil, nil, refuse(BadSamples, "it was trained on %d samples", u.Samples)
	}
	if err := errors.Join(u.Before.check(), u.After.check()); err != nil {
		return nil, nil, err
	}
	if !(u.Seconds >= 0 && u.Seconds < math.MaxInt32) {
		return nil, nil, refuse(BadBody, "it took %v seconds", u.Seconds)
	}
	delta, err := aggregate.Decode(u.Delta, n)
	if errors.Is(err, aggregate.ErrNotFinite) {
		return nil, nil, refuse(NotFinite, "%v", err)
	}
	if err != nil {
		return nil, nil, refuse(BadWeights, "%v", err)
	}
	return &u, delta, nil
}

// MostUpdate is how many bytes an update of n weights is at most, as a body and
// unpacked.
func MostUpdate(n int) int { return 8*n + 64<<10 }

// MostWeights is how many bytes the body of n weights has at most.
func MostWeights(n int) int { return 4*n + 4*n/64 + 64<<10 }

func (a *Announcement) check() error {
	if err := errors.Join(a.Model.check(), a.Best.check(), a.File.check(), a.Score.check()); err != nil {
		return err
	}
	switch a.State {
	case "waiting", "running", "done", "stopped":
	default:
		return refuse(BadBody, "a task cannot be %.20q", a.State)
	}
	if a.Round < 0 || a.Round > maxRound || a.Rounds < 0 || a.Rounds > maxRound || len(a.Task) > maxTask || len(a.Why) > maxWords {
		return refuse(BadBody, "round %d of %d, a task of %d bytes, a reason of %d", a.Round, a.Rounds, len(a.Task), len(a.Why))
	}
	return nil
}

func (r *Ref) check() error {
	if *r == (Ref{}) {
		return nil
	}
	if r.Chunks < 1 || r.Chunks > maxChunks || r.Bytes < r.Chunks || r.Bytes > maxBody || r.Round < 0 || r.Round > maxRound {
		return refuse(BadBody, "%d bytes of weights in %d chunks of round %d", r.Bytes, r.Chunks, r.Round)
	}
	return nil
}

func (c *Call) check() error {
	if err := c.Model.check(); err != nil {
		return err
	}
	if len(c.Have) > maxChunks || len(c.Counted) > maxWords || len(c.Refused) > maxWords || c.Deadline < 0 {
		return refuse(BadBody, "%d chunks, a deadline of %d, texts of %d and %d bytes", len(c.Have), c.Deadline, len(c.Counted), len(c.Refused))
	}
	for i, n := range c.Have {
		if n < 0 || n >= maxChunks || i > 0 && n <= c.Have[i-1] {
			return refuse(BadBody, "chunk %d in a list of chunks", n)
		}
	}
	return nil
}

func (h *Hello) check() error {
	if h.Samples < 0 || h.Samples > maxSamples {
		return refuse(BadSamples, "%d samples", h.Samples)
	}
	if len(h.Version) > maxWords || h.Chunk < MinChunk || h.Chunk > maxMessage {
		return refuse(BadBody, "a version of %d bytes, chunks of %d", len(h.Version), h.Chunk)
	}
	return nil
}

func (r *Report) check() error {
	switch r.State {
	case "live", "refused", "withdrawn", "trying", "failed":
	default:
		return refuse(BadBody, "a model cannot be %.20q", r.State)
	}
	if len(r.Why) > maxWords {
		return refuse(BadBody, "a reason of %d bytes", len(r.Why))
	}
	return errors.Join(r.New.check(), r.Old.check())
}

func (m *Metrics) check() error {
	if m.Samples < 0 || m.Samples > maxSamples {
		return refuse(BadSamples, "figures of %d samples", m.Samples)
	}
	if m.Loss-m.Loss != 0 || m.Accuracy-m.Accuracy != 0 {
		return refuse(NotFinite, "a loss of %v, an accuracy of %v", m.Loss, m.Accuracy)
	}
	if m.Accuracy > 1 || m.Accuracy < 0 && m.Accuracy != -1 {
		return refuse(BadBody, "an accuracy of %v", m.Accuracy)
	}
	return nil
}
