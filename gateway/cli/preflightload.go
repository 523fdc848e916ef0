package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edgegateway/infer"
)

// maxLoad is as often as a ticker can be trusted with.
const maxLoad = 20000

// liveLoad runs a model at a steady rate in this process, as streams do in the
// gateway, and notes how long each answer takes.
type liveLoad struct {
	engine *infer.Engine
	model  *infer.Model
	dir    string
	rate   float64
	end    context.CancelFunc
	ended  sync.WaitGroup

	working atomic.Bool // the trial is, as far as it was let on

	mu    sync.Mutex
	took  [2][]time.Duration // while the trial rests, or is none, and while it works
	alone []time.Duration    // before the trial began, and after it
	err   error
}

// aloneFor is how long the live model is timed without a trial, before it and
// after it.
const aloneFor = 1500 * time.Millisecond

// startLoad begins, and comes back when the model was timed alone.
func startLoad(ctx context.Context, library, path string, rate float64) (*liveLoad, error) {
	trial, err := childTrial()
	if err != nil {
		return nil, err
	}
	l := &liveLoad{rate: rate}
	if l.dir, err = os.MkdirTemp("", "edgegateway-live-"); err != nil {
		return nil, err
	}
	f := modelFlags{library: library, cfg: infer.ModelConfig{Output: "auto", Delegate: "auto", Top: 5}}
	if l.engine, l.model, err = f.open(path, l.dir, trial); err != nil {
		os.RemoveAll(l.dir)
		return nil, err
	}
	done := waiting("timing the live model alone")
	defer done()
	if err := l.engine.Try(ctx, l.model); err != nil {
		l.stop()
		return nil, err
	}
	ctx, l.end = context.WithCancel(ctx)
	l.ended.Go(func() { l.serve(ctx) })
	sleep(ctx, aloneFor/3) // until caches and clocks are warm
	l.take()
	sleep(ctx, aloneFor)
	l.alone, _ = l.take()
	return l, ctx.Err()
}

func (l *liveLoad) stop() {
	if l.end != nil {
		l.end()
	}
	l.ended.Wait()
	l.engine.Close()
	os.RemoveAll(l.dir)
}

// serve asks the model at the rate; where it cannot keep up, as often as it
// can.
func (l *liveLoad) serve(ctx context.Context) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / l.rate))
	defer tick.Stop()
	var r infer.Result
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k := 0
		if l.working.Load() {
			k = 1
		}
		err := l.model.Run(ctx, func(in []infer.Tensor) error {
			for i := range in {
				clear(in[i].Data) // something that every model takes
			}
			return nil
		}, &r)
		l.mu.Lock()
		if err != nil && ctx.Err() == nil {
			l.err = err
		}
		l.took[k] = append(l.took[k], r.Took)
		l.mu.Unlock()
	}
}

// gate is the gateway's own, and notes what it says.
func (l *liveLoad) gate() func() bool {
	gate := l.engine.Gate()
	return func() bool {
		may := gate()
		l.working.Store(may)
		return may
	}
}

// take gives the times since it was called last.
func (l *liveLoad) take() (resting, working []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	resting, working = l.took[0], l.took[1]
	l.took = [2][]time.Duration{}
	return resting, working
}

// besideReport says how long live inferences took without a trial, before and
// after it, and during it. Times are in milliseconds.
type besideReport struct {
	Rate     float64    `json:"per_second"`
	Delegate string     `json:"delegate"`
	Alone    besideTime `json:"alone"`
	Resting  besideTime `json:"resting"` // the trial, for the live model's sake
	Working  besideTime `json:"working"`
	Slower   float64    `json:"slower"` // the mean of all during the trial by that of those alone, less 1
}

type besideTime struct {
	Calls int     `json:"calls"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
}

func besideTimes(took []time.Duration) (t besideTime) {
	if t.Calls = len(took); t.Calls == 0 {
		return t
	}
	slices.Sort(took)
	var sum time.Duration
	for _, d := range took {
		sum += d
	}
	t.Mean = float64(sum.Nanoseconds()) / float64(len(took)) / 1e6
	t.P50, t.P99 = float64(took[len(took)/2].Nanoseconds())/1e6, float64(took[len(took)*99/100].Nanoseconds())/1e6
	return t
}

// report times the live model alone once more.
func (l *liveLoad) report(ctx context.Context) (*besideReport, error) {
	resting, working := l.take()
	l.working.Store(false)
	done := waiting("timing the live model alone once more")
	sleep(ctx, aloneFor)
	done()
	more, _ := l.take()
	l.alone = append(l.alone, more...)
	l.mu.Lock()
	err := cmp.Or(ctx.Err(), l.err)
	l.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("the live model beside the trial: %w", err)
	}
	r := &besideReport{Rate: l.rate, Delegate: l.engine.Models()[0].Delegate, Alone: besideTimes(l.alone)}
	if during := besideTimes(slices.Concat(resting, working)); r.Alone.Mean > 0 && during.Calls > 0 {
		r.Slower = during.Mean/r.Alone.Mean - 1
	}
	r.Resting, r.Working = besideTimes(resting), besideTimes(working)
	return r, nil
}

func (r *besideReport) text(p *infer.PreflightReport) string {
	line := func(t besideTime) string {
		return fmt.Sprintf("mean %.3f ms, p50 %.3f ms, p99 %.3f ms of %d", t.Mean, t.P50, t.P99, t.Calls)
	}
	return fmt.Sprintf("live inference on %s, %g a second\n  without a trial      %s\n  while it is resting  %s\n  while it is working  %s\n%+.1f %% by mean during the trial, which took %.1f s, %.1f s of them it waited for live inference",
		r.Delegate, r.Rate, line(r.Alone), line(r.Resting), line(r.Working), 100*r.Slower, p.Took, p.Waited)
}
