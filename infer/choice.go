package infer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// choice is a trial's outcome as it is remembered.
type choice struct {
	Delegate   string            `json:"delegate"`
	Why        string            `json:"why"`
	Candidates []CandidateReport `json:"candidates"`
}

// key names what a choice holds for: this model, this library, this box.
func (e *Engine) key(m *version) string {
	h := sha256.New()
	fmt.Fprintln(h, m.file.sum, m.engine.Library, stamp(m.engine.Library), e.lib.Version(), cpuName(), runtime.NumCPU(), m.pinned, m.candidates(m.accel != nil))
	if m.accel != nil {
		fmt.Fprintf(h, "%+v\n", *m.accel)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// cpuName is what the system calls the processor.
func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	var lines []string
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() && in.Text() != "" { // the first processor
		for _, k := range []string{"model name", "flags", "Features", "CPU part"} {
			if strings.HasPrefix(in.Text(), k) {
				lines = append(lines, in.Text())
			}
		}
	}
	return runtime.GOARCH + strings.Join(lines, "")
}

// remembered gives an earlier trial's outcome.
func (e *Engine) remembered(m *version) (c choice, ok bool) {
	b, err := os.ReadFile(filepath.Join(e.dir, e.key(m)+".json"))
	return c, err == nil && json.Unmarshal(b, &c) == nil && len(c.Candidates) > 0
}

// remember writes it; a gateway that cannot measures again at each start.
func (e *Engine) remember(m *version, c choice) error {
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(e.dir, "choice.*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(e.dir, e.key(m)+".json"))
}

// begin says what serves a model until its trial is over: what an earlier one
// chose, but not an accelerator, which a child process looks at first at each
// start.
func (e *Engine) begin(m *version) (delegate string) {
	c, ok := e.remembered(m)
	switch {
	case ok:
		m.table, m.why = c.Candidates, c.Why+", remembered"
		m.trying = e.trial != nil && m.wants()
		return fastestCPU(m.table).Delegate
	case e.trial == nil:
		m.why = "serves as it is, there is no trial"
		return "builtin"
	}
	m.why, m.trying = "serves at once; the candidates are being tried", true
	return "builtin"
}

// tend does for a model what is to be done: its trial, another try of its
// accelerator, or something faster that stands in for that. No message waits.
func (e *Engine) tend(ctx context.Context, m *version) {
	serving := m.serving.Load()
	if e.trial == nil || serving == nil || serving.cpu != nil {
		return
	}
	m.mu.Lock()
	trying, table, wants := m.trying, m.table, m.wants()
	here := wants && m.accel.here(m.engine.Sysfs)
	due := wants && m.away.due(time.Now(), here)
	again := m.accel == nil && m.pinned == "auto" && waited(table) > busyBox && time.Now().After(m.again)
	m.mu.Unlock()
	if wants && !here && !m.accel.found {
		m.degrade(errNotHere)
	}
	switch {
	case len(table) == 0 && (trying || due):
		e.try(ctx, m, m.candidates(due), false)
	case due:
		e.try(ctx, m, slices.Compact([]string{"builtin", fastestCPU(table).Delegate, "external"}), false)
	case trying:
		m.settle(ctx)
	case again:
		e.try(ctx, m, m.candidates(false), true)
	}
}

// A trial of which a candidate waited for more than a fifth of its time was made
// on a busy box: of two threads it tells too little. It is made again, until one
// has less to wait.
const (
	busyBox  = 0.2
	tryAgain = 10 * time.Minute
)

// waited is the largest share of its time that a candidate had to wait.
func waited(table []CandidateReport) (share float64) {
	for _, r := range table {
		share = max(share, r.Waited)
	}
	return share
}

// Try runs the trial of one model now, whether it was made before or not; its
// table is in Models.
func (e *Engine) Try(ctx context.Context, model *Model) error {
	m := model.live.Load()
	if e.trial == nil {
		return fmt.Errorf("model %s: there is no trial", m.name)
	}
	e.try(ctx, m, m.candidates(m.accel != nil && m.accel.here(m.engine.Sysfs)), false)
	if err := ctx.Err(); err != nil {
		return err
	}
	if s := m.status(); len(s.Candidates) == 0 {
		return fmt.Errorf("model %s: %s", m.name, s.Why)
	}
	return nil
}

// try runs a trial of some candidates and puts the best in service; again: where
// it was made on a less busy box than the one before.
func (e *Engine) try(ctx context.Context, m *version, candidates []string, again bool) {
	req := TrialRequest{Library: m.engine.Library, File: m.file.path, Candidates: candidates}
	accel := slices.Contains(candidates, "external")
	if accel {
		req.External, req.Accelerated = m.accel.External, m.accel.file
	}
	reports, err := e.trial(ctx, req)
	if ctx.Err() != nil {
		return
	}
	if !again {
		debug.FreeOSMemory() // what the start and reading the model took
	}
	m.mu.Lock()
	m.again = time.Now().Add(tryAgain)
	worse := again && (err != nil || waited(reports) >= waited(m.table))
	m.mu.Unlock()
	if worse { // no more is known than before
		return
	}
	missed := func(cause error) {
		m.mu.Lock()
		m.away.failed(time.Now())
		m.mu.Unlock()
		m.degrade(cause)
	}
	if err != nil {
		m.mu.Lock()
		m.trying, m.why = false, "the trial could not be made: "+err.Error()
		m.mu.Unlock()
		e.noChild.Do(func() { m.log.Warn().Err(err).Msg("no trial of delegates; the built-in kernels serve") })
		if accel {
			missed(err)
		}
		return
	}
	m.mu.Lock()
	untried := len(m.table) == 0
	if r := external(reports); accel && !untried && (r == nil || !r.OK) {
		// Nothing new of the CPU: another measuring is no reason to change.
		reports = slices.DeleteFunc(reports, func(r CandidateReport) bool { return r.Name != "external" })
	}
	m.table = merged(m.table, reports)
	m.mu.Unlock()
	c, changed, ok := m.settle(ctx)
	if !ok {
		return
	}
	right := false
	if accel {
		r := external(c.Candidates)
		if right = r != nil && r.OK; !right {
			missed(errors.New(why(r)))
		}
	}
	if untried || changed {
		m.log.Info().Str("delegate", c.Delegate).Str("why", c.Why).Msg("delegate chosen")
	}
	if untried || right || again {
		if err := e.remember(m, c); err != nil {
			m.log.Warn().Err(err).Msg("the choice is not remembered")
		}
	}
}

func why(r *CandidateReport) string {
	if r == nil {
		return "the trial says nothing of it"
	}
	return r.Why
}

// merged is a table with newer reports in place of older ones.
func merged(table, reports []CandidateReport) []CandidateReport {
	table = slices.Clone(table)
	for _, r := range reports {
		if i := slices.IndexFunc(table, func(old CandidateReport) bool { return old.Name == r.Name }); i >= 0 {
			table[i] = r
		} else {
			table = append(table, r)
		}
	}
	return table
}

// settle puts the best of the table in service, or the next best where that is
// not to be had in this process; not ok where ctx ended or the model is gone.
func (m *version) settle(ctx context.Context) (c choice, changed, ok bool) {
	for {
		m.mu.Lock()
		c = choose(m.table, m.pinned)
		m.mu.Unlock()
		serving := m.serving.Load()
		if serving == nil {
			return c, false, false
		}
		var p *pool
		if changed = serving.delegate != c.Delegate; changed {
			var err error
			if p, err = m.ready(ctx, c.Delegate); ctx.Err() != nil {
				if p != nil {
					p.free()
				}
				return c, false, false
			} else if err != nil && c.Delegate != "builtin" {
				m.mu.Lock()
				m.table = ruledOut(m.table, c.Delegate, err)
				m.mu.Unlock()
				continue
			} else if err != nil {
				changed = false // what serves goes on
				c.Why = fmt.Sprintf("the built-in kernels are not to be had here: %v", err)
			}
		}
		// The books first: an accelerator may fail in the very next frame.
		m.mu.Lock()
		m.trying, m.why, m.table = false, c.Why, c.Candidates
		if r := external(m.table); m.accel == nil || r != nil && r.OK {
			m.degraded = ""
		}
		m.frames.Store(0)
		m.mu.Unlock()
		if changed {
			m.swap(p)
		}
		return c, changed, true
	}
}

// threadsPay is how much faster a candidate with two threads must be: it takes
// two cores, on which two interpreters of one thread would do twice the work of
// one.
const threadsPay = 1.5

// choose takes the accelerator where it is pinned and right, else the fastest
// of those that agree; among those within 5 % the one that was named first.
// Those with one thread are named first.
func choose(reports []CandidateReport, pinned string) choice {
	best, builtin := -1, 0.0
	for i, r := range reports {
		if !r.OK {
			continue
		}
		if r.Name == "builtin" {
			builtin = r.Micros
		}
		if r.Name == pinned {
			best = i
			break
		}
		least := 0.95
		if d, err := parseDelegate(r.Name); err == nil && d.threads > 1 {
			least = 1 / threadsPay
		}
		if best < 0 || r.Micros < least*reports[best].Micros {
			best = i
		}
	}
	c := choice{Delegate: "builtin", Why: "no candidate is right", Candidates: slices.Clone(reports)}
	for i := range c.Candidates {
		c.Candidates[i].Chosen = i == best
	}
	if best < 0 {
		return c
	}
	r := reports[best]
	c.Delegate = r.Name
	c.Why = fmt.Sprintf("fastest of %d that agree, %s an inference", countOK(reports), micros(r.Micros))
	if r.Name == pinned {
		c.Why = fmt.Sprintf("pinned by the configuration, %s an inference", micros(r.Micros))
	}
	if r.Name != "builtin" && r.Micros > 0 {
		c.Why += fmt.Sprintf(", %.1f times the built-in kernels", builtin/r.Micros)
	}
	if waited(reports) > busyBox {
		c.Why += ", on a busy box"
	}
	return c
}

// fastestCPU is the choice without an accelerator.
func fastestCPU(reports []CandidateReport) choice {
	return choose(slices.DeleteFunc(slices.Clone(reports), func(r CandidateReport) bool { return r.Name == "external" }), "auto")
}

func countOK(reports []CandidateReport) (n int) {
	for _, r := range reports {
		if r.OK {
			n++
		}
	}
	return n
}

func micros(us float64) string {
	if us < 1000 {
		return fmt.Sprintf("%.1f µs", us)
	}
	return fmt.Sprintf("%.2f ms", us/1000)
}
