package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/internal/keyfile"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// flCrowdCommand makes the test binary a crowd of participants, each with its own
// connection: BROKER TASKFILE FOLDER FROM TO CHUNK.
const flCrowdCommand = "fl-crowd"

// flCrowd runs participants FROM to before TO, whose keys are in FOLDER, until it
// is told to end.
func flCrowd(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := crowdOf(ctx, args[0], args[1], args[2], args[3:]); err != nil {
		fmt.Println("crowd:", err)
		return 1
	}
	return 0
}

func crowdOf(ctx context.Context, broker, file, folder string, numbers []string) error {
	task, err := fl.LoadTask(file)
	if err != nil {
		return err
	}
	id, err := task.ID()
	if err != nil {
		return err
	}
	trusted, err := keyfile.Read(filepath.Join(folder, "coordinator.pub"))
	if err != nil {
		return err
	}
	var first, last, chunk int
	if _, err := fmt.Sscan(strings.Join(numbers, " "), &first, &last, &chunk); err != nil {
		return err
	}
	turn := make(chan struct{}, 2) // that train at a time
	errs := make([]error, last)
	var all sync.WaitGroup
	for i := first; i < last; i++ {
		name := crowdName(i)
		key, err := keyfile.ReadPrivate(filepath.Join(folder, name+".pem"))
		if err != nil {
			return err
		}
		p, err := fl.NewParticipant(name, fl.NewMemory(), key, []ed25519.PublicKey{trusted[0].Public}, fl.ParticipantConfig{Task: id, Version: "crowd", Chunk: chunk})
		if err != nil {
			return err
		}
		d, _ := clouds(20, uint64(i)+1)
		t := newFLTransport(link.Config{URL: broker, ClientID: name}, func(string) {})
		all.Go(func() { t.run(ctx) })
		all.Go(func() {
			errs[i] = fl.ServeParticipant(ctx, t, p, fl.ParticipantLoop{Dataset: samples{d}, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
				turn <- struct{}{}
				defer func() { <-turn }()
				return fl.Train(ctx, job, d, nil)
			}})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func crowdName(i int) string { return fmt.Sprintf("hall-%04d", i) }

// flCrowdTask is a network of flCrowdWeights, whose updates fill a message each, for
// as many gateways as there are.
const flCrowdWeights = 20_979

const flCrowdTask = `
name: clouds
model:
  input: [8]
  classes: [a, b, c]
  network: {layers: [{type: dense, units: 64, activation: relu}, {type: dense, units: 300, activation: relu}, {type: dense, activation: softmax}]}
data: {stream: clouds, holdout: 0}
local: {epochs: 1, batch: 10, optimizer: {kind: sgd, rate: 0.05}}
rounds: %d
cohort: {quorum: %d, wait_for: %d}
`

// crowded is what a coordinator took with so many gateways.
type crowded struct {
	peak   int64         // bytes that were resident at most
	round  time.Duration // of one
	events int           // updates that counted
}

// crowd leads a task with so many gateways over a broker, in two processes, which
// send their updates in messages of at most chunk bytes (0: as they do elsewhere),
// and says what its coordinator took.
func (h *flHall) crowd(gateways, rounds, chunk int) crowded {
	h.Helper()
	h.task = h.write("crowd.yaml", fmt.Sprintf(flCrowdTask, rounds, gateways, gateways))
	for i := range gateways {
		h.key(crowdName(i))
		h.enroll(crowdName(i))
	}
	for _, half := range [][2]int{{0, gateways / 2}, {gateways / 2, gateways}} {
		testkit.Start(h, testkit.Command(h, flCrowdCommand, h.broker, h.task, h.dir, fmt.Sprint(half[0]), fmt.Sprint(half[1]), fmt.Sprint(chunk)))
	}
	p := h.coordinator()
	p.Line(fmt.Sprintf(`%d gateways are enrolled`, gateways))
	var c crowded
	for r := range rounds {
		p.Line(fmt.Sprintf(`round %d of %d: %d updates`, r+1, rounds, gateways))
		c.peak = max(c.peak, peakOf(h, p))
	}
	p.Line(`is over, all of`)
	if code := p.Exit(); code != 0 {
		h.Fatalf("the coordinator ended with %d", code)
	}
	history := h.history()
	for _, r := range history {
		c.events += r.Counted
	}
	c.round = time.Duration(history[rounds-1].Ended-history[0].Ended) * time.Millisecond / time.Duration(rounds-1)
	return c
}

// history is what the only task's coordinator wrote of its rounds.
func (h *flHall) history() (rounds []fl.RoundReport) {
	h.Helper()
	files, err := filepath.Glob(h.path("tasks/*/history.json"))
	if err != nil || len(files) != 1 {
		h.Fatalf("histories: %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = json.Unmarshal(text, &rounds)
	}
	if err != nil {
		h.Fatal(err)
	}
	return rounds
}

// peakOf is what a process had in memory at most; it has not ended.
func peakOf(t testing.TB, p *testkit.Process) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); err != nil || !ok {
		t.Fatalf("no VmHWM in %s", text)
	}
	return kb << 10
}

// Hundreds of gateways, each with an MQTT session of its own, take part in the
// rounds of one coordinator, over somebody else's broker and over ours, and what
// it has in memory does not grow as their updates do. In CI they are 60; with
// EDGEGATEWAY_LONG 500.
func TestFLCrowd(t *testing.T) {
	few, many, rounds := 12, 60, 3
	if os.Getenv("EDGEGATEWAY_LONG") != "" {
		few, many, rounds = 50, 500, 5
	}
	type hall struct {
		broker string
		chunk  int
	}
	halls := []hall{{"mosquitto", 0}, {"ours", 0}}
	if many == 500 {
		halls = append(halls, hall{"mosquitto-room", 16 << 10}) // six messages each: without room it keeps 1,000 of the 3,000
	}
	for _, is := range halls {
		t.Run(fmt.Sprint(is.broker, is.chunk), func(t *testing.T) {
			var took [2]crowded
			for i, gateways := range []int{few, many} {
				h := newFLHall(t)
				h.broker = testkit.FreeAddr(t)
				brokerAt(t, is.broker, h.broker)()
				took[i] = h.crowd(gateways, rounds, is.chunk)
				t.Logf("%v, %d sessions: %.2f s a round, the coordinator had %.1f MB in memory at most", is, gateways, took[i].round.Seconds(), float64(took[i].peak)/1e6)
				if took[i].events != gateways*rounds {
					t.Errorf("%d updates counted of %d gateways in %d rounds", took[i].events, gateways, rounds)
				}
			}
			// The collector lets what is resident vary by some 30 MB.
			most := max(40e6, int64(many)*flCrowdWeights*4)
			if more := took[1].peak - took[0].peak; more > most {
				t.Errorf("with %d gateways it took %.1f MB more than with %d", many, float64(more)/1e6, few)
			}
		})
	}
}
