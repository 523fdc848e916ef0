package tflite

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestNoExecMemory: kernels since 6.3 can refuse memory that may be run, for
// all of a process namespace. The sysctl is set in one of the child's own.
func TestNoExecMemory(t *testing.T) {
	for _, c := range []struct{ noexec, from string }{
		{"", "/memfd:"}, // as this machine is
		{"1", "/memfd:"},
		{"2", "/cache/lib/"},
	} {
		t.Run("memfd_noexec="+c.noexec, func(t *testing.T) {
			dir := t.TempDir() + "/cache"
			said := child(t, "", func(cmd *exec.Cmd) {
				cmd.Env = append(cmd.Env, "EDGEGATEWAY_CACHE="+dir, "TFLITE_NOEXEC="+c.noexec)
				if c.noexec == "" {
					return
				}
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
				if os.Geteuid() != 0 {
					cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
					cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
				}
			})
			if strings.HasPrefix(said, "no sysctl") {
				t.Skip(said)
			}
			if !strings.HasPrefix(said, "version 2.9.0 from ") || !strings.Contains(said, c.from) {
				t.Errorf("%s, want it from %s", said, c.from)
			}
		})
	}
}
