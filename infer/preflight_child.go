package infer

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"edgegateway/infer/model/pack"
	"edgegateway/infer/tflite"
)

// preflightWork is what one child is to do: to try the candidates, or to
// measure the model on the delegate that was chosen.
type preflightWork struct {
	PreflightRequest
	Without []string `json:"without"` // candidates that ended a child
	Measure string   `json:"measure"` // the delegate; "": try the candidates
}

// preflightWord is one line of what a child says: before it touches something,
// when it asks whether it may go on, and what came of it.
type preflightWord struct {
	Begin     string           `json:"begin,omitempty"` // a check
	On        string           `json:"on,omitempty"`    // a delegate
	Ask       bool             `json:"ask,omitempty"`
	SHA256    string           `json:"sha256,omitempty"`
	Check     *Check           `json:"check,omitempty"`
	Candidate *CandidateReport `json:"candidate,omitempty"`
	Figures   *figures         `json:"figures,omitempty"`
}

// figures are what the second child measures.
type figures struct {
	Own, Wall    [2]float64 // p50 and p99 in ms, as in PreflightReport
	Live, Beside float64    // p50 in ms of the live version and of this one, in turns
	LiveWhy      string     // why there is no Live
	Peak, Leak   int64
	Calls        int
}

// preflight is the child's side.
type preflight struct {
	work preflightWork
	lib  *tflite.Library
	out  *json.Encoder
	may  <-chan struct{} // an answer to Ask
}

// errJudged ends a child that said why the version fails.
var errJudged = errors.New("a check failed")

// RunPreflight is what the child process of a pre-flight does: it reads a
// request, says what it is about to do and what came of it, and asks before
// each slice of work. When in ends before it is done, so does the process: its
// parent is gone, and nothing else ends a model that never answers.
func RunPreflight(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return errors.New("pre-flight: there is no request")
	}
	p := &preflight{out: json.NewEncoder(out)}
	if err := json.Unmarshal(lines.Bytes(), &p.work); err != nil {
		return fmt.Errorf("pre-flight: %w", err)
	}
	p.work.defaults()
	if !p.work.Eager {
		nicest()
	}
	may := make(chan struct{}, 1)
	p.may = may
	go func() {
		for lines.Scan() {
			may <- struct{}{}
		}
		os.Exit(1)
	}()
	var err error
	if p.lib, err = tflite.Open(p.work.Library); err != nil {
		return err
	}
	if p.work.Measure != "" {
		err = p.measure(ctx)
	} else {
		err = p.try(ctx)
	}
	if errors.Is(err, errJudged) {
		return nil
	}
	return err
}

func (p *preflight) say(w preflightWord) error { return p.out.Encode(w) }

// failed says that a check failed.
func (p *preflight) failed(check string, err error) error {
	return cmp.Or(p.say(preflightWord{Check: &Check{Name: check, Why: err.Error()}}), errJudged)
}

// begin asks whether to go on, and says with what: whom a crash is to be
// blamed on.
func (p *preflight) begin(ctx context.Context, check, on string) error {
	if err := p.say(preflightWord{Ask: true}); err != nil {
		return err
	}
	select {
	case <-p.may:
	case <-ctx.Done():
		return ctx.Err()
	}
	return p.say(preflightWord{Begin: check, On: on})
}

// candidates are the delegates that the version is tried on, the reference
// first: all that may be chosen.
func (p *preflight) candidates(t *trial) []string {
	list := Candidates(t.file)
	switch pinned := p.work.Model.Delegate; pinned {
	case "", "auto", "external":
		if a := p.work.Model.accelerator(); a != nil && a.here(p.work.Sysfs) {
			list = append(list, "external")
			t.accel, t.req.External, t.req.Accelerated = a, a.External, a.file
		}
	default:
		list = slices.Compact([]string{"builtin", pinned})
	}
	return slices.DeleteFunc(list, func(name string) bool { return slices.Contains(p.work.Without, name) })
}

// try runs every candidate.
func (p *preflight) try(ctx context.Context) error {
	t := &trial{req: TrialRequest{File: p.work.Model.File}, lib: p.lib, unchecked: p.work.Unchecked}
	if err := p.begin(ctx, CheckLoads, "its file"); err != nil {
		return err
	}
	m, _, err := t.read()
	if err != nil {
		return p.failed(CheckLoads, err)
	}
	if raw, err := pack.ReadFile(p.work.Model.File); err == nil {
		sum := sha256.Sum256(raw)
		if err := p.say(preflightWord{SHA256: hex.EncodeToString(sum[:])}); err != nil {
			return err
		}
	}
	var runs []*contender
	// A model that is collected before it is closed ends the process, and with
	// it what a check said of the version.
	defer func() {
		for _, c := range runs {
			c.close()
		}
	}()
	// each does something with all candidates that are right so far; one that
	// fails is left out, unless it is the one that must do.
	each := func(check string, do func(*contender) error) error {
		for _, c := range runs {
			if c.err != nil {
				continue
			}
			if err := p.begin(ctx, check, c.name); err != nil {
				return err
			}
			if c.err = do(c); c.err == nil {
				continue
			}
			if c == runs[0] || c.name == p.work.Model.Delegate && c.name != "external" {
				return p.failed(check, fmt.Errorf("on %s: %w", c.name, c.err))
			}
		}
		return nil
	}
	for _, name := range p.candidates(t) {
		runs = append(runs, &contender{name: name})
	}
	if err := each(CheckLoads, t.load); err != nil {
		return err
	}
	first := runs[0].w
	ins, outs := describe(first.interpreter.Inputs), describe(first.interpreter.Outputs)
	if _, err := newDecoder(p.work.Model, ins, outs, m); err != nil {
		return p.failed(CheckLoads, place(err))
	}
	loaded := Check{Name: CheckLoads, OK: true, Why: fmt.Sprintf("%d bytes; on %d of %d delegates", len(t.data), right(runs), len(runs))}
	if err := p.say(preflightWord{Check: &loaded}); err != nil {
		return err
	}

	g, err := readGoldens(p.work.Golden, m)
	if err == nil {
		err = p.golden(g, first, each)
	} else {
		err = p.failed(CheckGolden, err)
	}
	if err != nil {
		return err
	}
	if err := each(CheckAgree, t.agree); err != nil {
		return err
	}
	agree := Check{Name: CheckAgree, OK: true, Value: float64(right(runs)), Why: fmt.Sprintf("%d of %d", right(runs), len(runs))}
	for _, c := range runs {
		if c.err != nil {
			agree.Why += fmt.Sprintf("; without %s: %v", c.name, c.err)
		}
	}
	if err := p.say(preflightWord{Check: &agree}); err != nil {
		return err
	}
	watch := newStopwatch()
	defer watch.close()
	for range rounds {
		if err := each(CheckTime, func(c *contender) error { c.measure(watch); return c.err }); err != nil {
			return err
		}
	}
	for _, c := range runs {
		// Whoever crashes when it is closed would crash the gateway then.
		if err := p.begin(ctx, CheckCrash, c.name); err != nil {
			return err
		}
		c.close()
		r := c.report()
		if err := p.say(preflightWord{Candidate: &r}); err != nil {
			return err
		}
	}
	return nil
}

func right(runs []*contender) (n int) {
	for _, c := range runs {
		if c.err == nil {
			n++
		}
	}
	return n
}

// golden holds every candidate against the golden answers.
func (p *preflight) golden(g *goldens, first *worker, each func(string, func(*contender) error) error) error {
	check := Check{Name: CheckGolden, OK: true, Why: "the version brings none"}
	if len(g.list) == 0 {
		return p.say(preflightWord{Check: &check})
	}
	// An output may have another shape once it was computed.
	looked := false
	var furthest miss
	if err := each(CheckGolden, func(c *contender) error {
		for i := range g.list {
			if err := g.fill(i, c.w.in); err != nil {
				return err
			}
			if err := c.w.invoke(); err != nil {
				return fmt.Errorf("%s: %w", g.list[i].name, err)
			}
			if !looked {
				if err := g.look(c.w.out); err != nil {
					return err
				}
				looked = true
			}
			m, err := g.compare(i, c.w.out)
			if err != nil {
				return err
			}
			if m.share() > furthest.share() && c.w == first || m.share() > 1 {
				furthest = m
			}
			if m.share() > 1 {
				return &missError{m}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	check.Value, check.Limit, check.Unit = furthest.off, furthest.limit, furthest.unit
	check.Why = fmt.Sprintf("%d right", len(g.list))
	if furthest.off > 0 && furthest.share() <= 1 {
		check.Why += fmt.Sprintf(", the furthest %.3g %s off, %g is allowed", furthest.off, furthest.unit, furthest.limit)
	}
	return p.say(preflightWord{Check: &check})
}

// missError is an answer that is too far off.
type missError struct{ miss }

func (e *missError) Error() string {
	return fmt.Sprintf("%s: %.3g %s off, %g is allowed", e.text, e.off, e.unit, e.limit)
}

// slice is how long the child works before it asks again.
const slice = 20 * time.Millisecond

// percentile of sorted times, in ms.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(math.Ceil(share*float64(len(sorted))))-1, len(sorted)-1)
	return float64(sorted[max(i, 0)].Nanoseconds()) / 1e6
}
