package testkit

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reexecEnv tells a test binary that it is to be the program.
const reexecEnv = "EDGEGATEWAY_TEST_PROGRAM"

// Main is for TestMain: where Command started this test binary it runs
// program with the command line and ends, else it runs the tests.
func Main(m *testing.M, program func(args []string) int) {
	if os.Getenv(reexecEnv) != "" {
		os.Exit(program(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// Command is our own program with arguments: this test binary, which must
// have a TestMain that calls Main. It and its children can be killed without
// the test.
func Command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), reexecEnv+"=1")
	return cmd
}

// patience is how long a test waits for what is to come at last: long, since
// machines that test are slow, and it is only used up by failures.
const patience = 2 * time.Minute

// Process is a running program whose output a test reads line by line.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended and all output is read

	mu      sync.Mutex
	lines   []string
	next    int           // the first line that Line did not look at yet
	changed chan struct{} // closed, and made anew, with each line
}

// Start starts cmd in a process group of its own, as a terminal would. At the
// end of the test the group is asked to end, then killed; its output is shown
// when the test failed.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, done: make(chan struct{}), changed: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	w.Close()
	go p.read(r)
	t.Cleanup(p.end)
	return p
}

func (p *Process) read(r io.ReadCloser) {
	defer close(p.done)
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			p.mu.Lock()
			p.lines = append(p.lines, strings.TrimRight(line, "\r\n"))
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			break
		}
	}
	r.Close()
	_ = p.cmd.Wait() // its state says how it ended
}

func (p *Process) end() {
	select {
	case <-p.done:
	default:
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
		}
		p.Signal(syscall.SIGKILL)
	}
	if p.t.Failed() {
		p.t.Logf("%s said:\n%s", strings.Join(p.cmd.Args, " "), p.Output())
	}
}

// Line waits for a line of output that matches, beyond those that an earlier
// call looked at, and returns the match and its groups.
func (p *Process) Line(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		for p.next < len(p.lines) {
			line := p.lines[p.next]
			p.next++
			if m := re.FindStringSubmatch(line); m != nil {
				p.mu.Unlock()
				return m
			}
		}
		changed := p.changed
		p.mu.Unlock()
		if ended {
			p.t.Fatalf("%s ended without a line like %s", strings.Join(p.cmd.Args, " "), pattern)
		}
		select {
		case <-changed:
		case <-p.done:
			ended = true
		case <-late:
			p.t.Fatalf("%s: no line like %s", strings.Join(p.cmd.Args, " "), pattern)
		}
	}
}

// Output is what it said so far, both streams in one.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// Pid is its process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal signals the process group, as Ctrl-C in a terminal does.
func (p *Process) Signal(sig syscall.Signal) {
	_ = syscall.Kill(-p.cmd.Process.Pid, sig) // it may have ended by itself
}

// Kill ends it at once, without a chance to write anything, and waits.
func (p *Process) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.Exit()
}

// Exit waits until it ended and returns its exit code, -1 for a signal.
func (p *Process) Exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not end", strings.Join(p.cmd.Args, " "))
	}
	return p.cmd.ProcessState.ExitCode()
}
