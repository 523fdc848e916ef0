package infer

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ChildPreflight is a PreflightFunc that starts a program with arguments as the
// child, which calls RunPreflight. One child tries the candidates, another one
// measures the model on the delegate that is chosen of them. A child that dies,
// hangs or takes too much memory is a version that fails, except on an
// accelerator, which costs speed and not the service.
func ChildPreflight(program string, args ...string) PreflightFunc {
	return func(ctx context.Context, req PreflightRequest, gate func() bool) (*PreflightReport, error) {
		req.defaults()
		if gate == nil {
			gate = func() bool { return true }
		}
		began := time.Now()
		c := conductor{program: program, args: args, gate: gate, report: PreflightReport{File: filepath.Base(req.Model.File)}}
		err := c.conduct(ctx, req)
		r := &c.report
		r.Took, r.Waited = time.Since(began).Seconds(), c.waited.Seconds()
		r.judge()
		return r, err
	}
}

// conductor is the parent's side of one pre-flight.
type conductor struct {
	program string
	args    []string
	gate    func() bool
	waited  time.Duration
	report  PreflightReport
	figures *figures
}

func (c *conductor) conduct(ctx context.Context, req PreflightRequest) error {
	r, work := &c.report, preflightWork{PreflightRequest: req}
	for {
		failed, err := c.child(ctx, work)
		var f *fault
		if errors.As(err, &f) && f.on == "external" && len(work.Without) == 0 {
			work.Without = []string{f.on}
			r.Checks, r.Candidates = nil, []CandidateReport{{Name: f.on, Why: "the child process died of it: " + f.Error()}}
			continue
		}
		if err != nil || failed {
			return c.blame(err)
		}
		break
	}
	choice := choose(r.Candidates, cmp.Or(req.Model.Delegate, "auto"))
	r.Candidates, r.Delegate = choice.Candidates, choice.Delegate
	work.Measure = r.Delegate
	if failed, err := c.child(ctx, work); err != nil || failed {
		return c.blame(err)
	}
	if c.figures == nil {
		return errors.New("the child process of the pre-flight said no figures")
	}
	f := c.figures
	r.Checks = append(r.Checks, f.checks(&req)...)
	r.P50, r.P99, r.WallP50, r.WallP99 = f.Own[0], f.Own[1], f.Wall[0], f.Wall[1]
	r.PeakMemoryBytes, r.LeakBytes, r.Calls, r.LiveP50 = f.Peak, f.Leak, f.Calls, f.Live
	if f.Live > 0 {
		r.Slower = f.Beside / f.Live
	}
	return nil
}

// blame makes a check that failed of a child that ended badly.
func (c *conductor) blame(err error) error {
	var f *fault
	if !errors.As(err, &f) {
		return err
	}
	name := CheckCrash
	if f.memory {
		name = CheckMemory
	}
	c.report.Checks = append(c.report.Checks, Check{Name: name, Why: f.Error()})
	return nil
}

// fault is a child that died, hung or took too much memory.
type fault struct {
	check, on string // what it was about
	memory    bool
	what      string
}

func (f *fault) Error() string {
	switch f.check {
	case "":
		return f.what
	case CheckLoads:
		return fmt.Sprintf("%s while it loaded on %s", f.what, f.on)
	case CheckCrash:
		return fmt.Sprintf("%s while it was closed on %s", f.what, f.on)
	}
	return fmt.Sprintf("%s on %s, in the check %q", f.what, f.on, f.check)
}

// child runs one child to its end; failed says that it said why the version
// fails. An error that is a *fault is the model's.
func (c *conductor) child(ctx context.Context, work preflightWork) (failed bool, err error) {
	request, err := json.Marshal(work)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, c.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the parent's
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	var said lastWords
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("the child process cannot be started: %w", err)
	}
	words := make(chan preflightWord)
	go func() {
		defer close(words)
		// A child that says more is out of its mind.
		lines := bufio.NewScanner(io.LimitReader(stdout, 64<<20))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var w preflightWord
			if json.Unmarshal(lines.Bytes(), &w) == nil {
				words <- w
			}
		}
	}()
	_, _ = stdin.Write(append(request, '\n')) // one that is gone says why by its end
	f := c.listen(ctx, cmd.Process.Pid, stdin, words, work, &failed)
	if f.what != "" || ctx.Err() != nil {
		_ = cmd.Process.Kill()
	}
	for range words { // Wait closes the pipe, and nobody may read it then
	}
	err = cmd.Wait()
	switch {
	case f.what != "":
		return failed, &f
	case ctx.Err() != nil:
		return failed, ctx.Err()
	case err == nil:
		return failed, nil
	case f.check == "": // it came to nothing
		return failed, fmt.Errorf("the child process of the pre-flight: %w %s", err, said.text())
	}
	f.what = strings.TrimSpace(fmt.Sprintf("it ended its process (%v) %s", err, said.text()))
	return failed, &f
}

// listen takes a child's words until it ends, lets it go on when it may, and
// watches its memory and its silence. The fault has no what where nothing is
// wrong.
func (c *conductor) listen(ctx context.Context, pid int, stdin io.Writer, words <-chan preflightWord, work preflightWork, failed *bool) (f fault) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	spoke, computed := time.Now(), time.Duration(0)
	asked := time.Time{} // when it asked and was not let on
	grant := func() {
		if !c.gate() {
			return
		}
		c.waited += time.Since(asked)
		asked = time.Time{}
		spoke, computed = time.Now(), processorTime(pid)
		_, _ = io.WriteString(stdin, "go\n")
	}
	for {
		select {
		case <-ctx.Done():
			return f
		case w, ok := <-words:
			if !ok {
				return f
			}
			spoke = time.Now()
			switch {
			case w.Ask:
				asked = spoke
				grant()
			case w.Begin != "":
				f.check, f.on = w.Begin, w.On
			default:
				*failed = c.take(w) || *failed
			}
		case <-tick.C:
			if asked != (time.Time{}) {
				grant()
				continue
			}
			if m := memoryOf(strconv.Itoa(pid)); m.resident > work.Memory {
				f.memory, f.what = true, fmt.Sprintf("it took %.0f MB, the trial allows %.0f MB: it was ended", float64(m.resident)/1e6, float64(work.Memory)/1e6)
				return f
			}
			if used := processorTime(pid) - computed; used > work.Patience || used <= work.Patience/100 && time.Since(spoke) > 15*work.Patience {
				f.what = fmt.Sprintf("it gives no answer: after %v, %v of it on the processor, it was ended", time.Since(spoke).Round(100*time.Millisecond), used)
				return f
			}
		}
	}
}

// take notes what a child found out.
func (c *conductor) take(w preflightWord) (failed bool) {
	r := &c.report
	switch {
	case w.SHA256 != "":
		r.SHA256 = w.SHA256
	case w.Check != nil:
		r.Checks = append(r.Checks, *w.Check)
		return !w.Check.OK
	case w.Candidate != nil:
		r.Candidates = merged(r.Candidates, []CandidateReport{*w.Candidate})
	case w.Figures != nil && !math.IsNaN(w.Figures.Live):
		c.figures = w.Figures
	}
	return false
}

// lastWords is what a child says on its standard error: of a crash the line that
// names it, else the last one.
type lastWords struct{ crash, last, rest string }

func (l *lastWords) Write(p []byte) (int, error) {
	l.rest += string(p)
	for {
		line, rest, ok := strings.Cut(l.rest, "\n")
		if !ok {
			break
		}
		l.rest = rest
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "INFO: ") {
			continue
		}
		l.last = line
		for _, sign := range []string{"SIG", "fatal error", "panic"} {
			if l.crash == "" && strings.HasPrefix(line, sign) {
				l.crash = line
			}
		}
	}
	if len(l.rest) > 4000 {
		l.rest = l.rest[:4000]
	}
	return len(p), nil
}

func (l *lastWords) text() string {
	return fmt.Sprintf("%.300s", cmp.Or(l.crash, l.last, strings.TrimSpace(l.rest)))
}
