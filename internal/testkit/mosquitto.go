package testkit

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Mosquitto starts a foreign broker on a free loopback port and stops it at
// the end of the test. conf is added to its configuration file; where it has
// no listener of its own, anonymous clients are let in. The address is
// host:port. Its log is shown when the test fails.
func Mosquitto(t testing.TB, conf string) (addr string) {
	t.Helper()
	program := Program(t, "mosquitto")
	// The port was free a moment ago; another test may have taken it since.
	for try := 1; ; try++ {
		addr = FreeAddr(t)
		stop, log, ok := startMosquitto(t, program, addr, conf)
		if ok {
			t.Cleanup(func() {
				stop()
				if t.Failed() {
					t.Logf("mosquitto on %s said:\n%s", addr, log)
				}
			})
			return addr
		}
		stop()
		if try == 3 {
			t.Fatalf("mosquitto did not start on %s:\n%s", addr, log)
		}
	}
}

// startMosquitto reports whether the broker accepts on addr. stop may be
// called twice; log is complete after it.
func startMosquitto(t testing.TB, program, addr, conf string) (stop func(), log *Buffer, ok bool) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\n" + conf + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log = new(Buffer)
	cmd := exec.Command(program, "-c", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start mosquitto: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // killed below, or its log says why it ended
	}()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	return stop, log, accepts(addr, exited)
}

// accepts waits until something listens on addr: false when the process ends
// first or ten seconds are over.
func accepts(addr string, exited <-chan struct{}) bool {
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			return false
		case <-deadline:
			return false
		case <-tick.C:
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				return true
			}
		}
	}
}
