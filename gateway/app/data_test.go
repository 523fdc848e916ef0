package app

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/internal/testkit"
)

// What a killed gateway was about to start has its lock for a moment: the next
// gateway waits for that one, and for no gateway that lives.
func TestLockOfAKilledGateway(t *testing.T) {
	dead := exec.Command(testkit.Program(t, "true"))
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		process int
		refused string
	}{{dead.Process.Pid, ""}, {os.Getpid(), "is in use by gateway \"hall\""}} {
		dir := t.TempDir()
		first, err := openData(dir, "hall")
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("gateway \"hall\", process %d\n", c.process)
		if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		freed := make(chan struct{})
		if c.refused == "" {
			time.AfterFunc(100*time.Millisecond, func() {
				defer close(freed)
				_ = syscall.Flock(int(first.lock.Fd()), syscall.LOCK_UN)
			})
		} else {
			close(freed)
		}
		second, err := openData(dir, "hall")
		switch {
		case c.refused == "" && err != nil:
			t.Errorf("the lock of a gateway that is gone: %v", err)
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("the lock of a gateway that lives: %v", err)
		case err == nil:
			second.lock.Close()
		}
		<-freed
		first.lock.Close()
	}
}
