package cli_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"edgegateway/fl"
	"edgegateway/internal/testkit"
)

// sides is a task: to say on which side of a line a point is.
const sides = `name: sides
model:
  input: [2]
  classes: [left, right]
  network: {layers: [{type: dense, units: 8, activation: relu}, {type: dense, activation: softmax}]}
data: {holdout: 0}
rounds: 6
cohort: {size: 5}
`

// simulatedFiles writes a table that is told apart by a line, one that judges,
// and a task for it.
func simulatedFiles(t *testing.T) (dir, task, data, holdout string) {
	t.Helper()
	dir = t.TempDir()
	r := rand.New(rand.NewPCG(1, 1))
	table := func(name string, n int) string {
		var b strings.Builder
		b.WriteString("x,y,side\n")
		for range n {
			x, y := r.NormFloat64(), r.NormFloat64()
			side := "left"
			if x+y > 0 {
				side = "right"
			}
			fmt.Fprintf(&b, "%.4f,%.4f,%s\n", x, y, side)
		}
		return write(t, dir, name, b.String())
	}
	task = write(t, dir, "task.yaml", sides)
	return dir, task, table("learn.csv", 400), table("judge.csv", 200)
}

// simulated is what the command prints of it with --json.
type simulated struct {
	State      string
	Rounds     int
	Updates    int
	Weights    int
	Hostile    []string
	Last, Best fl.Metrics
	LastRound  int     `json:"last_round"`
	BestRound  int     `json:"best_round"`
	BytesWhole int64   `json:"bytes_up_uncompressed"`
	Clock      float64 `json:"clock_seconds"`
	History    []fl.RoundReport
}

// The command divides a table, trains, and leaves history, curve and a model
// that evaluate runs as well as it was judged.
func TestSimulate(t *testing.T) {
	dir, task, data, holdout := simulatedFiles(t)
	out := filepath.Join(dir, "it")
	args := []string{"fl", "simulate", task, "--data", data, "--target", "side", "--holdout", holdout, "--participants", "20", "--partition", "dirichlet:0.5",
		"--attack", "label-flip:0.1", "--dropout", "0.1", "--away", "1m", "--spread", "0.5", "--out", out, "--json"}
	first := run(t, "", args...)
	var got simulated
	if err := json.Unmarshal([]byte(first.stdout), &got); first.code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s", first.code, err, first.stderr)
	}
	if got.State != "done" || got.Rounds != 6 || got.Updates != 30 || len(got.Hostile) != 2 || got.Last.Samples != 200 || got.Best.Accuracy < 0.7 || got.BytesWhole != 4*30*int64(got.Weights) {
		t.Errorf("%+v, best %+v, %d updates, %v hostile", got.Last, got.Best, got.Updates, got.Hostile)
	}
	text, err := os.ReadFile(out + ".history.json")
	var history []fl.RoundReport
	if err == nil {
		err = json.Unmarshal(text, &history)
	}
	if err != nil || len(history) != 6 || history[5].Model != got.History[5].Model {
		t.Errorf("%v, %+v", err, history)
	}
	if table, err := os.ReadFile(out + ".history.csv"); err != nil || strings.Count(string(table), "\n") != 7 {
		t.Errorf("%v: %s", err, table)
	}
	for _, name := range []string{".curve.svg", ".curve.png"} {
		if info, err := os.Stat(out + name); err != nil || info.Size() < 500 {
			t.Errorf("%s: %v", name, err)
		}
	}
	judged := run(t, "", "evaluate", "--no-latency", "--format", "json", "--data", holdout, "--target", "side", out+".tflite")
	if want := fmt.Sprintf(`"top1": %v`, got.Best.Accuracy); judged.code != 0 || !strings.Contains(judged.stdout, want) {
		t.Errorf("the model: want %s: %s%s", want, judged.stdout, judged.stderr)
	}
	again := run(t, "", append(args, "--workers", "1")...)
	var same simulated
	if err := json.Unmarshal([]byte(again.stdout), &same); err != nil || same.History[5].Model != got.History[5].Model || same.Clock != got.Clock {
		t.Errorf("again it came to something else, %v", err)
	}
}

// Without data that judge, the accuracy that is shown is that of the weights
// which all have, as their samples say a round later, and not that of what each
// trained from them by itself: noise makes the one poor and leaves the other.
func TestSimulateJudgedByParticipants(t *testing.T) {
	dir, _, data, holdout := simulatedFiles(t)
	task := write(t, dir, "held.yaml", strings.Replace(sides, "holdout: 0", "holdout: 0.3", 1))
	args := []string{"fl", "simulate", task, "--data", data, "--target", "side", "--participants", "5", "--attack", "gaussian:0.4:50"}
	result := func(args ...string) (got simulated) {
		t.Helper()
		r := run(t, "", append(args, "--json")...)
		if err := json.Unmarshal([]byte(r.stdout), &got); r.code != 0 || err != nil || len(got.History) != 6 {
			t.Fatalf("exit code %d, %v: %s", r.code, err, r.stderr)
		}
		return got
	}
	by, held := result(args...), result(append(args, "--holdout", holdout)...)
	if last := by.History[5]; by.Last != last.Before || by.LastRound != 5 || last.After.Accuracy-by.Last.Accuracy < 0.05 {
		t.Errorf("last %+v after round %d; round 6 began with %+v and trained %+v", by.Last, by.LastRound, last.Before, last.After)
	}
	best := -1
	for i, h := range by.History {
		if h.Best {
			best = i // of the weights after round i
		}
		if i > 0 && (h.Base != held.History[i-1].Model || h.Held.Samples != 0) {
			t.Errorf("round %d: another model than with data that judge, or %+v", i+1, h.Held)
		}
	}
	if by.BestRound != best || by.Best != by.History[best].Before {
		t.Errorf("the best is of round %d, %+v; by the history of %d", by.BestRound, by.Best, best)
	}
	if held.LastRound != 6 || held.Last != held.History[5].Held {
		t.Errorf("with data that judge: %+v after round %d", held.Last, held.LastRound)
	}
	said := run(t, "", args...)
	for _, want := range []string{
		fmt.Sprintf("accuracy %.4f, loss %.4f on %d samples that participants hold out, of the weights after round 5", by.Last.Accuracy, by.Last.Loss, by.Last.Samples),
		"of the weights before round 1\n", fmt.Sprintf("the weights after round 5: accuracy %.4f", by.Last.Accuracy),
	} {
		if !strings.Contains(said.stdout, want) {
			t.Errorf("%q is not in %s", want, said.stdout)
		}
	}
}

func TestSimulateRefuses(t *testing.T) {
	dir, task, data, holdout := simulatedFiles(t)
	other := write(t, dir, "other.yaml", strings.Replace(sides, "left, right", "no, yes", 1))
	narrow := write(t, dir, "narrow.yaml", strings.Replace(sides, "[2]", "[3]", 1))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "takes TASK.yaml"},
		{[]string{task}, 2, "--data is missing"},
		{[]string{filepath.Join(dir, "none.yaml"), "--data", data}, 3, "none.yaml"},
		{[]string{task, "--data", data, "--partition", "half"}, 2, "none of iid"},
		{[]string{task, "--data", data, "--attack", "shout:0.1"}, 2, "shout"},
		{[]string{task, "--data", data, "--attack", "scale:0.05", "--participants", "8"}, 2, "--attack scale:0.05: a share of 0.05 of 8 participants is nobody"},
		{[]string{task, "--data", data, "--participants", "0"}, 2, "--participants: 0"},
		{[]string{task, "--data", data, "--link", "0"}, 2, "--link: 0 bytes a second are outside"},
		{[]string{task, "--data", data, "--sample-time", "-1s"}, 2, "--sample-time: -1s"},
		{[]string{task, "--data", filepath.Join(dir, "none.csv"), "--out", filepath.Join(dir, "none", "x")}, 2, "there is no folder"},
		{[]string{task, "--data", data, "--away", "1m"}, 2, "--away does nothing here"},
		{[]string{task, "--data", data, "--target", "side", "--participants", "401"}, 3, "not enough for 401"},
		{[]string{other, "--data", data, "--target", "side"}, 3, "its own are left, right"},
		{[]string{narrow, "--data", data, "--target", "side"}, 3, "takes inputs of [3], the data has [2]"},
		{[]string{task, "--data", data, "--target", "side", "--holdout", holdout + "x"}, 3, "judge.csvx"},
	} {
		if got := run(t, "", append([]string{"fl", "simulate"}, c.args...)...); got.code != c.code || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%q: exit code %d, %s; want %d, %q", c.args, got.code, got.stderr, c.code, c.want)
		}
	}
}

// What the simulation takes otherwise than it is written is said.
func TestSimulateWarns(t *testing.T) {
	_, task, data, _ := simulatedFiles(t)
	for _, c := range []struct{ participants, attack, want string }{
		{"4", "", "cohort.size of the task is 5, and there are 4 participants: each round has all of them\n"},
		{"8", "sign-flip:1", "--attack sign-flip:1: all 8 participants are hostile"},
		{"8", "scale:0.5", "--attack scale:0.5: 4 of 8 participants are hostile"},
		{"8", "scale:0.2", ""},
	} {
		got := run(t, "", "fl", "simulate", task, "--data", data, "--target", "side", "--participants", c.participants, "--attack", c.attack)
		if before, _, _ := strings.Cut(got.stdout, "round 1 of"); got.code != 0 || !strings.Contains(before, c.want) || c.want == "" && strings.Contains(before, "hostile") {
			t.Errorf("%+v: exit code %d: %s", c, got.code, got.stdout)
		}
	}
}

// The example tasks are tasks.
func TestExampleTasks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(testkit.Root(t), "configs", "fl", "*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		task, err := fl.LoadTask(file)
		if err != nil {
			t.Error(err)
		} else if name := strings.TrimSuffix(filepath.Base(file), ".yaml"); task.Name != name && name != "demo" { // make demo-fl calls it by what is learned
			t.Errorf("%s holds the task %s", file, task.Name)
		}
	}
}

// One that is stopped says by whom and when, and not that it runs.
func TestSimulateStopped(t *testing.T) {
	dir, _, data, _ := simulatedFiles(t)
	task := write(t, dir, "long.yaml", strings.Replace(sides, "rounds: 6", "rounds: 10000", 1))
	p := testkit.Start(t, testkit.Command(t, "fl", "simulate", task, "--data", data, "--target", "side", "--participants", "5"))
	p.Line("round 500 of 10000: ")
	p.Signal(syscall.SIGINT)
	round := p.Line(`task +sides: stopped, by the user after round (\d+)$`)[1]
	if code := p.Exit(); code != 1 || !strings.Contains(p.Output(), "stopped after "+round+" of 10000 rounds") {
		t.Errorf("exit code %d\n%s", code, p.Output())
	}
}
