package infer

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// The checks of a pre-flight, in their order.
const (
	CheckLoads  = "loads"
	CheckGolden = "golden answers"
	CheckAgree  = "delegates agree"
	CheckTime   = "time"
	CheckMemory = "memory"
	CheckCrash  = "no crash"
	CheckLeak   = "no leak"
)

// GoldenFiles are inputs with the answers that a model is to give: files of raw
// little-endian tensor bytes, one of each input and of each output.
type GoldenFiles struct {
	Inputs  []string `json:"inputs"`
	Outputs []string `json:"outputs"`
	// Tolerance is what an element may be off: for float outputs a share of the
	// output's range over all answers, for quantized ones steps of the integer.
	// 0 is what delegates are allowed: a thousandth, six steps, and for whole
	// numbers that stand for nothing else (indexes, counts, yes and no) nothing.
	Tolerance float64 `json:"tolerance"`
}

// Limits are what a version promises to keep; 0 promises nothing.
type Limits struct {
	Millis      float64 `json:"ms"`           // of 99 in 100 inferences
	MemoryBytes int64   `json:"memory_bytes"` // of one warm interpreter with the model
}

// PreflightRequest is a version that is to be tried on this box before it
// serves.
type PreflightRequest struct {
	Library string        `json:"library"` // "": the one in the program
	Model   ModelConfig   `json:"model"`   // the files and what the outputs mean; a pinned delegate must do
	Sysfs   string        `json:"sysfs"`   // where the kernel lists the devices; "": /sys
	Live    *ModelConfig  `json:"live"`    // what serves now, to be compared with; nil: nothing
	Golden  []GoldenFiles `json:"golden"`
	Limits  Limits        `json:"limits"`
	Calls   int           `json:"calls"` // how often it is run for time and leaks; 0: 1,000
	// Memory bounds the child, in bytes; 0: half of what the box has to spare.
	Memory int64 `json:"memory"`
	// Patience is how much processor time the child may take without a word: an
	// inference that takes longer hangs. 0: 20 s. A child that takes hardly any
	// sleeps for ever, and is given fifteen times as long by the clock. Nothing
	// counts while it waits for its turn.
	Patience time.Duration `json:"patience"`
	// Eager leaves the child the priority of its parent, where nothing is live
	// that it could slow. On a box that has no time left, one of the lowest gets
	// hardly any.
	Eager bool `json:"eager"`
	// Unchecked hands the file to the runtime without the check that refuses
	// what ends the process: for tests of what a child is there for.
	Unchecked bool `json:"unchecked"`
}

func (r *PreflightRequest) defaults() {
	if r.Calls <= 0 {
		r.Calls = 1000
	}
	if r.Memory <= 0 {
		r.Memory = spareMemory() / 2
	}
	if r.Patience <= 0 {
		r.Patience = 20 * time.Second
	}
	if r.Sysfs == "" {
		r.Sysfs = "/sys"
	}
}

// Check is what came of one check. Value was measured and held against Limit,
// both in Unit; Limit is 0 where there is none.
type Check struct {
	Name  string  `json:"name"`
	OK    bool    `json:"ok"`
	Why   string  `json:"why"` // what was seen, whether it is right or not
	Value float64 `json:"value,omitempty"`
	Limit float64 `json:"limit,omitempty"`
	Unit  string  `json:"unit,omitempty"`
}

// PreflightReport says whether a version may serve on this box. Times are
// milliseconds of one inference on the chosen delegate: P50 and P99 without the
// time for which the child, which everything else goes before, stood ready and
// was not let on a processor; WallP50 and WallP99 with it.
type PreflightReport struct {
	OK         bool              `json:"ok"`
	Why        string            `json:"why"` // what failed, with the numbers
	File       string            `json:"file"`
	SHA256     string            `json:"sha256,omitempty"` // of the .tflite
	Delegate   string            `json:"delegate,omitempty"`
	Checks     []Check           `json:"checks"` // as far as it came
	Candidates []CandidateReport `json:"candidates,omitempty"`

	P50     float64 `json:"p50_ms,omitempty"`
	P99     float64 `json:"p99_ms,omitempty"`
	WallP50 float64 `json:"wall_p50_ms,omitempty"`
	WallP99 float64 `json:"wall_p99_ms,omitempty"`
	LiveP50 float64 `json:"live_p50_ms,omitempty"` // of the version that serves now
	Slower  float64 `json:"slower,omitempty"`      // times the live version's p50, measured in turns

	PeakMemoryBytes int64 `json:"peak_memory_bytes,omitempty"`
	LeakBytes       int64 `json:"leak_bytes"`
	Calls           int   `json:"calls,omitempty"` // that were timed, and watched for a leak

	Took   float64 `json:"seconds"`
	Waited float64 `json:"waited_seconds"` // of these, for live inference
}

// PreflightFunc tries a version where a crash does no harm: in a child process.
// gate is asked before each slice of some 20 ms of work, or one inference where
// that is longer: the child waits for as long as it says no; nil always says
// yes. A version that fails is a report that says so; an error is that none
// could be made.
type PreflightFunc func(ctx context.Context, req PreflightRequest, gate func() bool) (*PreflightReport, error)

// judge sums the checks up.
func (r *PreflightReport) judge() {
	var failed []string
	for _, c := range r.Checks {
		if !c.OK {
			failed = append(failed, c.Name+": "+c.Why)
		}
	}
	r.OK = len(failed) == 0 && len(r.Checks) > 0
	if r.Why = strings.Join(failed, "; "); r.OK {
		r.Why = fmt.Sprintf("passed on %s, p50 %.3g ms, p99 %.3g ms", r.Delegate, r.P50, r.P99)
	}
}

// Text is the report for a reader.
func (r *PreflightReport) Text() string {
	var b strings.Builder
	verdict := r.Why
	if !r.OK {
		verdict = "refused"
	}
	fmt.Fprintf(&b, "%s: %s\n", r.File, verdict)
	w := tabwriter.NewWriter(&b, 2, 4, 2, ' ', 0)
	for _, c := range r.Checks {
		yes := "no"
		if c.OK {
			yes = "yes"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", c.Name, yes, c.Why)
	}
	w.Flush()
	return b.String()
}
