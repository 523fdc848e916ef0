package fl_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edgegateway/fl"
	"edgegateway/fl/fltest"
)

func pointsTask() fl.Task {
	t := fl.DefaultTask()
	t.Name, t.Model.Preset, t.Model.Input, t.Model.Classes = "points", "mlp", []int{6}, []string{"low", "high"}
	t.Data.Stream, t.Data.Holdout = "s", 0.2
	t.Local.Epochs, t.Local.Batch = 1, 10
	t.Rounds, t.Cohort.Quorum, t.Cohort.WaitFor = 4, 3, 3
	t.Compression.Kind, t.Compression.Share = "topk", 0.3
	return t
}

// federation runs a task over a broker with these faults, its participants killed
// and started again now and then, and gives what came of it.
func federation(t *testing.T, faults fltest.Faults, kills int) fl.Hash {
	task := pointsTask()
	id, err := task.ID()
	if err != nil {
		t.Fatal(err)
	}
	var sum fl.Hash
	synctest.Test(t, func(t *testing.T) {
		b := fltest.NewBroker(faults)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		keys := fl.KeyMap{}
		var all sync.WaitGroup
		for k, name := range []string{"north", "south", "west"} {
			keys[name] = fltest.Public(name)
			all.Go(func() {
				r := rand.New(rand.NewPCG(faults.Seed, uint64(k)))
				st := fl.NewMemory()
				for i := 0; ctx.Err() == nil; i++ {
					p, err := fl.NewParticipant(name, st, fltest.Key(name), []ed25519.PublicKey{fltest.Public("coordinator")}, fl.ParticipantConfig{Task: id, Chunk: fl.MinChunk})
					if err != nil {
						t.Error(err)
						return
					}
					life, kill := context.WithCancel(ctx)
					if i < kills {
						time.AfterFunc(time.Duration(r.IntN(90_000))*time.Millisecond, kill)
					}
					l := b.Connect(name)
					data := fltest.PointsOf(name)
					if err := fl.ServeParticipant(life, l, p, fl.ParticipantLoop{Dataset: data, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
						select { // as long as training takes on a small box
						case <-time.After(time.Duration(20+r.IntN(20)) * time.Second):
						case <-ctx.Done():
							return nil, ctx.Err()
						}
						d, _ := data.Load(ctx, job.Samples)
						return fl.Train(ctx, job, d, nil)
					}}); err != nil {
						t.Error(err)
					}
					kill()
					l.Cut()
					st = st.Clone()
				}
			})
		}
		c, err := fl.NewCoordinator(task, fl.CoordinatorConfig{}, fl.NewMemory(), fltest.Key("coordinator"), keys)
		if err != nil {
			t.Fatal(err)
		}
		limit, stop := context.WithTimeout(ctx, 24*time.Hour)
		defer stop()
		if err := fl.ServeCoordinator(limit, b.Connect("coordinator"), []*fl.Coordinator{c}, fl.CoordinatorLoop{}); err != nil {
			t.Error(err)
		}
		if !c.Done() {
			t.Errorf("not done after a day: %+v", c.Status())
		}
		for _, r := range c.History() {
			if r.Updates != 3 {
				t.Errorf("round %d had %d updates", r.Round, r.Updates)
			}
		}
		sum = c.Weights().Hash()
		cancel()
		all.Wait()
	})
	return sum
}

// Whatever a broker loses, doubles and delays, and however often participants
// are killed, the model is the one of a run that nothing disturbed.
func TestFederationOverABadBroker(t *testing.T) {
	if _, err := fl.Pack(1); err != nil { // makes what is shared outside of the bubbles
		t.Fatal(err)
	}
	want := federation(t, fltest.Faults{}, 0)
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			got := federation(t, fltest.Faults{Seed: seed, Refuse: 0.1, Unsaid: 0.1, Lose: 0.15, Double: 0.15, Delay: 5 * time.Second}, 6)
			if got != want {
				t.Errorf("the model is %s, not %s", got, want)
			}
		})
	}
}
