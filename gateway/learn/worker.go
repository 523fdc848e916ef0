package learn

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"edgegateway/fl"
)

// Worker does requests in child processes, one at a time, at the lowest priority
// and within limits: the child is stopped while they do not allow it to work.
type Worker struct {
	Program string   // this same program, with
	Args    []string // the arguments that have it call RunChild
	Limits  func() Limits
	Gate    func() func() bool // of what serves, asked while the child works; nil: nothing serves
	Sysfs   string             // where the box says how hot it is; "": /sys
	Changed func(state string) // hears when it begins to pause, and when it goes on; nil: nobody

	busy  sync.Mutex
	state atomic.Pointer[string]
	spent [states]atomic.Int64 // nanoseconds of children, by what they did
}

// What a child does, or why it is stopped.
const (
	works  = iota
	serves // what serves comes first
	shares // its share of the processor is used
	shut   // the hours, or the heat
	states = iota
)

// stateNames are those of the metric.
var stateNames = [states]string{"working", "serving", "share", "shut"}

// State says what the worker does: idle, working, or why it pauses.
func (w *Worker) State() string {
	if s := w.state.Load(); s != nil {
		return *s
	}
	return "idle"
}

func (w *Worker) say(s string) {
	was := w.State()
	if w.state.Store(&s); w.Changed != nil && pausing(s) != pausing(was) {
		w.Changed(s)
	}
}

// pausing says whether a State is a pause.
func pausing(state string) bool { return state != "idle" && state != "working" }

// Train does a job. keep is a folder for its state, "" for none.
func (w *Worker) Train(ctx context.Context, job *fl.Job, samples Samples, keep string, progress func(epoch, of int)) (*fl.Result, error) {
	req := Request{Job: job, Samples: samples}
	if keep != "" && job.Task.Local.Epochs > 1 {
		if err := os.MkdirAll(keep, 0o700); err != nil {
			return nil, fmt.Errorf("%w: %w", fl.ErrLater, err)
		}
		req.Keep = keepName(keep, job)
	}
	said, err := w.do(ctx, req, progress)
	if err != nil {
		return nil, err
	}
	if said.Result == nil {
		return nil, errors.New("the training said nothing")
	}
	return said.Result, nil
}

// Make makes a .tflite and judges it.
func (w *Worker) Make(ctx context.Context, m Make, samples Samples) (*Made, error) {
	said, err := w.do(ctx, Request{Make: &m, Samples: samples}, nil)
	if err != nil {
		return nil, err
	}
	if said.Made == nil {
		return nil, errors.New("the making of the model said nothing")
	}
	return said.Made, nil
}

// A child that died of something else than itself may not the next time.
func later(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fl.ErrLater, fmt.Errorf(format, args...))
}

// do runs one child to its end.
func (w *Worker) do(ctx context.Context, req Request, progress func(epoch, of int)) (*word, error) {
	w.busy.Lock()
	defer w.busy.Unlock()
	defer w.say("idle")
	if w.Program == "" {
		return nil, later("there is no program to train in a child process")
	}
	p := pause{w: w, gate: w.gate()}
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	w.say("working")
	l := w.Limits()
	req.Memory, req.Procs, req.Eager = l.Memory, l.procs(), l.Eager
	cmd := exec.Command(w.Program, w.Args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is the parent's; who orphans it while it is stopped ends it
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, later("%w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, later("%w", err)
	}
	var last tail
	cmd.Stderr = &last
	start := OnLowest
	if l.Eager {
		start = func(start func() error) error { return start() }
	}
	if err := start(cmd.Start); err != nil {
		return nil, later("the child process cannot be started: %w", err)
	}
	words := make(chan word)
	go func() {
		defer close(words)
		dec := gob.NewDecoder(io.LimitReader(stdout, 2<<30))
		for {
			var said word
			if dec.Decode(&said) != nil {
				return
			}
			words <- said
		}
	}()
	sent := make(chan error, 1)
	go func() { sent <- gob.NewEncoder(stdin).Encode(req) }() // a child that is gone says why by its end
	end := w.listen(ctx, cmd.Process.Pid, &p, words, progress)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it has no more to say
	for range words {
	}
	err = cmd.Wait()
	stdin.Close()
	<-sent
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", fl.ErrLater, ctx.Err())
	case end == nil:
		return nil, later("the child process ended (%v) %s", err, last.text())
	case end.Err != "":
		return nil, errors.New(end.Err)
	}
	return end, nil
}

func (w *Worker) gate() func() bool {
	if w.Gate == nil {
		return func() bool { return true }
	}
	return w.Gate()
}

// listen takes a child's words until it ends, and lets it work when it may.
func (w *Worker) listen(ctx context.Context, pid int, p *pause, words <-chan word, progress func(epoch, of int)) (end *word) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	did, since := works, time.Now()
	for {
		select {
		case said, ok := <-words:
			switch {
			case !ok:
				return nil
			case said.End:
				return &said
			case progress != nil:
				progress(said.Epoch, said.Of)
			}
		case <-tick.C:
			now := time.Now()
			p.w.spent[did].Add(int64(now.Sub(since)))
			since = now
			was := did
			if did = p.why(now); (did == works) == (was == works) {
				continue
			}
			signal := syscall.SIGCONT
			if did != works {
				signal = syscall.SIGSTOP
			}
			_ = syscall.Kill(-pid, signal) // where it is gone its words have ended
		case <-ctx.Done():
			return nil
		}
	}
}

// pause says when a child may not work.
type pause struct {
	w      *Worker
	gate   func() bool
	looked time.Time // at the temperature
	hot    string
}

// may not work for long: the hours, or the heat.
func (p *pause) long(now time.Time) string {
	l := p.w.Limits()
	if !l.open(now) {
		return "pauses until " + strings.Join(l.Hours, ", ")
	}
	if now.Sub(p.looked) >= time.Second {
		p.looked, p.hot = now, ""
		sysfs := p.w.Sysfs
		if sysfs == "" {
			sysfs = "/sys"
		}
		if c, ok := hottest(sysfs); ok && l.Celsius > 0 && c > l.Celsius {
			p.hot = fmt.Sprintf("pauses at %.0f degrees, limits.celsius allows %.0f", c, l.Celsius)
		}
	}
	return p.hot
}

// why says what the child does from now on.
func (p *pause) why(now time.Time) int {
	if long := p.long(now); long != "" {
		p.w.say(long)
		return shut
	}
	p.w.say("working")
	switch {
	case !p.w.Limits().turn(now):
		return shares
	case !p.gate():
		return serves
	}
	return works
}

// wait waits until a child may be started.
func (p *pause) wait(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		why := p.long(time.Now())
		if why == "" {
			return nil
		}
		p.w.say(why)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", fl.ErrLater, ctx.Err())
		}
	}
}

// tail keeps the last that a child says on its standard error.
type tail struct {
	mu  sync.Mutex
	end string
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end += string(b)
	t.end = t.end[max(0, len(t.end)-400):]
	return len(b), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.end)
}

// folder is where a gateway keeps what belongs to a task.
func folder(data string, more ...string) string {
	return filepath.Join(append([]string{data, "fl"}, more...)...)
}
