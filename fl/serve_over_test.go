package fl_test

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"

	"edgegateway/fl"
	"edgegateway/fl/fltest"
)

// A coordinator that begins when its task is over, after a kill, ends when the
// broker knows all there is to know of it, and not before: gateways wait to hear it.
func TestServeCoordinatorOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task := pointsTask()
		task.Rounds, task.Cohort.Quorum, task.Cohort.WaitFor = 1, 1, 1
		st, b := fl.NewMemory(), fltest.NewBroker(fltest.Faults{})
		lead := func(l *fltest.Link) string {
			c, err := fl.NewCoordinator(task, fl.CoordinatorConfig{}, st, fltest.Key("coordinator"), fl.KeyMap{"north": fltest.Public("north")})
			if err != nil {
				t.Fatal(err)
			}
			// Some work at each step, as files are written: the link may be there before
			// the first.
			step := func(*fl.Coordinator) { time.Sleep(time.Second) }
			if err := fl.ServeCoordinator(t.Context(), l, []*fl.Coordinator{c}, fl.CoordinatorLoop{Step: step}); err != nil || !c.Done() {
				t.Fatalf("it ended: %v; %+v", err, c.Status())
			}
			return c.ID()
		}
		id, err := task.ID()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		p, err := fl.NewParticipant("north", fl.NewMemory(), fltest.Key("north"), []ed25519.PublicKey{fltest.Public("coordinator")}, fl.ParticipantConfig{Task: id})
		if err != nil {
			t.Fatal(err)
		}
		data := fltest.PointsOf("north")
		go func() {
			err := fl.ServeParticipant(ctx, b.Connect("north"), p, fl.ParticipantLoop{Dataset: data, Trainer: func(ctx context.Context, job *fl.Job) (*fl.Result, error) {
				return fl.Train(ctx, job, data.Data, nil)
			}})
			if err != nil {
				t.Error(err)
			}
		}()
		lead(b.Connect("coordinator"))
		for life := range 50 {
			other := fltest.NewBroker(fltest.Faults{}) // that knows nothing
			l := other.Connect("coordinator")
			if life%2 == 1 { // and is away at first
				l.Cut()
				time.AfterFunc(time.Minute, l.Join)
			}
			lead(l)
			is := other.Retained()
			if len(is[fl.TaskTopic(id)]) == 0 || len(is[fl.CallTopic(id, "north")]) == 0 || len(is) < 3 {
				t.Fatalf("life %d ended, and the broker knows %d messages of it: not the end, the gateway's update and the model", life, len(is))
			}
		}
	})
}
