package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/train"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/testkit"
)

// flClouds is what tasks of the data that clouds makes begin with.
const flClouds = `
name: clouds
model:
  input: [8]
  classes: [a, b, c]
  network: {layers: [{type: dense, units: 16, activation: relu}, {type: dense, activation: softmax}]}
data: {stream: clouds, holdout: 0.2}`

const flTestTask = flClouds + `
local: {epochs: 2, batch: 10, optimizer: {kind: sgd, rate: 0.05}}
strategy: {kind: fedavgm}
rounds: 6
cohort: {size: 2, quorum: 2, wait_for: 3}
`

// clouds are three classes of points, as a data set and as a table.
func clouds(n int, seed uint64) (*train.Dataset, string) {
	r := rand.New(rand.NewPCG(seed, 1))
	d := &train.Dataset{Name: "clouds", Shape: train.Shape{8}, Classes: []string{"a", "b", "c"}}
	table := "v0,v1,v2,v3,v4,v5,v6,v7,class\n"
	for range n {
		k := r.IntN(3)
		for j := range 8 {
			v := r.NormFloat64() * 0.3
			if j%3 == k {
				v++
			}
			d.Values = append(d.Values, float32(v))
			table += fmt.Sprint(float32(v)) + ","
		}
		d.Labels = append(d.Labels, int32(k))
		table += d.Classes[k] + "\n"
	}
	return d, table
}

// samples are a data set as a gateway has it.
type samples struct{ *train.Dataset }

func (s samples) Count(context.Context) (int, error)                { return s.Len(), nil }
func (s samples) Load(context.Context, int) (*train.Dataset, error) { return s.Dataset, nil }

// flHall is a coordinator's files and gateways over a broker.
type flHall struct {
	*testing.T
	dir, task, id, broker string
}

func newFLHall(t *testing.T) *flHall {
	t.Helper()
	h := &flHall{T: t, dir: t.TempDir(), broker: testkit.Mosquitto(t, "")}
	h.task = h.write("clouds.yaml", flTestTask)
	_, table := clouds(300, 99)
	h.write("held.csv", table)
	task, err := fl.LoadTask(h.task)
	if err != nil {
		t.Fatal(err)
	}
	if h.id, err = task.ID(); err != nil {
		t.Fatal(err)
	}
	h.key("coordinator")
	return h
}

func (h *flHall) path(name string) string { return filepath.Join(h.dir, name) }

func (h *flHall) write(name, text string) string {
	h.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
	return h.path(name)
}

func (h *flHall) key(name string) {
	h.Helper()
	private, public, _, err := keyfile.New()
	if err != nil {
		h.Fatal(err)
	}
	h.write(name+".pem", string(private))
	h.write(name+".pub", string(public))
}

func (h *flHall) run(args ...string) (string, error) {
	h.Helper()
	out, err := testkit.Command(h, args...).CombinedOutput()
	return string(out), err
}

// enroll does what fl enroll does, which has its own test.
func (h *flHall) enroll(name string) {
	h.Helper()
	key, err := os.ReadFile(h.path(name + ".pub"))
	if err != nil {
		h.Fatal(err)
	}
	if err := os.MkdirAll(h.path("enrolled"), 0o700); err != nil {
		h.Fatal(err)
	}
	h.write(filepath.Join("enrolled", name+".pub"), string(key))
}

func (h *flHall) coordinator(more ...string) *testkit.Process {
	h.Helper()
	args := append([]string{"fl", "coordinator", "--broker", h.broker, "--key", h.path("coordinator.pem"), "--enrolled", h.path("enrolled"), "--data", h.path("tasks"),
		"--holdout", h.path("held.csv"), "--target", "class", h.task}, more...)
	return testkit.Start(h, testkit.Command(h, args...))
}

// gateway makes a key and follows the task until the test ends; before is called
// before it trains.
func (h *flHall) gateway(name string, seed uint64, before ...func(context.Context, *fl.Job)) {
	h.Helper()
	h.key(name)
	h.follow(name, h.id, seed, before...)
}

// follow follows a task until the test ends.
func (h *flHall) follow(name, id string, seed uint64, before ...func(context.Context, *fl.Job)) {
	h.Helper()
	key, err := keyfile.ReadPrivate(h.path(name + ".pem"))
	if err != nil {
		h.Fatal(err)
	}
	trusted, err := keyfile.Read(h.path("coordinator.pub"))
	if err != nil {
		h.Fatal(err)
	}
	p, err := fl.NewParticipant(name, fl.NewMemory(), key, []ed25519.PublicKey{trusted[0].Public}, fl.ParticipantConfig{Task: id, Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	d, _ := clouds(60, seed)
	link := flLink(h.T, h.broker, name+"-"+id)
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		err := fl.ServeParticipant(ctx, link, p, fl.ParticipantLoop{Dataset: samples{d}, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
			for _, f := range before {
				f(ctx, job)
			}
			return fl.Train(ctx, job, d, nil)
		}})
		if err != nil {
			h.Error(err)
		}
	})
	h.Cleanup(func() { stop(); ended.Wait() })
}

func (h *flHall) status() fl.Status {
	h.Helper()
	out, err := h.run("fl", "status", "--json", "--data", h.path("tasks"), "clouds")
	if err != nil {
		h.Fatalf("%v: %s", err, out)
	}
	var list []fl.Status
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		h.Fatalf("%v: %s", err, out)
	}
	return list[0]
}

// A coordinator that is killed in the middle of rounds makes the same model to
// the bit as one that nobody disturbs, and leaves the same files.
func TestFLCoordinator(t *testing.T) {
	t.Parallel()
	var models [2]fl.Ref
	for run := range models {
		h := newFLHall(t)
		for i, name := range []string{"hall-1", "hall-2", "hall-3"} {
			h.gateway(name, uint64(i+1))
			h.enroll(name)
		}
		h.gateway("stranger", 9)
		p := h.coordinator()
		p.Line(`task clouds-\w+: 195 weights, 3 gateways are enrolled`)
		p.Line(`connected to`)
		if run == 1 {
			for _, line := range []string{`waiting until 3 participants|round 1 of 6`, `round 2 of 6: 2 updates, .*accuracy 0\.\d+`, `round 4 of 6`} {
				p.Line(line)
				p.Kill()
				p = h.coordinator()
			}
		}
		p.Line(`task clouds-\w+ is over, all of 6 rounds are over: .*model\.tflite has the weights after round \d, accuracy (0\.9|1\.0)\d+ on 300 samples`)
		if code := p.Exit(); code != 0 {
			t.Fatalf("it ended with %d", code)
		}
		s := h.status()
		if s.State != "done" || s.Round != 6 || len(s.Gateways) != 3 || s.Refused[fl.UnknownKey] == 0 && run == 0 {
			t.Errorf("%+v", s)
		}
		models[run] = s.Model
		folder := filepath.Join(h.dir, "tasks", h.id)
		var rounds []fl.RoundReport
		text, err := os.ReadFile(filepath.Join(folder, "history.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &rounds); err != nil || len(rounds) != 6 || rounds[5].Held.Samples != 300 || rounds[0].Began == 0 {
			t.Errorf("%v: %s", err, text)
		}
		table, err := os.ReadFile(filepath.Join(folder, "history.csv"))
		if err != nil || strings.Count(string(table), "\n") != 7 {
			t.Errorf("%v: %s", err, table)
		}
		for _, name := range []string{"curve.svg", "curve.png", "model.tflite"} {
			if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Size() < 500 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if run == 0 {
			continue
		}
		if out, err := h.run("evaluate", "--data", h.path("held.csv"), "--target", "class", filepath.Join(folder, "model.tflite")); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		out, err := h.run("fl", "status", "--data", h.path("tasks"))
		if err != nil || !strings.Contains(out, "done: all of 6 rounds are over") || !strings.Contains(out, "counted in round") {
			t.Errorf("%v: %s", err, out)
		}
	}
	if models[0].Hash != models[1].Hash {
		t.Errorf("undisturbed %v, killed %v", models[0], models[1])
	}
}

// Two tasks at once, one judged by data of the coordinator, the other by its
// gateways; with --stay it is there when they are over, until Ctrl-C.
func TestFLCoordinatorTwoTasks(t *testing.T) {
	h := newFLHall(t)
	second := h.write("second.yaml", strings.NewReplacer("name: clouds", "name: second", "rounds: 6", "rounds: 3").Replace(flTestTask))
	task, err := fl.LoadTask(second)
	if err != nil {
		t.Fatal(err)
	}
	id, err := task.ID()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"hall-1", "hall-2", "hall-3"} {
		h.gateway(name, uint64(i+1))
		h.follow(name, id, uint64(i+1))
		h.enroll(name)
	}
	p := testkit.Start(t, testkit.Command(t, "fl", "coordinator", "--broker", h.broker, "--key", h.path("coordinator.pem"), "--enrolled", h.path("enrolled"),
		"--data", h.path("tasks"), "--holdout", "clouds="+h.path("held.csv"), "--target", "class", "--json", "--stay", h.task, second))
	p.Line(`task \S+ is over`)
	p.Line(`task \S+ is over`)
	p.Signal(syscall.SIGINT)
	if code := p.Exit(); code != exitOK {
		t.Errorf("it ended with %d", code)
	}
	rounds := map[string]int{}
	for line := range strings.Lines(p.Output()) {
		var r struct {
			Task, ID string
			fl.RoundReport
		}
		if json.Unmarshal([]byte(line), &r) != nil || r.Task == "" {
			continue
		}
		if rounds[r.Task]++; r.Round != rounds[r.Task] || (r.Held.Samples > 0) != (r.Task == "clouds") || r.Before.Samples == 0 {
			t.Errorf("%s", line)
		}
	}
	if rounds["clouds"] != 6 || rounds["second"] != 3 || !strings.Contains(p.Output(), "second: round 3 of 3: 2 updates") {
		t.Errorf("%v", rounds)
	}
}

// Ctrl-C leaves a task to go on with; a second coordinator over the same folder is
// refused, and so is what cannot be.
func TestFLCoordinatorStopped(t *testing.T) {
	h := newFLHall(t)
	if out, err := h.run("fl", "enroll", "--enrolled", h.path("enrolled"), "hall-1", h.path("coordinator.pem")); err == nil {
		t.Errorf("a private key was enrolled: %s", out)
	}
	h.key("hall-1")
	h.enroll("hall-1")
	p := h.coordinator()
	p.Line(`waiting until 3 participants are there`)
	nameless := h.write("nameless.yaml", fmt.Sprintf("name: nameless\nmodel: {file: %q}\n", testkit.Shared(t, "models/hello_world_float.tflite")))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--data", h.path("tasks"), h.task}, "in use by another coordinator"},
		{[]string{"--data", h.path("other"), h.task, h.task}, "is given twice"},
		{[]string{"--data", h.path("other"), "--chunk", "5", h.task}, "chunks of 5 bytes"},
		{[]string{"--data", h.path("other"), "--holdout", "x=held.csv", h.task}, "there is no task x"},
		{[]string{"--data", h.path("other"), "--holdout", h.path("held.csv"), "--target", "v0", h.task}, "held.csv"},
		{[]string{"--data", h.path("other"), h.path("held.csv")}, "held.csv"},
		{[]string{"--data", h.path("other"), nameless}, "say the names of its classes, in the order of the outputs of hello_world_float.tflite, or values"},
	} {
		out, err := h.run(append([]string{"fl", "coordinator", "--broker", h.broker, "--key", h.path("coordinator.pem"), "--enrolled", h.path("enrolled")}, test.args...)...)
		if err == nil || !strings.Contains(out, test.want) {
			t.Errorf("%v: %v: %s", test.args, err, out)
		}
	}
	// The line is said before the status is written.
	for late := time.Now().Add(flPatience); ; time.Sleep(10 * time.Millisecond) {
		s := h.status()
		if s.State == "waiting" && s.Why == "waiting until 3 participants are there" {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%+v", s)
		}
	}
	p.Signal(syscall.SIGINT)
	p.Line(`stopped in round 0 of 6; the same command goes on there`)
	if code := p.Exit(); code != exitFailed {
		t.Errorf("it ended with %d", code)
	}
}

func TestFLEnroll(t *testing.T) {
	h := &flHall{T: t, dir: t.TempDir()}
	h.key("hall-1")
	h.key("hall-2")
	for _, test := range []struct {
		args []string
		want string
		ok   bool
	}{
		{[]string{"hall-1", h.path("hall-1.pub")}, "is enrolled with key", true},
		{[]string{}, "hall-1  ", true},
		{[]string{"hall-1", h.path("hall-1.pub")}, "is enrolled already", true},
		{[]string{"hall-1", h.path("hall-2.pub")}, "--replace takes this one", false},
		{[]string{"hall-1", h.path("hall-2.pub"), "--replace"}, "is enrolled with key", true},
		{[]string{"hall 1", h.path("hall-2.pub")}, "has a ' '", false},
		{[]string{"hall-3"}, "public key of hall-3 is missing", false},
		{[]string{"hall-3", h.path("no.pub")}, "no.pub", false},
		{[]string{"hall-3", "--remove"}, "is not enrolled", false},
		{[]string{"hall-1", "--remove"}, "is not enrolled any more", true},
		{[]string{}, "no gateway is enrolled", true},
	} {
		out, err := h.run(append([]string{"fl", "enroll", "--enrolled", h.path("enrolled")}, test.args...)...)
		if (err == nil) != test.ok || !strings.Contains(out, test.want) {
			t.Errorf("%v: %v: %s", test.args, err, out)
		}
	}
}
