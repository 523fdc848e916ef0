package simulate

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// Config is the world that a task is simulated in.
type Config struct {
	Participants int
	Partition    Partition
	Attack       Attack
	Workers      int           // that train at a time; 0: as many as there are processors
	SampleTime   time.Duration // that the median participant trains on one sample
	Spread       float64       // of speeds: the deviation of their logarithms; 0: all are alike
	Dropout      float64       // chance that a participant loses its link while it trains
	Away         time.Duration // how long it is away then, in the mean
	Latency      time.Duration // of each message
	Rate         float64       // bytes a second of the broker's link, each way
	Dir          string        // for what does not fit into memory; "": the system's for temporary files

	Round func(fl.RoundReport)      // told of each round that is over; nil: nobody
	Step  func(round, made, of int) // told of each update that was made, of so many that a round has; nil: nobody
}

// DefaultConfig is a hundred alike participants, of which none drops out.
func DefaultConfig() Config {
	return Config{Participants: 100, Partition: Partition{Kind: "iid"}, SampleTime: 5 * time.Millisecond,
		Away: 10 * time.Minute, Latency: 50 * time.Millisecond, Rate: 12.5e6}
}

// Validate says what is wrong.
func (c Config) Validate() error {
	switch {
	case c.Participants < 1 || c.Participants > 100_000:
		return fmt.Errorf("participants: %d is outside 1..100000", c.Participants)
	case c.Workers < 0 || c.Workers > 1000:
		return fmt.Errorf("workers: %d is outside 0..1000", c.Workers)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("dropout: %v is not from 0 to below 1", c.Dropout)
	case !(c.Spread >= 0 && c.Spread <= 5):
		return fmt.Errorf("spread: %v is outside 0..5", c.Spread)
	case c.SampleTime < 0 || c.SampleTime > time.Hour:
		return fmt.Errorf("sample-time: %v is outside 0..1h", c.SampleTime)
	case c.Away < 0 || c.Away > 1000*time.Hour:
		return fmt.Errorf("away: %v is outside 0..1000h", c.Away)
	case c.Latency < 0 || c.Latency > time.Hour:
		return fmt.Errorf("latency: %v is outside 0..1h", c.Latency)
	case !(c.Rate >= 1 && c.Rate <= 1e12):
		return fmt.Errorf("link: %v bytes a second are outside 1..1e12", c.Rate)
	}
	return c.Partition.Validate()
}

// Outcome is what a simulation came to.
type Outcome struct {
	History []fl.RoundReport
	Status  fl.Status
	Weights *fl.Weights // the model's: the best where the task says so
	Hostile []string    // names of the attackers
	Clock   time.Duration
	Refused int // messages, by participants and coordinator
}

// Run simulates a task until it is over. learn is divided among participants;
// held judges at the coordinator, nil for none. What comes is the same for the
// same task, configuration and data. Where ctx ends, its error comes with what
// there is until then.
func Run(ctx context.Context, task fl.Task, cfg Config, learn, held *train.Dataset) (*Outcome, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	parts, err := cfg.Partition.Divide(learn, cfg.Participants, task.Seed)
	if err != nil {
		return nil, err
	}
	if err := gather(&task, parts); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cfg.Dir, "edgegateway-simulate-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	w := &world{ctx: ctx, cfg: cfg, task: &task, shelf: newShelf(dir), clock: &clock{now: epoch}, broker: newBroker(cfg), keys: fl.KeyMap{}}
	w.up.clock, w.down.clock = w.clock, w.clock
	if w.crew, err = newCrew(&task, cfg.Workers, cfg.Attack, learn); err != nil {
		cancel()
		return nil, err
	}
	defer w.crew.close()
	defer cancel()
	if err := w.found(held); err != nil {
		return nil, err
	}
	hostile := cfg.Attack.hostile(cfg.Participants, task.Seed)
	out := &Outcome{}
	for i, samples := range parts {
		v, err := newVirtual(i, samples, hostile[i], w)
		if err != nil {
			return nil, err
		}
		if v.hostile {
			out.Hostile = append(out.Hostile, v.name)
		}
		w.clock.at(epoch, func() error { w.join(v); return nil })
	}
	err = w.run()
	out.History, out.Status, out.Weights = w.coordinator.History(), w.coordinator.Status(), w.coordinator.Weights()
	out.Clock, out.Refused = w.clock.now.Sub(epoch), w.refused
	return out, err
}

// gather has the first round wait for all participants: in a simulation they are
// there from the start.
func gather(task *fl.Task, parts [][]int32) error {
	able := 0
	for _, p := range parts {
		if len(p) >= task.Data.Minimum {
			able++
		}
	}
	for name, need := range map[string]int{"cohort.quorum": task.Cohort.Quorum, "strategy": task.Strategy.Minimum()} {
		if need > able {
			return fmt.Errorf("%s of task %s wants %d participants, and %d have the %d samples of data.minimum", name, task.Name, need, able, task.Data.Minimum)
		}
	}
	task.Cohort.WaitFor = able
	return nil
}
