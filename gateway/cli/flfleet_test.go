package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"edgegateway/internal/testkit"
)

// flFleet is a task with its coordinator, its participants and its broker, each a
// process of its own that may be killed and started again. Participants have the
// names and the parts of the data that fl simulate gives to virtual ones.
type flFleet struct {
	*flHall
	size      int
	partition string
	start     func() *testkit.Process // of the broker
	data      string                  // what is divided, with what says how it is read
	read      []string
	held      string // data that judges, read as judged says
	judged    []string
	name      string // of the task

	cloud, lead *testkit.Process
	joined      []*testkit.Process
}

const flFleetTask = flClouds + `
local: {epochs: 2, batch: 5, optimizer: {kind: sgd, rate: 0.02}}
strategy: {kind: fedavgm}
`

// newFLFleet makes files for a task whose text is completed by more, of so many
// participants, and a broker by its name: mosquitto, mosquitto-kept, which writes
// what it retains every second, or ours.
func newFLFleet(t *testing.T, size int, broker, more string) *flFleet {
	t.Helper()
	h := &flHall{T: t, dir: t.TempDir()}
	f := &flFleet{flHall: h, size: size, partition: "dirichlet:0.5", read: []string{"--target", "class"}, judged: []string{"--target", "class"}, name: "clouds", joined: make([]*testkit.Process, size)}
	h.task = h.write("clouds.yaml", flFleetTask+more)
	_, table := clouds(50*size, 7)
	f.data = h.write("clouds.csv", table)
	_, table = clouds(300, 99)
	f.held = h.write("held.csv", table)
	h.key("coordinator")
	for i := range size {
		h.key(partName(i))
		h.enroll(partName(i))
	}
	h.broker = testkit.FreeAddr(t)
	f.start = brokerAt(t, broker, h.broker)
	return f
}

func partName(i int) string { return fmt.Sprintf("p%05d", i) }

// brokerAt gives what starts a broker at an address, again after it was killed.
func brokerAt(t *testing.T, broker, addr string) func() *testkit.Process {
	t.Helper()
	if broker == "ours" {
		config := ourConfig(t, addr)
		return func() *testkit.Process {
			p := testkit.Start(t, testkit.Command(t, "run", "--config", config))
			p.Line(` ready`)
			return p
		}
	}
	conf := mosquittoConf(t, addr)
	more := ""
	switch broker {
	case "mosquitto-kept":
		more = "persistence true\nautosave_interval 1\npersistence_location " + filepath.Dir(conf) + "/\n"
		if os.Getuid() == 0 { // else it becomes a user who may not write there
			more += "user root\n"
		}
	case "mosquitto-room":
		more = "max_queued_messages 0\n"
	}
	text, err := os.ReadFile(conf)
	if err == nil {
		err = os.WriteFile(conf, append(text, more...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	program := testkit.Program(t, "mosquitto")
	return func() *testkit.Process {
		p := testkit.Start(t, exec.Command(program, "-c", conf))
		p.Line("running")
		return p
	}
}

// simulated is the model that fl simulate makes of the task.
func (f *flFleet) simulated() []byte {
	f.Helper()
	args := append([]string{"fl", "simulate", f.task, "--participants", fmt.Sprint(f.size), "--partition", f.partition, "--data", f.data, "--holdout", f.held, "--out", f.path("simulated")}, f.read...)
	if out, err := f.run(args...); err != nil {
		f.Fatalf("%v: %s", err, out)
	}
	return f.file("simulated.tflite")
}

func (f *flFleet) file(name string) []byte {
	f.Helper()
	b, err := os.ReadFile(f.path(name))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// begin starts all of them.
func (f *flFleet) begin() {
	f.Helper()
	f.cloud = f.start()
	f.coordinate()
	for i := range f.joined {
		f.join(i)
	}
}

// coordinate starts the coordinator, again after it was killed.
func (f *flFleet) coordinate() {
	f.Helper()
	args := append([]string{"fl", "coordinator", "--broker", f.broker, "--key", f.path("coordinator.pem"), "--enrolled", f.path("enrolled"), "--data", f.path("tasks"), "--holdout", f.held, f.task}, f.judged...)
	f.lead = testkit.Start(f, testkit.Command(f, args...))
}

// join starts a participant, again after it was killed.
func (f *flFleet) join(i int) {
	f.Helper()
	name := partName(i)
	args := append([]string{"fl", "join", "--eager", "--broker", f.broker, "--name", name, "--key", f.path(name + ".pem"), "--trust", f.path("coordinator.pub"), "--state", f.path("state-" + name),
		"--task", f.name, "--data", f.data, "--partition", f.partition, "--part", fmt.Sprintf("%d/%d", i+1, f.size)}, f.read...)
	f.joined[i] = testkit.Start(f, testkit.Command(f, args...))
}

// model is what the coordinator left.
func (f *flFleet) model() []byte {
	f.Helper()
	files, err := filepath.Glob(f.path("tasks/*/model.tflite"))
	if err != nil || len(files) != 1 {
		f.Fatalf("models: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// end waits for all but the broker to end by themselves.
func (f *flFleet) end() {
	f.Helper()
	f.lead.Line(`task \S+ is over`)
	if code := f.lead.Exit(); code != 0 {
		f.Errorf("the coordinator ended with %d", code)
	}
	for i, p := range f.joined {
		if code := p.Exit(); code != 0 {
			f.Errorf("%s ended with %d", partName(i), code)
		}
	}
}

// same says whether the task left the model that fl simulate made, of rounds in
// which every update counted.
func (f *flFleet) same(want []byte, rounds, cohort int) {
	f.Helper()
	if got := f.model(); !bytes.Equal(got, want) {
		f.Errorf("the processes made another model than fl simulate")
	}
	history := f.history()
	if len(history) != rounds {
		f.Errorf("there are %d rounds of %d", len(history), rounds)
	}
	for _, r := range history {
		if r.Counted != cohort || len(r.SetAside) > 0 {
			f.Errorf("round %d counted %d updates of %d: %+v", r.Round, r.Counted, cohort, r.SetAside)
		}
	}
}

// ourConfig is a configuration of our program as a broker and nothing else.
func ourConfig(t *testing.T, addr string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "cloud.yaml")
	text := fmt.Sprintf("gateway: cloud\ndata: %s\nlog: {format: console}\nbroker: {listeners: [{tcp: %q}]}\ndashboard: {listen: \"\"}\n", filepath.Join(dir, "data"), addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// The same task makes the same model to the bit in fl simulate and of eight
// participants, a coordinator and a broker that are processes of their own.
func TestFLSameBits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		more           string
		rounds, cohort int
	}{
		"all":                  {"rounds: 3\ncohort: {quorum: 8, wait_for: 8}", 3, 8},
		"drawn and compressed": {"rounds: 5\ncohort: {size: 4, quorum: 4, wait_for: 8}\ncompression: {kind: topk-int8, share: 0.1}", 5, 4},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFLFleet(t, 8, "mosquitto", c.more)
			want := f.simulated()
			f.begin()
			f.end()
			f.same(want, c.rounds, c.cohort)
		})
	}
	if os.Getenv("EDGEGATEWAY_LONG") == "" {
		return
	}
	t.Run("digits", func(t *testing.T) {
		f := newFLFleet(t, 8, "ours", "")
		mnist := testkit.Cached(t, "mnist/data")
		f.name, f.task = "digits", f.write("digits.yaml", flDigitsTask)
		f.data, f.held = filepath.Join(mnist, "train-images-idx3-ubyte"), filepath.Join(mnist, "t10k-images-idx3-ubyte")
		f.read, f.judged = []string{"--samples", "8000"}, nil
		want := f.simulated()
		f.begin()
		f.end()
		f.same(want, 10, 6)
		t.Logf("%.4f", f.history()[9].Held.Accuracy)
	})
}

// flDigitsTask is configs/fl/digits-thin.yaml for eight participants, six of them in
// a round.
const flDigitsTask = `
name: digits
model:
  input: [28, 28, 1]
  classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
  network: {layers: [{type: flatten}, {type: dense, units: 200, activation: relu}, {type: dense, units: 200, activation: relu}, {type: dense, activation: softmax}]}
data: {stream: digits, holdout: 0}
local: {epochs: 1, batch: 10, optimizer: {kind: sgd, rate: 0.1}}
rounds: 10
cohort: {size: 6, quorum: 6, wait_for: 8}
compression: {kind: topk-int8, share: 0.05}
`
