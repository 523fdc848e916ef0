package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"edgegateway/gateway/learn"
)

// server is what is measured: a child process, or somebody else's.
type server struct {
	cmd     *exec.Cmd
	pids    []int // whose processor time and memory count
	url     string
	web     string
	in, out string
	calls   int // of measure
}

// startServer starts this program and waits until it says its address: the
// echo on its first line, a gateway in its log.
func startServer(ctx context.Context, args ...string) (*server, error) {
	return startAs(ctx, func(start func() error) error { return start() }, args...)
}

// startElsewhere is startServer for what would run on another box: it gets what
// nobody else on this one wants.
func startElsewhere(ctx context.Context, args ...string) (*server, error) {
	return startAs(ctx, learn.OnLowest, args...)
}

func startAs(ctx context.Context, as func(start func() error) error, args ...string) (*server, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := as(cmd.Start); err != nil {
		return nil, err
	}
	w.Close()
	s := &server{cmd: cmd}
	found := make(chan error, 1)
	go func() {
		defer r.Close()
		in := bufio.NewScanner(r)
		var lines []string
		for in.Scan() {
			line := in.Text()
			if s.url == "" {
				lines = append(lines, line)
				if i := strings.Index(line, "tcp://127.0.0.1:"); i >= 0 {
					s.url = strings.TrimRight(strings.SplitN(line[i:], `"`, 2)[0], "] ")
					if _, rest, ok := strings.Cut(line, `"dashboard":"`); ok {
						s.web = "http://" + strings.SplitN(rest, `"`, 2)[0]
					}
					found <- nil
				}
			}
		}
		if s.url == "" {
			found <- fmt.Errorf("%s ended: %s", strings.Join(args, " "), strings.Join(lines, "\n"))
		}
	}()
	select {
	case err := <-found:
		if err != nil {
			cmd.Wait()
			return nil, err
		}
		s.pids = []int{cmd.Process.Pid}
		return s, nil
	case <-ctx.Done():
		s.stop()
		return nil, ctx.Err()
	case <-time.After(20 * time.Second):
		s.stop()
		return nil, fmt.Errorf("%s: does not start within 20 s", strings.Join(args, " "))
	}
}

func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		s.cmd.Process.Kill()
		<-done
	}
}
