package cli_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// timed is a line of the demonstration.
var timed = regexp.MustCompile(`^\d\d:\d\d:\d\d  `)

// What a stranger does first: make run, look at what comes, paste the line
// that is printed, Ctrl-C. All processes are real, and so is the signal.
func TestMakeRun(t *testing.T) {
	testkit.Cached(t, "demo/face_detection_short_range.tflite")
	testkit.Cached(t, "mnist/data")
	root, tmp, mark := testkit.Root(t), t.TempDir(), "EDGEGATEWAY_TEST_MARK="+filepath.Base(t.TempDir())+t.Name()
	cmd := exec.Command(testkit.Program(t, "make"), "--no-print-directory", "run")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "EDGEGATEWAY_CACHE="+testkit.CacheDir(), "CGO_ENABLED=0", "TMPDIR="+tmp, "GOTMPDIR="+t.TempDir(), mark)
	p := testkit.Start(t, cmd)
	size := p.Line(`^built bin/edgegateway, ([\d.]+) MB$`)[1]
	if mb, err := strconv.ParseFloat(size, 64); err != nil || mb > 30 {
		t.Errorf("the program has %s MB; it is to stay under 30", size)
	}
	built := time.Now()
	cloud := p.Line(`cloud .* (tcp://127\.0\.0\.1:\d+)$`)[1]
	local := p.Line(`gateway .* at (tcp://127\.0\.0\.1:\d+)$`)[1]
	p.Line(`metrics and health are at http://127\.0\.0\.1:\d+$`)
	look := p.Line(`look in +(.*edgegateway sub .*)$`)[1]

	// The training begins with the first result, and may be on the terminal
	// before it.
	train := p.Line(`cloud +(porch/front|host/demo) |train +\$ edgegateway train `)[1] == ""
	if train {
		p.Line(`cloud +(porch/front|host/demo) `)
	}
	t.Logf("the first result was on the terminal %v after the build, or sooner", time.Since(built).Round(time.Millisecond))

	// The cloud tells a second subscriber the same as it tells the terminal.
	conn, err := link.Connect(t.Context(), link.Config{URL: cloud, ClientID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	arrived := map[string]bool{}
	msgs := newInbox(t, conn, "gateways/#")
	for _, want := range []string{"results/porch", "results/host", "alerts/somebody raised", "alerts/somebody cleared", "results/digits right", "results/digits by version 2"} {
		for !arrived[want] {
			arrived[demoKind(t, msgs.next())] = true
		}
	}
	conn.Close() // what is not read any more would fill the cloud's queue

	// The model that answered was made meanwhile, and shown.
	if !train {
		p.Line(`train +\$ edgegateway train `)
	}
	p.Line(`train +epoch 3 of 3: loss`)
	p.Line(`quantize digits-int8.tflite: \d+ bytes`)
	for _, kind := range []string{"float", "int8"} {
		right := p.Line(`evaluate ` + kind + ` +([\d.]+) % of 10000 right, \d+ kB$`)[1]
		if percent, err := strconv.ParseFloat(right, 64); err != nil || percent < 95 {
			t.Errorf("%s: %s %% right", kind, right)
		}
	}
	p.Line(`deploy +gateway demo, process \d+, reloaded its configuration$`)
	p.Line(`cloud +digits/\d +\d `)

	// Its int8 version went to the gateway through the cloud, and a broken one.
	p.Line(`push +digits-2.bundle to the cloud: `)
	p.Line(`tried +digits@2: p50 [\d.]+ [µm]s, live [\d.]+ [µm]s; [\d.]+ MB; golden: 5 right$`)
	agree := p.Line(`shadow +digits@2 agrees with the live one on ([\d.]+) % of \d{3,} digits$`)[1]
	if percent, err := strconv.ParseFloat(agree, 64); err != nil || percent <= 95 {
		t.Errorf("promoted with an agreement of %s %%", agree)
	}
	p.Line(`live +digits@2, promoted: samples >= 100 && agreement > 0.95$`)
	p.Line(`push +digits-3.bundle, `)
	p.Line(`refused +digits@3: golden answers: \d+ steps off; digits@2 serves$`)
	p.Line(`cloud +digits/\d +\d [\d.]+ version 2 `)

	sub := exec.Command("sh", "-c", "exec "+look)
	sub.Dir = root
	looked := testkit.Start(t, sub)
	looked.Line(`^results/porch/front (face 0\.|nothing found)`)
	looked.Signal(syscall.SIGINT)
	if code := looked.Exit(); code != 0 {
		t.Errorf("%s: exit code %d after Ctrl-C", look, code)
	}

	p.Signal(syscall.SIGINT)
	asked := time.Now()
	p.Exit()
	t.Logf("all ended %v after Ctrl-C", time.Since(asked).Round(time.Millisecond))
	p.Line(`stopped +the cloud had received [1-9]\d* results and [1-9]\d* alerts$`)
	for _, line := range strings.Split(p.Output(), "\n") {
		if strings.Contains(line, "killed") || strings.Contains(line, "WRN") || strings.Contains(line, "ERR") {
			t.Errorf("it did not run or end cleanly: %s", line)
		}
		if utf8.RuneCountInString(line) > 80 && timed.MatchString(line) {
			t.Errorf("%d characters do not fit a terminal: %s", utf8.RuneCountInString(line), line)
		}
	}
	for _, addr := range []string{cloud, local} {
		if c, err := net.Dial("tcp", strings.TrimPrefix(addr, "tcp://")); err == nil {
			c.Close()
			t.Errorf("%s still accepts", addr)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v %v", left, err)
	}
	for _, pid := range withEnvironment(t, mark) {
		t.Errorf("process %s is left", pid)
	}
}

// demoKind names what a message of the demonstration is; results must be
// whole and say which stream they are of.
func demoKind(t *testing.T, m link.Msg) string {
	t.Helper()
	topic := strings.TrimPrefix(m.Topic, "gateways/demo/")
	if topic == "status" || strings.HasPrefix(topic, "models/") || strings.HasSuffix(topic, "/picture") {
		return topic
	}
	var body struct {
		ID, Stream, Source, Alert, State, Label, Version string
		Features                                         map[string]float64
	}
	if err := json.Unmarshal(m.Payload, &body); err != nil || body.ID == "" {
		t.Fatalf("%s: %s: %v", topic, m.Payload, err)
	}
	switch {
	case body.Alert != "":
		return "alerts/" + body.Alert + " " + body.State
	case body.Stream == "digits" && body.Version != "":
		return "results/digits by version " + body.Version
	case body.Stream == "digits" && body.Label == body.Source:
		return "results/digits right"
	case body.Stream == "host" && body.Features["cpu.max"] < body.Features["cpu.mean"]:
		t.Errorf("%s: the maximum is under the mean: %s", topic, m.Payload)
	}
	return "results/" + body.Stream
}

// withEnvironment lists the processes that were started with a variable.
func withEnvironment(t *testing.T, variable string) (pids []string) {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		env, err := os.ReadFile(f)
		if err == nil && bytes.Contains(env, []byte(variable)) { // others end meanwhile
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// inbox takes what a connection receives.
type inbox struct {
	t    *testing.T
	msgs chan link.Msg
}

func newInbox(t *testing.T, conn *link.Conn, filters ...string) *inbox {
	t.Helper()
	in := &inbox{t: t, msgs: make(chan link.Msg, 1000)}
	ended := t.Context().Done()
	if err := conn.Subscribe(t.Context(), filters, 1, func(m link.Msg) {
		select {
		case in.msgs <- m:
		case <-ended:
		}
	}); err != nil {
		t.Fatal(err)
	}
	return in
}

func (in *inbox) next() link.Msg {
	in.t.Helper()
	select {
	case m := <-in.msgs:
		return m
	case <-time.After(time.Minute):
		in.t.Fatal("nothing came for a minute")
	}
	panic("not reached")
}
