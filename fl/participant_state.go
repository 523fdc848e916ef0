package fl

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"
)

// told is what a participant keeps of what it was told, and of what it decided.
type told struct {
	Seen    Seqs         `cbor:"1,keyasint"`
	Task    Announcement `cbor:"2,keyasint"`
	Call    Call         `cbor:"3,keyasint"`
	Round   int          `cbor:"4,keyasint"` // of the Call
	Judged  []Hash       `cbor:"5,keyasint"` // weights that there was a verdict on, the oldest first
	Outcome *Outcome     `cbor:"6,keyasint"` // of the last of them
	Report  *Report      `cbor:"7,keyasint"` // that says so
	Said    uint64       `cbor:"8,keyasint"` // its sequence number
}

func (h *told) clone() told {
	c := *h
	if c.Seen = maps.Clone(h.Seen); c.Seen == nil {
		c.Seen = Seqs{}
	}
	c.Judged = slices.Clone(h.Judged)
	return c
}

// keptJudged is how many models it knows that there was a verdict on.
const keptJudged = 64

// jobRecord is the job under way, so that a restart goes on with the same.
type jobRecord struct {
	Round   int  `cbor:"1,keyasint"` // 0: none is
	Base    Hash `cbor:"2,keyasint"`
	Samples int  `cbor:"3,keyasint"`
}

// ownUpdate is the last update: with its body until the coordinator has it.
type ownUpdate struct {
	Round    int     `cbor:"1,keyasint"`
	Base     Hash    `cbor:"2,keyasint"`
	Seq      uint64  `cbor:"3,keyasint"` // 0: there is none
	Body     []byte  `cbor:"4,keyasint"`
	Residual []byte  `cbor:"5,keyasint"` // of compression, for the next round; float32, little endian
	Done     bool    `cbor:"6,keyasint"`
	Before   Metrics `cbor:"7,keyasint"`
	After    Metrics `cbor:"8,keyasint"`
}

// Names of the files in a participant's State. Chunks are below model/.
const (
	fileHead   = "head"
	fileJob    = "job"
	fileUpdate = "update"
	fileSeq    = "seq"
	partsAt    = "model/"
)

// mostOpen is how many bodies may be gathered at a time: the round's weights,
// those of a new model, the task's file.
const mostOpen = 3

// load reads the State.
func (p *Participant) load() (err error) {
	for name, v := range map[string]any{fileHead: &p.head, fileJob: &p.job, fileUpdate: &p.update} {
		b, err := p.st.Get(name)
		if err == nil && b != nil {
			err = unmarshal(b, v)
		}
		if err != nil {
			return fmt.Errorf("%s of the participant's state: %w", name, err)
		}
	}
	if p.seq, err = NewCounter(p.st, fileSeq); err != nil {
		return err
	}
	p.parts, err = NewCollector(p.st, partsAt, maxBody, mostOpen)
	return err
}

func (p *Participant) put(name string, v any) error {
	b, err := marshal(v)
	if err != nil {
		return err
	}
	return p.st.Put(name, b)
}

func (p *Participant) keepHead(h told) error {
	if err := p.put(fileHead, h); err != nil {
		return err
	}
	p.head = h
	return nil
}

func (p *Participant) keepUpdate(u ownUpdate) error {
	if err := p.put(fileUpdate, u); err != nil {
		return err
	}
	p.update = u
	return nil
}

// delivered notes that the coordinator has the update. What it left over is for
// the next round.
func (p *Participant) delivered() error {
	u := p.update
	u.Body, u.Done = nil, true
	return p.keepUpdate(u)
}

// keepJob notes the job under way, or that there is none.
func (p *Participant) keepJob(j jobRecord) error {
	if j == p.job {
		return nil
	}
	if j.Round == 0 {
		if err := p.st.Delete(fileJob); err != nil {
			return err
		}
	} else if err := p.put(fileJob, j); err != nil {
		return err
	}
	p.job = j
	return nil
}

// body gives a whole body that was gathered, nil while something of it lacks.
func (p *Participant) body(ref Ref) ([]byte, error) {
	for _, h := range p.parts.Open() {
		if h.Body == ref.Body && h.Kind == KindModel {
			key := bodyName(&h)
			if b := p.parts.bodies[key]; len(b.have) == b.Chunks {
				return p.parts.whole(key, b)
			}
		}
	}
	return nil, nil
}

// lacking gives the topics of what is not there of a body.
func (p *Participant) lacking(ref Ref) []string {
	topics := ref.Topics(p.cfg.Task)
	for _, h := range p.parts.Open() {
		if h.Body == ref.Body && h.Kind == KindModel {
			var list []string
			for _, i := range Missing(p.parts.Have(&h), len(topics)) {
				list = append(list, topics[i])
			}
			return list
		}
	}
	return topics
}

// gather gives a body, or asks for what lacks of it.
func (p *Participant) gather(now time.Time, ref Ref) ([]byte, error) {
	b, err := p.body(ref)
	if err != nil && ReasonOf(err) == "" || b != nil {
		return b, err
	}
	if err != nil { // its parts are not what the coordinator signed for
		p.status.Refused[ReasonOf(err)]++
	}
	if !p.linked {
		return nil, nil
	}
	if at, ok := p.asked[ref.Body]; ok && now.Before(at.Add(p.cfg.Retry)) {
		p.wakeAt(at.Add(p.cfg.Retry))
		return nil, nil
	}
	p.asked[ref.Body] = now
	p.wakeAt(now.Add(p.cfg.Retry))
	p.out = append(p.out, Action{Fetch: p.lacking(ref)})
	return nil, nil
}

// weights gives the weights of a reference, nil until they are there. What was
// signed and is no weights of this task is an error that is a Refusal.
func (p *Participant) weights(now time.Time, ref Ref) (*Weights, error) {
	if p.cfg.Weights != nil {
		if w := p.cfg.Weights(ref.Hash); w != nil {
			return w, nil
		}
	}
	body, err := p.gather(now, ref)
	if err != nil || body == nil {
		return nil, err
	}
	w, err := DecodeWeights(body, p.layout, p.count)
	if err == nil && w.Hash() != ref.Hash {
		err = refuse(BadBody, "weights of hash %.12s; announced are %.12s", w.Hash(), ref.Hash)
	}
	return w, err
}

// wanted are the bodies that are needed now.
func (p *Participant) wanted() []Ref {
	var list []Ref
	if f := p.head.Task.File; f.Chunks > 0 {
		list = append(list, f)
	}
	if p.invited() {
		list = append(list, p.head.Call.Model)
	}
	if ref := p.target(); ref.Chunks > 0 {
		list = append(list, ref)
	}
	return list
}

// tidy drops what is not needed any more.
func (p *Participant) tidy() error {
	wanted := p.wanted()
	for _, h := range p.parts.Open() {
		if slices.ContainsFunc(wanted, func(r Ref) bool { return r.Body == h.Body }) {
			continue
		}
		if err := p.parts.Drop(&h); err != nil {
			return err
		}
		delete(p.asked, h.Body)
	}
	return nil
}

// wakeAt has Tick called then.
func (p *Participant) wakeAt(t time.Time) { p.out = append(p.out, Action{Wake: t}) }

// seedOf is the seed of a gateway's part in a round: the first 8 bytes of the
// SHA-256 of "seed round gateway".
func seedOf(seed uint64, round int, gateway string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", seed, round, gateway))
	n := uint64(0)
	for _, b := range sum[:8] {
		n = n<<8 | uint64(b)
	}
	return n
}
