package infer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
func (e *Engine) key(m *Model) string {
	h := sha256.New()
	fmt.Fprintln(h, m.file.sum, m.engine.Library, e.lib.Version(), cpuName(), runtime.NumCPU(), m.cfg.Accelerated, m.cfg.External, m.candidates())
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
func (e *Engine) remembered(m *Model) (c choice, ok bool) {
	b, err := os.ReadFile(filepath.Join(e.dir, e.key(m)+".json"))
	return c, err == nil && json.Unmarshal(b, &c) == nil && checkDelegate(c.Delegate) == nil && c.Delegate != ""
}

// remember writes it; a gateway that cannot measures again at each start.
func (e *Engine) remember(m *Model, c choice) error {
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

// Try runs the trial of one model now, whether it was made before or not; its
// table is in Models.
func (e *Engine) Try(ctx context.Context, m *Model) error {
	e.try(ctx, m)
	if err := ctx.Err(); err != nil {
		return err
	}
	if s := m.status(); len(s.Candidates) == 0 {
		return fmt.Errorf("model %s: %s", m.name, s.Why)
	}
	return nil
}

// try runs the trial of one model and puts the fastest candidate in service.
// No message waits for it.
func (e *Engine) try(ctx context.Context, m *Model) {
	done := func(why string, table []CandidateReport) {
		m.mu.Lock()
		m.trying, m.why = false, why
		if table != nil {
			m.table = table
		}
		m.mu.Unlock()
	}
	reports, err := e.trial(ctx, TrialRequest{
		Library: m.engine.Library, File: m.file.path, Accelerated: m.cfg.Accelerated,
		External: m.cfg.External, Candidates: m.candidates(),
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		done("the trial could not be made: "+err.Error(), nil)
		e.noChild.Do(func() { m.log.Warn().Err(err).Msg("no trial of delegates; the built-in kernels serve") })
		return
	}
	c := choose(reports)
	if m.pool().delegate != c.Delegate {
		p, err := m.open(c.Delegate)
		if err != nil {
			done(fmt.Sprintf("%s was the fastest, but is not to be had here: %v", c.Delegate, err), c.Candidates)
			m.log.Warn().Err(err).Str("delegate", c.Delegate).Msg("the built-in kernels go on")
			return
		}
		m.swap(p)
	}
	done(c.Why, c.Candidates)
	m.log.Info().Str("delegate", c.Delegate).Str("why", c.Why).Msg("delegate chosen")
	if err := e.remember(m, c); err != nil {
		m.log.Warn().Err(err).Msg("the choice is not remembered")
	}
}

// choose takes the fastest of those that agree; among those within 5 % the
// one that was named first, so that two threads win only where they help.
func choose(reports []CandidateReport) choice {
	best, builtin := -1, 0.0
	for i, r := range reports {
		if !r.OK {
			continue
		}
		if r.Name == "builtin" {
			builtin = r.Micros
		}
		if best < 0 || r.Micros < 0.95*reports[best].Micros {
			best = i
		}
	}
	c := choice{Delegate: "builtin", Why: "no candidate is right", Candidates: slices.Clone(reports)}
	if best < 0 {
		return c
	}
	c.Candidates[best].Chosen = true
	r := reports[best]
	c.Delegate = r.Name
	c.Why = fmt.Sprintf("fastest of %d that agree, %s an inference", countOK(reports), micros(r.Micros))
	if r.Name != "builtin" && r.Micros > 0 {
		c.Why += fmt.Sprintf(", %.1f times the built-in kernels", builtin/r.Micros)
	}
	return c
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

// trialLimit is how long one child may take.
const trialLimit = time.Minute

// ChildTrial is a TrialFunc that starts a program with arguments as the
// child, gives it the request and reads its reports. Where the child dies,
// the candidate it had begun is to blame, and another child tries the rest.
func ChildTrial(program string, args ...string) TrialFunc {
	return func(ctx context.Context, req TrialRequest) ([]CandidateReport, error) {
		all := req.Candidates
		found := map[string]CandidateReport{}
		for len(req.Candidates) > 0 {
			begun, err := runChild(ctx, program, args, req, found)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err == nil {
				break
			}
			if begun == "" || begun == all[0] {
				return nil, err
			}
			found[begun] = CandidateReport{Name: begun, Why: fmt.Sprintf("the child process died of it: %v", err)}
			req.Candidates = slices.DeleteFunc(slices.Clone(req.Candidates), func(n string) bool {
				return n == begun || found[n].Name != "" && !found[n].OK
			})
		}
		var list []CandidateReport
		for _, n := range all {
			if r, ok := found[n]; ok {
				list = append(list, r)
			}
		}
		return list, nil
	}
}

// runChild runs one child; begun is whom it touched last when it died.
func runChild(ctx context.Context, program string, args []string, req TrialRequest, found map[string]CandidateReport) (begun string, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	b, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(string(b))
	var said tail
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("the child process cannot be started: %w", err)
	}
	dec := json.NewDecoder(io.LimitReader(out, 1<<20))
	for {
		var r CandidateReport
		if dec.Decode(&r) != nil {
			break
		}
		if r.Begun {
			begun = r.Name
			continue
		}
		found[r.Name] = r
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("not done within %v", trialLimit)
		}
		return begun, fmt.Errorf("%w %s", err, strings.TrimSpace(said.text))
	}
	return begun, nil
}

// tail keeps the last of what a child says.
type tail struct{ text string }

func (t *tail) Write(p []byte) (int, error) {
	t.text += string(p)
	if len(t.text) > 400 {
		t.text = t.text[len(t.text)-400:]
	}
	return len(p), nil
}
