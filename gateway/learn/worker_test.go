package learn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/infer/train"
)

// TestMain lets the test binary be the child process that it starts.
func TestMain(m *testing.M) {
	if os.Getenv("LEARN_TEST_CHILD") != "" {
		if err := RunChild(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// job is one of so many epochs over some points.
func job(t *testing.T, epochs int) (*fl.Job, Samples) {
	t.Helper()
	task := fl.DefaultTask()
	task.Name, task.Model.Preset, task.Model.Input, task.Model.Classes = "points", "mlp", []int{6}, []string{"low", "high"}
	task.Data.Stream, task.Local.Epochs = "s", epochs
	n, err := task.Network()
	if err != nil {
		t.Fatal(err)
	}
	w, err := fl.FromNetwork(n)
	if err != nil {
		t.Fatal(err)
	}
	d := &train.Dataset{Name: "points", Shape: train.Shape{6}, Classes: task.Model.Classes}
	for i := range 100 {
		for k := range 6 {
			d.Values = append(d.Values, float32((i*7+k*3)%11)/11+float32(i%2))
		}
		d.Labels = append(d.Labels, int32(i%2))
	}
	return &fl.Job{Task: &task, Round: 1, Gateway: "g", Base: w, Samples: 100, Seed: 3}, Samples{Set: d}
}

func worker(t *testing.T, l Limits) *Worker {
	t.Helper()
	t.Setenv("LEARN_TEST_CHILD", "1")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Worker{Program: exe, Limits: func() Limits { return l }, Sysfs: t.TempDir()}
}

// What the child makes is what this process makes, with whatever share of the
// processor.
func TestWorkerTrains(t *testing.T) {
	j, s := job(t, 3)
	want, err := fl.Train(t.Context(), j, s.Set, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cpu := range []float64{0.3, 1, 2} {
		l := DefaultLimits()
		l.CPU = cpu
		got, err := worker(t, l).Train(t.Context(), j, s, t.TempDir(), nil)
		if err != nil || string(got.Update.Delta) != string(want.Update.Delta) || got.Update.After != want.Update.After {
			t.Errorf("cpu %v: %v", cpu, err)
		}
	}
}

// A child that takes too much ends and says so; one that is killed may not the
// next time; what is wrong with the job is its own.
func TestWorkerFails(t *testing.T) {
	j, s := job(t, 1_000_000)
	l := DefaultLimits()
	l.Memory = 1 << 20
	_, err := worker(t, l).Train(t.Context(), j, s, "", nil)
	if runtime.GOOS == "linux" && (err == nil || !strings.Contains(err.Error(), "memory_bytes") || errors.Is(err, fl.ErrLater)) {
		t.Errorf("over its memory: %v", err)
	}
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	var w *Worker
	for _, eager := range []bool{false, true} {
		l := DefaultLimits()
		l.Eager = eager
		w = worker(t, l)
		began := false
		_, err = w.Train(t.Context(), j, s, t.TempDir(), func(int, int) {
			if began {
				return
			}
			began = true
			pid := childOf(t)
			want := 20 - lowest // as the system call says it
			if eager {
				want = own
			}
			if got, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid); runtime.GOOS == "linux" && (err != nil || got != want) {
				t.Errorf("eager %v: priority %d, not %d, %v", eager, 20-got, 20-want, err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		})
		if !began || !errors.Is(err, fl.ErrLater) {
			t.Errorf("killed: %v", err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	_, err = w.Train(ctx, j, s, "", func(int, int) { stop() })
	if !errors.Is(err, fl.ErrLater) {
		t.Errorf("stopped: %v", err)
	}
	j.Samples = 1000
	if _, err := w.Train(t.Context(), j, s, "", nil); err == nil || errors.Is(err, fl.ErrLater) {
		t.Errorf("a job of too many samples: %v", err)
	}
	if w.State() != "idle" {
		t.Error(w.State())
	}
}

// childOf is the process id of the only child.
func childOf(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("children are found in /proc")
	}
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, _ := os.ReadFile(name) // of a thread that has ended since
		if f := strings.Fields(string(b)); len(f) > 0 {
			pid, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	// Its parent is the thread that started it, which is gone.
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	t.Fatal("no child")
	return 0
}

// While it is too hot, at the wrong time of day, or in the way of what serves, a
// child does not work; then it goes on.
func TestWorkerPauses(t *testing.T) {
	j, s := job(t, 60)
	l := DefaultLimits()
	l.Celsius = 60
	w := worker(t, l)
	zone := filepath.Join(w.Sysfs, "class/thermal/thermal_zone0")
	if err := os.MkdirAll(zone, 0o755); err != nil {
		t.Fatal(err)
	}
	heat := func(milli string) {
		if err := os.WriteFile(filepath.Join(zone, "temp"), []byte(milli+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	heat("71000")
	asked := 0
	w.Gate = func() func() bool { return func() bool { asked++; return asked%2 == 0 } }
	var told []string
	w.Changed = func(state string) { told = append(told, state) }
	done := make(chan error, 1)
	go func() {
		_, err := w.Train(t.Context(), j, s, "", nil)
		done <- err
	}()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(w.State(), "71 degrees"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(w.State())
		}
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	heat("45000")
	if err := <-done; err != nil || asked == 0 {
		t.Error(err, asked)
	}
	if want := []string{"pauses at 71 degrees, limits.celsius allows 60", "working"}; !slices.Equal(told, want) {
		t.Errorf("it told %q, want %q", told, want)
	}
}

func TestHours(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse("15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		hours []string
		open  string
		shut  string
	}{
		{nil, "00:00 12:00 23:59", ""},
		{[]string{"22:00-06:00"}, "22:00 23:59 00:00 05:59", "06:00 12:00 21:59"},
		{[]string{"12:00-13:00", "02:30-03:00"}, "12:00 12:59 02:30", "13:00 02:29 03:00"},
	} {
		l := Limits{Hours: tt.hours}
		for _, text := range strings.Fields(tt.open) {
			if !l.open(at(text)) {
				t.Errorf("%v is shut at %s", tt.hours, text)
			}
		}
		for _, text := range strings.Fields(tt.shut) {
			if l.open(at(text)) {
				t.Errorf("%v is open at %s", tt.hours, text)
			}
		}
	}
	for _, bad := range []string{"", "22:00", "22-6", "25:00-06:00", "06:00-06:00"} {
		if _, _, err := hours(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// The share of a processor is what it is of each tenth of a second.
func TestTurn(t *testing.T) {
	for cpu, want := range map[float64]int{0.25: 25, 0.5: 50, 1: 100, 1.5: 75, 4: 100} {
		n := 0
		for ms := range 100 {
			if (Limits{CPU: cpu}).turn(time.Unix(0, int64(ms)*1e6)) {
				n++
			}
		}
		if n != want {
			t.Errorf("cpu %v: %d of 100 ms, want %d", cpu, n, want)
		}
	}
}

// A new model is refused with the figures where it is worse by more than the
// margin, where too few samples judge it, and where the one in use is of another
// kind.
func TestRefuses(t *testing.T) {
	cfg := DefaultConfig()
	of := func(n int, accuracy, loss float64) fl.Metrics {
		return fl.Metrics{Samples: n, Accuracy: accuracy, Loss: loss}
	}
	for name, tt := range map[string]struct {
		made Made
		says string // "": it is taken
	}{
		"better":         {Made{Verdict: fl.Verdict{New: of(50, 0.9, 0), Old: of(50, 0.8, 0)}}, ""},
		"a little worse": {Made{Verdict: fl.Verdict{New: of(50, 0.89, 0), Old: of(50, 0.9, 0)}}, ""},
		"worse":          {Made{Verdict: fl.Verdict{New: of(50, 0.7, 0), Old: of(50, 0.9, 0)}}, "70.00 % of the 50 samples held out here, the model in use on 90.00 %"},
		"none in use":    {Made{Verdict: fl.Verdict{New: of(50, 0.1, 0)}}, ""},
		"few":            {Made{Verdict: fl.Verdict{New: of(19, 0.9, 0), Old: of(19, 0.1, 0)}}, "19 samples"},
		"another kind":   {Made{Alien: "it takes other inputs"}, "other inputs"},
		"values":         {Made{Verdict: fl.Verdict{New: of(50, -1, 1.01), Old: of(50, -1, 1)}}, ""},
		"worse values":   {Made{Verdict: fl.Verdict{New: of(50, -1, 1.03), Old: of(50, -1, 1)}}, "mean squared error is 1.03"},
	} {
		err := refuses(cfg, &tt.made)
		var told fl.Told
		if (err == nil) != (tt.says == "") || err != nil && (!errors.As(err, &told) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
