package cli

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// child is a process of this same program.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended and its last line was said
	err  error         // then
}

// startChild starts exe in a process group of its own, so that Ctrl-C reaches
// the conductor alone, and hands each line of its standard error to say. What it
// prints goes to out, nowhere where that is nil.
func startChild(exe string, env []string, out io.Writer, say func(line string), args ...string) (*child, error) {
	cmd := exec.Command(exe, args...)
	cmd.Stdout = out
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			// TensorFlow Lite says on its own what it created.
			if text := strings.TrimSpace(lines.Text()); text != "" && !strings.HasPrefix(text, "INFO: ") {
				say(text)
			}
		}
		_, _ = io.Copy(io.Discard, stderr) // a line too long must not block it
		c.err = cmd.Wait()
	}()
	return c, nil
}
