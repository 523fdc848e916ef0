package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"edgegateway/internal/testkit"
)

// demoFLOf starts the demonstration of federated learning with a smaller task.
// left is what there may not be any more when it ended.
func demoFLOf(t *testing.T, rounds int) (p *testkit.Process, left func()) {
	t.Helper()
	cache := filepath.Dir(filepath.Dir(testkit.Cached(t, "mnist/data")))
	configs := filepath.Join(testkit.Root(t), "configs")
	text, err := os.ReadFile(filepath.Join(configs, "fl", "demo.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	task := string(text)
	for old, smaller := range map[string]string{`minimum: \d+`: "minimum: 500", `units: \d+`: "units: 32", `rounds: \d+`: "rounds: " + strconv.Itoa(rounds)} {
		task = regexp.MustCompile(old).ReplaceAllString(task, smaller)
	}
	tmp := t.TempDir()
	mark := "EDGEGATEWAY_TEST_MARK=" + tmp // another run of this test may be under way
	cmd := testkit.Command(t, "demo", "fl", "--configs", configs, "--cache", cache, "--task", write(t, t.TempDir(), "task.yaml", task))
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp, mark)
	return testkit.Start(t, cmd), func() {
		t.Helper()
		if files, err := os.ReadDir(tmp); err != nil || len(files) > 0 {
			t.Errorf("files left behind: %v %v", files, err)
		}
		// What a gateway that had to be killed was training with ends by itself.
		for late := time.Now().Add(time.Minute); len(withEnvironment(t, mark)) > 0 && time.Now().Before(late); {
			time.Sleep(10 * time.Millisecond)
		}
		for _, pid := range withEnvironment(t, mark) {
			t.Errorf("process %s is left", pid)
		}
	}
}

// percentages are those of a line that is matched by so many groups.
func percentages(t *testing.T, groups []string) (list []float64) {
	t.Helper()
	for _, g := range groups[1:] {
		v, err := strconv.ParseFloat(g, 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

// Five gateways learn from what their streams record, one is killed meanwhile, and
// one more participant means them ill: what make demo-fl says of it.
func TestDemoFL(t *testing.T) {
	p, left := demoFLOf(t, 5)
	p.Line(`north +recorded 500 digits, none but 0 1 2, as its inspector told$`)
	p.Line(`yard +recorded 500 digits, none but 8 9 0, as its inspector told$`)
	p.Line(`rogue +is enrolled, and sends 4 times the opposite of what it learns$`)
	for i := range 6 {
		p.Line(fmt.Sprintf(` round %d `, i))
	}
	shown := percentages(t, p.Line(`shown +(\d+) to (\d+) % right at first, (\d+) to (\d+) % after 5 rounds together;$`))
	alone := percentages(t, p.Line(`north alone, on its own digits with as many steps: (\d+) %$`))[0]
	counted := percentages(t, p.Line(`(\d+) pictures, each answered once, over (\d+) swaps of models$`))
	p.Line(`^\S+ +rogue set aside in 5 of 5 rounds$`)
	if code := p.Exit(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, p.Output())
	}
	rows := regexp.MustCompile(`(?m)^\S+  round (\d)((?: +(?:-|[\d.]+)){5})(.*)$`).FindAllStringSubmatch(p.Output(), -1)
	if len(rows) != 6 {
		t.Fatalf("%d rounds are shown:\n%s", len(rows), p.Output())
	}
	for i, row := range rows {
		if row[1] != strconv.Itoa(i) || i > 0 && !strings.Contains(row[3], "without rogue") {
			t.Errorf("round %d: %q", i, row[0])
		}
	}
	killed := regexp.MustCompile(`(?m)south +killed by SIGKILL while it trains for round [345]$[\s\S]*south +is back; the round waited, and has its update after [\d.]+ s$`)
	if !killed.MatchString(p.Output()) {
		t.Errorf("no gateway was killed and came back:\n%s", p.Output())
	}
	// 5 rounds of few steps do not make it good, but better than any gateway can be
	// that knows three of the ten digits.
	if shown[1] > 30 || shown[2] < 40 {
		t.Errorf("%v to %v %% right at first, %v to %v %% in the end", shown[0], shown[1], shown[2], shown[3])
	}
	if alone > 35 {
		t.Errorf("a gateway that knows three digits is right on %v %% of ten", alone)
	}
	if counted[0] < 5*500+5*100 || counted[1] < 10 {
		t.Errorf("%v pictures, %v changes of models", counted[0], counted[1])
	}
	for _, line := range strings.Split(p.Output(), "\n") {
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("%d characters do not fit a terminal: %s", utf8.RuneCountInString(line), line)
		}
		if strings.Contains(line, "WRN") || strings.Contains(line, "ERR") {
			t.Errorf("it did not run cleanly: %s", line)
		}
	}
	left()
}

// Ctrl-C in mid-round, twice, leaves neither a process nor a file behind.
func TestDemoFLStopped(t *testing.T) {
	p, left := demoFLOf(t, 50)
	p.Line(`south +killed by SIGKILL while it trains for round \d+$`)
	p.Signal(syscall.SIGINT)
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.Output())
	}
	p.Line(`stopped +\d+ of 50 rounds were over$`)
	left()
}
