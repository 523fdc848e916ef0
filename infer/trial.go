package infer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"

	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/infer/tflite"
)

// TrialRequest is what is tried on this box: one model on several delegates.
type TrialRequest struct {
	Library     string   `json:"library"` // "": the one in the program
	File        string   `json:"file"`
	Accelerated string   `json:"accelerated"`
	External    External `json:"external"`
	Candidates  []string `json:"candidates"` // the first is the reference: builtin
}

// CandidateReport is what came of one candidate.
type CandidateReport struct {
	Name   string  `json:"name"`
	OK     bool    `json:"ok"`               // it loads and agrees with the built-in kernels
	Why    string  `json:"why,omitempty"`    // where it does not
	Micros float64 `json:"us,omitempty"`     // median time of one Invoke, without that for which others went before
	Waited float64 `json:"waited,omitempty"` // share of the time for which others did: of helper threads nobody knows
	Chosen bool    `json:"chosen,omitempty"`
	Begun  bool    `json:"begun,omitempty"` // said before it is touched: whom a crash is to be blamed on
}

// TrialFunc tries a model where a crash does no harm: in a child process.
type TrialFunc func(ctx context.Context, req TrialRequest) ([]CandidateReport, error)

// candidates are the delegates worth trying for a model, with its accelerator
// or without.
func (m *version) candidates(accel bool) []string {
	list := Candidates(m.file.model)
	if accel {
		list = append(list, "external")
	}
	return list
}

// Candidates are the delegates on this box's processor that are worth trying
// for a model; the built-in kernels, the reference of a trial, come first.
func Candidates(m *model.Model) []string {
	list := []string{"builtin"}
	if m.BuiltinOnly() == "" {
		list = append(list, "xnnpack:0", "xnnpack:1", "xnnpack:2", "xnnpack:3")
		if runtime.NumCPU() > 1 {
			list = append(list, "builtin:2", "xnnpack:0:2", "xnnpack:3:2")
		}
	}
	return list
}

// inputs is how many fixed inputs a candidate must answer right.
const inputs = 3

// RunTrial is what the child process does: it reads a request, and writes a
// line before it touches a candidate and one with what came of it.
func RunTrial(ctx context.Context, in io.Reader, out io.Writer) error {
	var req TrialRequest
	if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(&req); err != nil {
		return fmt.Errorf("trial: %w", err)
	}
	if len(req.Candidates) == 0 {
		return errors.New("trial: no candidates")
	}
	lib, err := tflite.Open(req.Library)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	t := trial{req: req, lib: lib, accel: newAccelerator(req.External, req.Accelerated)}
	touch := func(name string) error { return enc.Encode(CandidateReport{Name: name, Begun: true}) }
	var runs []*contender
	for _, name := range req.Candidates {
		if err := touch(name); err != nil {
			return err
		}
		c := &contender{name: name}
		c.err = t.prepare(c)
		runs = append(runs, c)
	}
	watch := newStopwatch()
	defer watch.close()
	for range rounds {
		for _, c := range runs {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := touch(c.name); err != nil {
				return err
			}
			c.measure(watch)
		}
	}
	for _, c := range runs {
		// Whoever crashes when it is closed would crash the gateway then.
		if err := touch(c.name); err != nil {
			return err
		}
		c.close()
		if err := enc.Encode(c.report()); err != nil {
			return err
		}
	}
	return nil
}

// Measuring goes round all candidates in turn, so that a busy moment hurts
// them alike.
const (
	rounds   = 5
	roundFor = 15 * time.Millisecond
)

// trial holds what the candidates share.
type trial struct {
	req       TrialRequest
	lib       *tflite.Library
	accel     *accelerator
	file      *model.Model
	data      []byte
	unchecked bool             // the runtime gets the file as it is
	first     *worker          // of the reference
	reference [inputs][]Tensor // its outputs
	judge     *judge
}

// contender is a candidate, measured for as long as it makes no error.
type contender struct {
	name  string
	m     *tflite.Model
	w     *worker
	times []float64     // mean microseconds of each round
	own   time.Duration // of all rounds
	wall  time.Duration // with that for which others went before
	err   error
}

// report is what came of it.
func (c *contender) report() CandidateReport {
	if c.err != nil {
		return CandidateReport{Name: c.name, Why: c.err.Error()}
	}
	r := CandidateReport{Name: c.name, OK: true, Micros: c.median()}
	if c.wall > 0 {
		r.Waited = math.Round(100*(1-c.own.Seconds()/c.wall.Seconds())) / 100
	}
	return r
}

// close frees what the candidate holds. Closing twice is safe.
func (c *contender) close() {
	if c.w != nil {
		c.w.close()
	}
	if c.m != nil {
		c.m.Close()
	}
	c.w, c.m = nil, nil
}

// prepare loads a candidate and holds its answers against the reference.
func (t *trial) prepare(c *contender) error {
	if err := t.load(c); err != nil {
		return err
	}
	return t.agree(c)
}

// load makes a candidate's interpreter; the first is the reference.
func (t *trial) load(c *contender) error {
	d, err := parseDelegate(c.name)
	if err != nil {
		return err
	}
	file, data, err := t.read()
	if err != nil {
		return err
	}
	if err := d.takes(file); err != nil && !t.unchecked {
		return err
	}
	if d.kind == "external" {
		if data, err = t.accel.bytes(data); err != nil {
			return err
		}
	}
	if c.m, err = t.lib.NewModel(data); err != nil {
		return err
	}
	if c.w, err = newWorker(t.lib, c.m, d, t.accel); err != nil {
		return err
	}
	c.w.stateful = file.Stateful()
	if t.first == nil {
		t.first, t.judge = c.w, newJudge(file)
		return nil
	}
	return interchangeable(t.first, c.w)
}

// agree holds a candidate's answers to the fixed inputs against those of the
// reference, which comes first.
func (t *trial) agree(c *contender) error {
	for i := range inputs {
		fixedInput(c.w.in, i)
		if err := c.w.invoke(); err != nil {
			return err
		}
		if c.w == t.first {
			for _, o := range c.w.out {
				o.Data = slices.Clone(o.Data)
				t.reference[i] = append(t.reference[i], o)
			}
			t.judge.see(c.w.out)
			continue
		}
		if why := t.judge.disagree(t.reference[i], c.w.out); why != "" {
			return fmt.Errorf("does not agree with the built-in kernels: %s", why)
		}
	}
	return nil
}

// read gives the model as this runtime takes it. It is read once: unpacking
// takes its time.
func (t *trial) read() (*model.Model, []byte, error) {
	if t.file != nil {
		return t.file, t.data, nil
	}
	data, err := pack.ReadFile(t.req.File)
	if err != nil {
		return nil, nil, err
	}
	m, err := model.Read(data)
	if err != nil {
		return nil, nil, err
	}
	if !t.unchecked {
		if m, data, _, err = m.Adapted(data); err != nil {
			return nil, nil, err
		}
	}
	t.file, t.data = m, data
	return m, data, nil
}

// measure runs it for a round. The time for which others went before does not
// count.
func (c *contender) measure(s *stopwatch) {
	if c.err != nil {
		return
	}
	begin, n, spent := time.Now(), 0, time.Duration(0)
	for n < 2 || time.Since(begin) < roundFor {
		var own, wall time.Duration
		if own, wall, c.err = s.time(c.w.invoke); c.err != nil {
			return
		}
		spent += own
		c.own, c.wall = c.own+own, c.wall+wall
		n++
	}
	c.times = append(c.times, float64(spent.Nanoseconds())/1e3/float64(n))
}

func (c *contender) median() float64 {
	if len(c.times) == 0 {
		return 0
	}
	slices.Sort(c.times)
	return c.times[len(c.times)/2]
}

// fixedInput fills inputs with something of the kind the model takes, the
// same each time: for pictures slopes and a disc, as a photograph has them,
// never noise; for other numbers waves; for indexes small numbers.
func fixedInput(in []Tensor, variant int) {
	for k := range in {
		t := &in[k]
		n := t.Len()
		at := func(i int) float64 {
			return 0.5 + 0.5*math.Sin(float64(i)*(0.05+0.03*float64(variant))+float64(k+variant))
		}
		if s := t.Shape; len(s) == 4 && (s[3] == 1 || s[3] == 3) && s[1] > 8 && s[2] > 8 {
			h, w, c := s[1], s[2], s[3]
			at = func(i int) float64 {
				x, y := float64(i/c%w)/float64(w), float64(i/c/w%h)/float64(h)
				v := 0.25 + 0.5*x*float64(variant+1)/inputs + 0.2*y*float64(i%c)
				if dx, dy := x-0.4-0.1*float64(variant), y-0.5; dx*dx+dy*dy < 0.06 {
					v = 0.9 - 0.3*y
				}
				return v
			}
		}
		for i := range n {
			t.put(i, at(i))
		}
	}
}

// put writes a number from 0 to 1 in the way the tensor's type takes numbers.
func (t *Tensor) put(i int, v float64) {
	switch t.Type {
	case Float32:
		putFloat(t.Data[4*i:], float32(v))
	case Int8:
		t.Data[i] = byte(int8(math.Round(v*255) - 128))
	case Uint8:
		t.Data[i] = byte(math.Round(v * 255))
	case Int16:
		putUint(t.Data[2*i:], 2, uint64(int64(v*65535)-32768))
	case Int32:
		putUint(t.Data[4*i:], 4, uint64(v*9))
	case Int64:
		putUint(t.Data[8*i:], 8, uint64(v*9))
	case Bool:
		t.Data[i] = 0
		if v > 0.5 {
			t.Data[i] = 1
		}
	}
}

func putFloat(b []byte, v float32) { putUint(b, 4, uint64(math.Float32bits(v))) }

func putUint(b []byte, n int, v uint64) {
	for i := range n {
		b[i] = byte(v >> (8 * i))
	}
}
