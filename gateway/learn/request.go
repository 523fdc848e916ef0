package learn

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"edgegateway/fl"
	"edgegateway/gateway/dataset"
	"edgegateway/infer/train"
)

// Samples say where the child gets them: from a recorded set, or they are given.
type Samples struct {
	Recorded *dataset.Labelled
	Set      *train.Dataset
}

// load gives the first n; all of them where n is 0.
func (s *Samples) load(ctx context.Context, n int) (*train.Dataset, error) {
	if s.Recorded != nil {
		return s.Recorded.Load(ctx, n)
	}
	if s.Set.Len() < n {
		return nil, fmt.Errorf("%d samples are given, not %d", s.Set.Len(), n)
	}
	return s.Set, nil
}

// Request is what a child process has to do: one of Job and Make.
type Request struct {
	Job     *fl.Job
	Make    *Make
	Samples Samples
	Keep    string // file for the state of the training after each epoch; "": none
	Memory  int64  // bytes it may take
	Procs   int
	Eager   bool // it keeps the usual priority
}

// word is what a child says: how far it is, or what it came to.
type word struct {
	Epoch  int
	Of     int
	End    bool
	Result *fl.Result
	Made   *Made
	Err    string
}

// RunChild does what the request on in says, and tells out of it. It is what the
// child process runs. Where in ends, who wanted it is gone, and so is the process.
func RunChild(ctx context.Context, in io.Reader, out io.Writer) error {
	var req Request
	if err := gob.NewDecoder(in).Decode(&req); err != nil {
		return fmt.Errorf("no request: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	if !req.Eager {
		lowered()
	}
	if req.Procs > 0 {
		runtime.GOMAXPROCS(req.Procs)
	}
	enc := gob.NewEncoder(out)
	var mu sync.Mutex
	say := func(w word) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(w) // who does not read is gone
	}
	if req.Memory > 0 {
		debug.SetMemoryLimit(req.Memory * 9 / 10)
		go func() {
			for ctx.Err() == nil {
				if n := resident(); n > req.Memory {
					say(word{End: true, Err: fmt.Sprintf("the training took %.0f MB, limits.memory_bytes allows %.0f MB: it was ended", float64(n)/1e6, float64(req.Memory)/1e6)})
					os.Exit(1)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}()
	}
	w := word{End: true}
	var err error
	switch {
	case req.Job != nil:
		w.Result, err = work(ctx, &req, func(e train.Epoch) { say(word{Epoch: e.Epoch, Of: req.Job.Task.Local.Epochs}) })
	case req.Make != nil:
		w.Made, err = makeModel(ctx, &req)
	}
	if err != nil {
		w.Err = err.Error()
	}
	say(w)
	return nil
}

// work trains.
func work(ctx context.Context, req *Request, progress func(train.Epoch)) (*fl.Result, error) {
	d, err := req.Samples.load(ctx, req.Job.Samples)
	if err != nil {
		return nil, err
	}
	l, err := fl.NewLocal(req.Job.Task)
	if err != nil {
		return nil, err
	}
	l.Checkpoint = req.Keep
	return l.Train(ctx, req.Job, d, progress)
}

// resident is what this process has in memory; 0 where the system does not say.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(f[1], 10, 64)
	return n * int64(os.Getpagesize())
}

// keepName is the checkpoint of a job in a folder. Those of other jobs there are
// removed.
func keepName(dir string, job *fl.Job) string {
	name := filepath.Join(dir, fmt.Sprintf("%d-%.12s.checkpoint", job.Round, job.Base.Hash().String()))
	old, _ := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
	for _, o := range old {
		if o != name {
			_ = os.Remove(o) // it only takes room
		}
	}
	return name
}
