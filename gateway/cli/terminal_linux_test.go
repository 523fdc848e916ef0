package cli_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgegateway/internal/testkit"
)

// On a terminal, where a person reads, lines have their time; elsewhere they
// have it where that is asked for.
func TestSubTime(t *testing.T) {
	_, broker, _ := gateway(t, "}")
	done(t, "", "publish", "--broker", broker, "--retain", "kept", fmt.Sprintf(`{"time": %d}`, time.Now().Unix()-3600))
	const mark = `kept \(retained, 1 h old\) \{"time": \d+\}`
	for _, c := range []struct {
		terminal bool
		args     []string
		want     string
	}{
		{false, nil, `^` + mark + `$`},
		{false, []string{"--time"}, `^\d\d:\d\d:\d\d ` + mark + `$`},
		{true, nil, `^\d\d:\d\d:\d\d ` + mark + `$`},
		{true, []string{"--time=false"}, `^` + mark + `$`},
		{true, []string{"--raw"}, `^\{"time": \d+\}$`},
	} {
		cmd := testkit.Command(t, append([]string{"sub", "--broker", broker, "--count", "1", "kept"}, c.args...)...)
		var got []byte
		var err error
		if c.terminal {
			got, err = onTerminal(t, cmd)
		} else {
			got, err = cmd.Output()
		}
		if text := strings.TrimSpace(string(got)); err != nil || !regexp.MustCompile(c.want).MatchString(text) {
			t.Errorf("terminal %v, %q: %q, %v; want %s", c.terminal, c.args, text, err, c.want)
		}
	}
}

// onTerminal runs a command with its standard output on a pseudo terminal of
// 120 columns.
func onTerminal(t *testing.T, cmd *exec.Cmd) ([]byte, error) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd.Stdout = slave
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	b := make([]byte, 1<<16)
	k, err := master.Read(b) // what was written is in the terminal's buffer
	return b[:k], err
}
