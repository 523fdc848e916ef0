package infer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"time"

	"edgegateway/infer/tflite"
)

// runner is one model on one delegate with the inputs that it is run on.
type runner struct {
	file    *tflite.Model
	w       *worker
	goldens *goldens
	next    int
}

// newRunner loads a model as the trial does.
func newRunner(t *trial, delegate string, golden []GoldenFiles) (*runner, error) {
	c := contender{name: delegate}
	err := t.load(&c)
	r := &runner{file: c.m, w: c.w}
	if err == nil {
		r.goldens, err = readGoldens(golden, t.file)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return r, nil
}

func (r *runner) close() {
	r.w.close()
	r.file.Close()
}

// fill sets the next input: what the version brings, or what it takes of the
// fixed ones.
func (r *runner) fill() error {
	r.next++
	if n := len(r.goldens.list); n > 0 {
		return r.goldens.fill(r.next%n, r.w.in)
	}
	fixedInput(r.w.in, r.next%inputs)
	return nil
}

// once runs the next input; only the runtime's part is timed.
func (r *runner) once(s *stopwatch) (own, wall time.Duration, err error) {
	if err := r.fill(); err != nil {
		return 0, 0, err
	}
	return s.time(r.w.invoke)
}

const (
	warmCalls = 50              // before memory is looked at
	leakFor   = 2 * time.Minute // of inferences, at most, however many that are
	turnsFor  = 1 * time.Second // of each version, in turns
	minTurns  = 5               // of each, however long that takes
	leakBytes = 256 << 10       // what memory may grow by beside the model: Go's own
)

// measure runs the version on the delegate that was chosen: its memory, then
// time and growth over many calls, then its time beside that of the live one.
func (p *preflight) measure(ctx context.Context) error {
	s := newStopwatch()
	defer s.close()
	t := &trial{req: TrialRequest{File: p.work.Model.File}, lib: p.lib, unchecked: p.work.Unchecked}
	if p.work.Measure == "external" {
		if a := p.work.Model.accelerator(); a != nil {
			t.accel, t.req.External, t.req.Accelerated = a, a.External, a.file
		}
	}
	on := p.work.Measure
	if err := p.begin(ctx, CheckMemory, on); err != nil {
		return err
	}
	own := settled()
	before := memoryOf("self")
	if _, _, err := t.read(); err != nil {
		return p.failed(CheckLoads, err)
	}
	debug.FreeOSMemory() // what reading it took
	resetPeak()
	r, err := newRunner(t, on, p.work.Golden)
	if err != nil {
		return p.failed(CheckLoads, fmt.Errorf("on %s: %w", on, err))
	}
	defer r.close()
	var f figures
	if err := p.warm(ctx, r, s); err != nil {
		return p.failed(CheckMemory, err)
	}
	// Pages of the runtime's own code, read for the first time, are no model's.
	f.Peak = max(peakResident()-before.resident-(memoryOf("self").shared-before.shared), settled()-own, 0)
	if err := p.many(ctx, r, s, &f); err != nil {
		return err
	}
	if p.work.Live != nil {
		if err := p.turns(ctx, r, s, &f); err != nil {
			return err
		}
	}
	return p.say(preflightWord{Figures: &f})
}

// slices runs calls until done says so, and asks before each slice.
func (p *preflight) slices(ctx context.Context, check, on string, call func() (done bool, err error)) error {
	for {
		if err := p.begin(ctx, check, on); err != nil {
			return err
		}
		for begin := time.Now(); time.Since(begin) < slice; {
			if done, err := call(); done || err != nil {
				return err
			}
		}
	}
}

// warm runs the first calls, fewer where they take long.
func (p *preflight) warm(ctx context.Context, r *runner, s *stopwatch) error {
	n, spent := 0, time.Duration(0)
	return p.slices(ctx, CheckMemory, p.work.Measure, func() (bool, error) {
		own, _, err := r.once(s)
		n++
		spent += own
		return n >= warmCalls || n >= 2 && spent > time.Second, err
	})
}

// many makes the calls that are timed, and looks at the process's own memory
// before, half-way and after. What grows in both halves alike leaks: a buffer
// that grows once does not.
func (p *preflight) many(ctx context.Context, r *runner, s *stopwatch, f *figures) error {
	calls := p.work.Calls
	own, wall := make([]time.Duration, 0, calls), make([]time.Duration, 0, calls)
	var at [3]int64
	at[0] = settled()
	var spent time.Duration
	err := p.slices(ctx, CheckLeak, p.work.Measure, func() (bool, error) {
		o, w, err := r.once(s)
		own, wall = append(own, o), append(wall, w)
		if spent += o; len(own) == calls/2 {
			at[1] = settled()
		}
		return len(own) >= calls || spent > leakFor, err
	})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return p.failed(CheckLeak, fmt.Errorf("call %d: %w", len(own), err))
	}
	at[2] = settled()
	f.Calls = len(own)
	if f.Calls < calls { // stopped before its time: the first half is all there is
		at[1] = (at[0] + at[2]) / 2
	}
	if half := min(at[1]-at[0], at[2]-at[1]); half > 0 {
		f.Leak = 2 * half
	}
	slices.Sort(own)
	slices.Sort(wall)
	f.Own = [2]float64{percentile(own, 0.5), percentile(own, 0.99)}
	f.Wall = [2]float64{percentile(wall, 0.5), percentile(wall, 0.99)}
	return nil
}

// settled is the process's own memory after Go gave back what it does not need.
func settled() int64 {
	debug.FreeOSMemory()
	return ownMemory()
}

// turns times the live version and this one in turns, so that a busy moment
// hurts them alike.
func (p *preflight) turns(ctx context.Context, r *runner, s *stopwatch, f *figures) error {
	live, err := p.liveRunner(ctx, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		f.LiveWhy = err.Error() // it serves in another process, and is not judged here
		return nil
	}
	defer live.close()
	var times [2][]time.Duration
	var spent [2]time.Duration
	for i := 0; i < 2*minTurns || spent[0] < turnsFor && spent[1] < turnsFor && len(times[0]) < p.work.Calls; i++ {
		k, one := i%2, []*runner{live, r}[i%2]
		if err := p.begin(ctx, CheckTime, []string{"the live version", p.work.Measure}[k]); err != nil {
			return err
		}
		for begin := time.Now(); ; {
			own, _, err := one.once(s)
			if err != nil {
				return p.failed(CheckTime, err)
			}
			times[k] = append(times[k], own)
			spent[k] += own
			if time.Since(begin) >= slice {
				break
			}
		}
	}
	for k := range times {
		slices.Sort(times[k])
	}
	f.Live, f.Beside = percentile(times[0], 0.5), percentile(times[1], 0.5)
	return nil
}

// liveRunner loads the live version on the delegate that it is pinned to, else
// on the quickest of one thread: which one serves it, this process cannot know.
func (p *preflight) liveRunner(ctx context.Context, s *stopwatch) (best *runner, err error) {
	t := &trial{req: TrialRequest{File: p.work.Live.File}, lib: p.lib}
	m, _, err := t.read()
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(Candidates(m), func(name string) bool {
		d, err := parseDelegate(name)
		return err != nil || d.threads > 1
	})
	if d := p.work.Live.Delegate; d != "" && d != "auto" && d != "external" {
		list = []string{d}
	}
	var quickest time.Duration
	for _, name := range list {
		if err := p.begin(ctx, CheckTime, "the live version"); err != nil {
			return best, err
		}
		r, failed := newRunner(t, name, nil)
		if failed != nil {
			err = failed
			continue
		}
		took := time.Duration(math.MaxInt64)
		for begin, n := time.Now(), 0; n < 3 || time.Since(begin) < slice/2; n++ {
			own, _, failed := r.once(s)
			if failed != nil {
				err, took = failed, math.MaxInt64
				break
			}
			took = min(took, own)
		}
		if took < math.MaxInt64 && (best == nil || took < quickest) {
			r, best, quickest = best, r, took
		}
		if r != nil {
			r.close()
		}
	}
	if best != nil {
		err = nil
	}
	return best, err
}

// checks makes checks of the figures: in their order, each with its numbers.
func (f *figures) checks(req *PreflightRequest) []Check {
	list := []Check{f.time(req), f.memory(req), {Name: CheckCrash, OK: true, Why: "none on any delegate"}}
	leak := Check{Name: CheckLeak, OK: f.Leak <= leakBytes, Value: float64(f.Leak), Limit: leakBytes, Unit: "bytes"}
	leak.Why = fmt.Sprintf("%.0f KB over %d calls", float64(f.Leak)/1e3, f.Calls)
	if f.Calls < req.Calls {
		leak.Why += fmt.Sprintf(", for more than %v of inferences there is no time", leakFor)
	}
	if !leak.OK {
		leak.Why = fmt.Sprintf("memory grew by %.0f KB over %d calls, %.0f bytes a call", float64(f.Leak)/1e3, f.Calls, float64(f.Leak)/float64(max(f.Calls, 1)))
	}
	return append(list, leak)
}

// muchSlower is how much slower than the live version a new one may be that
// names no limit.
const muchSlower = 10

func (f *figures) time(req *PreflightRequest) Check {
	c := Check{Name: CheckTime, OK: true, Value: f.Own[1], Limit: req.Limits.Millis, Unit: "ms"}
	c.Why = fmt.Sprintf("p50 %.3g ms, p99 %.3g ms over %d calls", f.Own[0], f.Own[1], f.Calls)
	if f.Live > 0 {
		c.Why += fmt.Sprintf("; %.2g times the live version's %.3g ms", f.Beside/f.Live, f.Live)
	}
	if f.LiveWhy != "" {
		c.Why += "; not compared with the live version: " + f.LiveWhy
	}
	switch {
	case c.Limit > 0:
		c.OK = c.Value <= c.Limit
		c.Why += fmt.Sprintf("; the limit is p99 %g ms", c.Limit)
	case f.Live > 0:
		if c.OK = f.Beside < muchSlower*f.Live; !c.OK {
			c.Value, c.Limit, c.Unit = f.Beside/f.Live, muchSlower, "times the live version"
			c.Why += fmt.Sprintf(": %d times is too slow where no limit is named", muchSlower)
		}
	}
	return c
}

func (f *figures) memory(req *PreflightRequest) Check {
	limit := req.Limits.MemoryBytes
	c := Check{Name: CheckMemory, OK: limit <= 0 || f.Peak <= limit, Value: float64(f.Peak), Limit: float64(limit), Unit: "bytes"}
	c.Why = fmt.Sprintf("%.1f MB at most", float64(f.Peak)/1e6)
	if f.Peak == 0 {
		c.Why = cmp.Or(map[bool]string{true: "less than can be seen"}[memoryOf("self").resident > 0], "this system does not say")
	}
	if limit > 0 {
		c.Why += fmt.Sprintf(", the limit is %.1f MB", float64(limit)/1e6)
	}
	return c
}
