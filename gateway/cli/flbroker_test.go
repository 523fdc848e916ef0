package cli

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/fl/fltest"
	"edgegateway/internal/testkit"
)

// cloud is a broker that can be killed, and then has forgotten everything.
type cloud struct {
	t    *testing.T
	addr string
	conf string
	now  *testkit.Process
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{t: t, addr: testkit.FreeAddr(t)}
	c.conf = mosquittoConf(t, c.addr)
	c.start()
	return c
}

func (c *cloud) start() {
	c.now = testkit.Start(c.t, exec.Command(testkit.Program(c.t, "mosquitto"), "-c", c.conf))
	c.now.Line("running")
}

func (c *cloud) restart() {
	c.now.Kill()
	c.now.Exit()
	c.start()
}

// flRun runs a task over a broker, its participants' links through proxies that
// cut them after so many bytes, and gives the weights of each round. kept is
// called after each round.
func flRun(t *testing.T, c *cloud, cut int64, kept func(round int)) []fl.Hash {
	task := fl.DefaultTask()
	task.Name, task.Model.Preset, task.Model.Input, task.Model.Classes = "points", "mlp", []int{6}, []string{"low", "high"}
	task.Rounds, task.Cohort.Quorum, task.Cohort.WaitFor = 4, 3, 3
	id, err := task.ID()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	enrolled := fl.KeyMap{}
	for _, name := range []string{"north", "south", "west"} {
		enrolled[name] = fltest.Public(name)
		proxy := testkit.NewProxy(t, c.addr)
		if cut > 0 {
			proxy.CutEvery(cut)
		}
		st, err := fl.NewDir(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := fl.NewParticipant(name, st, fltest.Key(name), []ed25519.PublicKey{fltest.Public("coordinator")}, fl.ParticipantConfig{Task: id, Chunk: fl.MinChunk, Retry: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		link, points := flLink(t, proxy.Addr(), name), fltest.PointsOf(name)
		all.Go(func() {
			err := fl.ServeParticipant(ctx, link, p, fl.ParticipantLoop{Dataset: points, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
				return fl.Train(ctx, job, points.Data, nil)
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	st, err := fl.NewDir(filepath.Join(t.TempDir(), "coordinator"))
	if err != nil {
		t.Fatal(err)
	}
	co, err := fl.NewCoordinator(task, fl.CoordinatorConfig{Chunk: fl.MinChunk, Kept: func(r fl.RoundReport) { kept(r.Round) }}, st, fltest.Key("coordinator"), enrolled)
	if err != nil {
		t.Fatal(err)
	}
	if err := fl.ServeCoordinator(ctx, flLink(t, c.addr, "coordinator"), []*fl.Coordinator{co}, fl.CoordinatorLoop{}); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil || !co.Done() {
		t.Fatalf("it did not end: %+v", co.Status())
	}
	var rounds []fl.Hash
	for _, r := range co.History() {
		if r.Counted != 3 {
			t.Errorf("round %d counted %d updates", r.Round, r.Counted)
		}
		rounds = append(rounds, r.Model)
	}
	return rounds
}

// A broker that is killed in the middle of rounds and forgets what it retained,
// and links that break every 15,000 bytes: each round ends with the same weights
// as without, and no update counts twice.
func TestFLBrokerKilled(t *testing.T) {
	t.Parallel()
	quiet := flRun(t, newCloud(t), 0, func(int) {})
	c := newCloud(t)
	kill, killed := make(chan bool, 10), 0
	var killing sync.WaitGroup
	killing.Go(func() {
		for range kill {
			c.restart()
			killed++
		}
	})
	rounds := flRun(t, c, 15_000, func(round int) {
		if round%2 == 1 {
			kill <- true
		}
	})
	close(kill)
	killing.Wait()
	if fmt.Sprint(rounds) != fmt.Sprint(quiet) || len(rounds) != 4 || killed != 2 {
		t.Errorf("after %d kills the rounds ended with %.8v, undisturbed with %.8v", killed, rounds, quiet)
	}
}
