package infer

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebitengine/purego"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"edgegateway/internal/testkit"
)

// compiled is the delegate library of testdata/delegate.c.
var compiled = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "delegate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	so := filepath.Join(dir, "d.so")
	headers := filepath.Join(testkit.CacheDir(), "tfjs-tflite-node/cc_deps/include")
	if out, err := exec.Command("cc", "-O1", "-shared", "-fPIC", "-I", headers, "-o", so, "testdata/delegate.c", "-lm").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc: %w: %s", err, out)
	}
	return os.ReadFile(so)
})

// device is an accelerator with a will of its own: a copy of the library, so
// that each test has its own counters, and what it is told to do.
type device struct {
	t                     testing.TB
	library, control, log string
	options               map[string]string
}

func newDevice(t testing.TB, name, mode string, at int) *device {
	t.Helper()
	testkit.Program(t, "cc")
	testkit.Cached(t, "tfjs-tflite-node/cc_deps/include/tensorflow/lite/c/common.h")
	so, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &device{t: t, library: filepath.Join(dir, name), control: filepath.Join(dir, "control"), log: filepath.Join(dir, "log")}
	if err := os.WriteFile(d.library, so, 0o700); err != nil {
		t.Fatal(err)
	}
	d.options = map[string]string{"mode": mode, "at": fmt.Sprint(at), "control": d.control, "log": d.log}
	return d
}

// set tells the device what to do from now on.
func (d *device) set(mode string) {
	d.t.Helper()
	if err := os.WriteFile(d.control+".new", []byte(mode), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(d.control+".new", d.control); err != nil {
		d.t.Fatal(err)
	}
}

// live counts the delegates and kernels in this process.
func (d *device) live() (n int) {
	d.t.Helper()
	h, err := purego.Dlopen(d.library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range []string{"test_live_delegates", "test_live_kernels"} {
		var count func() int32
		purego.RegisterLibFunc(&count, h, name)
		n += int(count())
	}
	return n
}

// created counts how often the device was opened, here and in other processes.
func (d *device) created() (here, elsewhere int) {
	b, _ := os.ReadFile(d.log)
	for line := range strings.Lines(string(b)) {
		var event string
		var pid int
		if _, err := fmt.Sscan(line, &event, &pid); err != nil {
			d.t.Fatalf("log line %q: %v", line, err)
		}
		if event == "create" && pid == os.Getpid() {
			here++
		} else if event == "create" {
			elsewhere++
		}
	}
	return here, elsewhere
}

func (d *device) sine(delegate string) ModelConfig {
	return ModelConfig{
		File: testkit.Shared(d.t, "models/hello_world_float.tflite"), Output: "regression",
		Delegate: delegate, External: External{Library: d.library, Options: d.options},
	}
}

// bench is an engine that runs, with one model; all frames that go through it
// are held against what they must be.
type bench struct {
	t     testing.TB
	e     *Engine
	m     *Model
	end   func() // earlier than the test
	said  testkit.Buffer
	reg   *prometheus.Registry
	frame func(x int) (in []float64, want float64, tolerance float64)

	frames, wrong int // of one goroutine
	last          Result
}

// count is how often the log says a text.
func (b *bench) count(text string) int { return strings.Count(b.said.String(), text) }

// newBench starts an engine. It ends with the test, which fails where an
// interpreter, a delegate or a goroutine is left behind.
func newBench(t testing.TB, dir string, trial TrialFunc, cfg Config, mc ModelConfig, devices ...*device) *bench {
	t.Helper()
	needLibrary(t)
	before := goleak.IgnoreCurrent()
	b := &bench{t: t, reg: prometheus.NewRegistry()}
	e, err := New(cfg, map[string]ModelConfig{"m": mc}, dir, trial, zerolog.New(&b.said), b.reg)
	if err != nil {
		t.Fatal(err)
	}
	b.e = e
	if b.m, err = e.Model("m"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	b.frame = func(x int) ([]float64, float64, float64) {
		return []float64{float64(x%60) / 10}, sineAnswers(t)[x%60], 1e-3
	}
	ended := false
	b.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		wg.Wait()
		e.Close()
		await(t, "all interpreters and delegates are freed", func() bool {
			n := e.lib.Interpreters()
			for _, d := range devices {
				n += d.live()
			}
			return n == 0
		})
		goleak.VerifyNone(t, before)
	}
	t.Cleanup(b.end)
	return b
}

// sineAnswers are what the built-in kernels say of 0, 0.1 ... 5.9.
var sineTable struct {
	once sync.Once
	y    [60]float64
}

func sineAnswers(t testing.TB) *[60]float64 {
	sineTable.once.Do(func() {
		for i := range sineTable.y {
			in := floats32(nil, float64(i)/10).Data
			out, err := invoke(t, testkit.Shared(t, "models/hello_world_float.tflite"), builtin, in)
			if err != nil {
				t.Fatal(err)
			}
			sineTable.y[i] = out[0].Float(0)
		}
	})
	return &sineTable.y
}

// run sends one frame; none may fail, and a wrong answer is counted.
func (b *bench) run() {
	b.t.Helper()
	in, want, tolerance := b.frame(b.frames)
	b.frames++
	b.last.Reset()
	if err := b.m.Run(context.Background(), func(t []Tensor) error { return t[0].SetFloats(in) }, &b.last); err != nil {
		b.t.Fatalf("frame %d: %v", b.frames, err)
	}
	if !(math.Abs(b.last.Values[0]-want) <= tolerance) {
		b.wrong++
	}
}

// hurry lets the accelerator be tried now, not when its pause is over.
func (b *bench) hurry() {
	b.m.live.Load().mu.Lock()
	b.m.live.Load().away.until = time.Time{}
	b.m.live.Load().mu.Unlock()
	b.e.wake()
}

// untilBack waits for the accelerator without its pauses.
func (b *bench) untilBack() {
	b.t.Helper()
	b.until("the accelerator is back", func() bool {
		b.hurry()
		return b.last.Delegate == "external"
	})
}

// until sends frames until cond holds.
func (b *bench) until(what string, cond func() bool) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%+v", b.status())
		}
	}()
	await(b.t, what, func() bool {
		b.run()
		return cond()
	})
}

func (b *bench) untilOn(delegate string) {
	b.t.Helper()
	b.until("frames are computed by "+delegate, func() bool {
		return b.last.Delegate == delegate || delegate == "cpu" && b.last.Delegate != "external"
	})
}

func (b *bench) untilDegraded(why string) {
	b.t.Helper()
	b.until("the status says "+why, func() bool { return strings.Contains(b.status().Degraded, why) })
}

// failures is what the metric counts.
func (b *bench) failures() float64 {
	b.t.Helper()
	families, err := b.reg.Gather()
	for _, f := range families {
		if f.GetName() == "edgegateway_infer_delegate_failures_total" && err == nil {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	b.t.Fatalf("%v, %v", families, err)
	return 0
}

func (b *bench) status() ModelStatus { return b.e.Models()[0] }

// right ends a test: no frame was answered wrongly.
func (b *bench) right() {
	b.t.Helper()
	if b.wrong > 0 || b.frames == 0 {
		b.t.Errorf("%d of %d frames are answered wrongly", b.wrong, b.frames)
	}
}

// await waits for a condition, for a minute at most.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("a minute has gone, and not: %s", what)
		}
	}
}

// An accelerator that works serves after a child process has tried it.
func TestAcceleratorWorks(t *testing.T) {
	d := newDevice(t, "libdevice.so", "works", 0)
	b := newBench(t, t.TempDir(), child(t), DefaultConfig(), d.sine("external"), d)
	if b.run(); b.last.Delegate != "builtin" {
		t.Errorf("the first frame is computed by %s", b.last.Delegate)
	}
	b.untilOn("external")
	if here, elsewhere := d.created(); here != 1 || elsewhere != 1 {
		t.Errorf("opened %d times here and %d times in a child, want once each", here, elsewhere)
	}
	for range 2000 { // the check of one frame in 500 agrees
		b.run()
	}
	if s := b.status(); s.Delegate != "external" || s.Degraded != "" || s.Trying || !strings.HasPrefix(s.Why, "pinned by the configuration") {
		t.Errorf("%+v", s)
	}
	if b.count("goes on without") > 0 {
		t.Error("it warns of an accelerator that works")
	}
	b.right()
}

// One that is not to be had is no reason not to serve: it is said once, shown
// in the status, and tried again, until it works.
func TestAcceleratorThatIsNotToBeHad(t *testing.T) {
	for mode, want := range map[string]string{
		"refuse":  "refuses: there is no device",
		"reject":  "no model pleases this device",
		"fail":    "the device is gone",
		"wrong":   "does not agree with the built-in kernels",
		"crash":   "the child process died of it",
		"destroy": "the child process died of it",
	} {
		t.Run(mode, func(t *testing.T) {
			d := newDevice(t, "libdevice.so", mode, 1)
			b := newBench(t, t.TempDir(), child(t), DefaultConfig(), d.sine("external"), d)
			b.untilDegraded(want)
			if mode != "refuse" { // there the pauses are those of a gateway
				b.hurry()
			}
			b.until("it was tried again", func() bool { _, elsewhere := d.created(); return elsewhere > 1 })
			if s := b.status(); s.Delegate == "external" || !strings.Contains(s.Degraded, want) {
				t.Errorf("%+v", s)
			}
			if here, _ := d.created(); here > 0 {
				t.Error("it was opened in this process")
			}
			if s := b.status(); s.Delegate != fastestCPU(s.Candidates).Delegate {
				t.Errorf("not the fastest stands in for it: %+v", s)
			}
			d.set("works")
			if mode == "refuse" {
				b.untilOn("external")
			}
			b.untilBack()
			if s := b.status(); s.Degraded != "" {
				t.Errorf("it is back, and %+v", s)
			}
			if n := b.count("goes on without"); n != 1 {
				t.Errorf("said %d times", n)
			}
			b.right()
		})
	}
}

// A crash in the middle of the measuring is the fault of who did it.
func TestCrashIsBlamedRight(t *testing.T) {
	trial := child(t)
	for _, c := range []struct {
		mode string
		at   int
	}{{"crash", 2}, {"crash", 9}, {"destroy", 0}} { // three inputs are looked at, then twice in each of five rounds at least
		d := newDevice(t, "libdevice.so", c.mode, c.at)
		reports, err := trial(t.Context(), TrialRequest{
			File: testkit.Shared(t, "models/hello_world_float.tflite"), External: External{d.library, d.options},
			Candidates: []string{"builtin", "external", "xnnpack:0"},
		})
		if err != nil || len(reports) != 3 || !reports[0].OK || !reports[2].OK || reports[1].OK || !strings.Contains(reports[1].Why, "died of it") {
			t.Errorf("%+v: %+v, %v", c, reports, err)
		}
	}
}

// A library that is not there. While it is tried again, what serves is not
// changed, however the measuring of the CPU's delegates comes out.
func TestAcceleratorLibraryIsMissing(t *testing.T) {
	needLibrary(t)
	none := filepath.Join(t.TempDir(), "libnone.so")
	mc := sine(t)["sine"]
	mc.Delegate, mc.External = "external", External{Library: none}
	var trials atomic.Int32
	real := child(t)
	trial := func(ctx context.Context, req TrialRequest) ([]CandidateReport, error) {
		n := trials.Add(1)
		return editedTrial(real, func(r *CandidateReport) {
			if r.Name == "xnnpack:0" {
				r.Micros = []float64{1e6, 0.001}[n%2]
			}
		})(ctx, req)
	}
	b := newBench(t, t.TempDir(), trial, DefaultConfig(), mc)
	b.untilDegraded("libnone.so: cannot open")
	b.until("it was tried four times", func() bool {
		b.hurry()
		return trials.Load() > 4
	})
	if s := b.status(); s.Delegate != "xnnpack:0" || b.count("delegate chosen") != 1 || b.count("goes on without") != 1 {
		t.Errorf("%+v after %q", s, b.said.String())
	}
	b.right()
}

// It works, and later it fails: that very frame is answered by the CPU.
func TestAcceleratorBeginsToFail(t *testing.T) {
	d := newDevice(t, "libdevice.so", "works", 0)
	b := newBench(t, t.TempDir(), child(t), DefaultConfig(), d.sine("external"), d)
	b.untilOn("external")
	for round := range 3 {
		for range proven { // it was at work for a while: a new failure
			b.run()
		}
		d.set("fail")
		b.run()
		// By the kernels that stand in, or by the fastest of the CPU's delegates
		// where that took over between the failure and the answer.
		if d := b.last.Delegate; d != "builtin" && d != fastestCPU(b.status().Candidates).Delegate {
			t.Errorf("the frame that it fails is computed by %s", d)
		}
		b.untilDegraded("the device is gone")
		if n := b.failures(); n != float64(round+1) {
			t.Errorf("%v failures counted", n)
		}
		// Meanwhile the fastest of the CPU's delegates takes over.
		b.until("the fastest of the rest serves", func() bool {
			s := b.status()
			return !s.Trying && b.last.Delegate == fastestCPU(s.Candidates).Delegate
		})
		d.set("works")
		b.untilBack()
		b.m.live.Load().mu.Lock()
		if b.m.live.Load().away.tries != 1 {
			t.Errorf("failure %d of one that was at work before counts as number %d in a row", round+1, b.m.live.Load().away.tries)
		}
		b.m.live.Load().mu.Unlock()
	}
	d.set("fail") // at once after it was opened
	b.run()
	b.m.live.Load().mu.Lock()
	if b.m.live.Load().away.tries != 2 {
		t.Errorf("one that comes and goes has failed %d times in a row", b.m.live.Load().away.tries)
	}
	b.m.live.Load().mu.Unlock()
	b.right()
}

// It fails on its n-th Invoke, whichever frame that is.
func TestAcceleratorFailsOnTheNthInvoke(t *testing.T) {
	quick := editedTrial(child(t), func(r *CandidateReport) { // a trial measures, and would find it
		if r.Name == "external" {
			r.OK, r.Why, r.Micros = true, "", 1
		}
	})
	d := newDevice(t, "libdevice.so", "fail", 30)
	b := newBench(t, t.TempDir(), quick, DefaultConfig(), d.sine("external"), d)
	b.untilOn("external")
	b.untilOn("cpu")
	if b.frames < 20 || !strings.Contains(b.status().Degraded, "the device is gone") {
		t.Errorf("after %d frames: %+v", b.frames, b.status())
	}
	b.right()
}

// editedTrial is a real trial whose reports are changed.
func editedTrial(trial TrialFunc, edit func(*CandidateReport)) TrialFunc {
	return func(ctx context.Context, req TrialRequest) ([]CandidateReport, error) {
		reports, err := trial(ctx, req)
		for i := range reports {
			edit(&reports[i])
		}
		return reports, err
	}
}

// It works, and later it answers wrongly, without an error: the check of one
// frame in ten finds it, and answers that frame right. Between two checks wrong
// answers pass, by nature.
func TestAcceleratorBeginsToLie(t *testing.T) {
	d := newDevice(t, "libdevice.so", "works", 0)
	cfg := DefaultConfig()
	cfg.CheckEvery = 10
	b := newBench(t, t.TempDir(), child(t), cfg, d.sine("external"), d)
	b.untilOn("external")
	b.right()
	d.set("wrong")
	b.untilOn("cpu")
	if b.wrong > 9 || !strings.Contains(b.status().Degraded, "its answer is not the CPU's: element 0 of output 0") {
		t.Errorf("%d wrong answers, %+v", b.wrong, b.status())
	}
	passed := b.wrong
	_, tried := d.created()
	b.hurry()
	b.until("it was tried again", func() bool { _, n := d.created(); return n > tried })
	b.untilDegraded("does not agree with the built-in kernels")
	d.set("works")
	b.untilBack()
	if b.wrong != passed {
		t.Errorf("%d more wrong answers after it was found", b.wrong-passed)
	}
}

// Right in the child process, wrong in this one: found when it is opened here.
func TestAcceleratorIsProvedAfterOpening(t *testing.T) {
	d := newDevice(t, "libdevice.so", "here", os.Getpid())
	b := newBench(t, t.TempDir(), child(t), DefaultConfig(), d.sine("external"), d)
	b.untilDegraded("its answer is not the CPU's")
	if here, _ := d.created(); here == 0 {
		t.Error("it was not opened here")
	}
	b.right()
}

// Many callers while the device fails and comes back: every frame is answered,
// and right.
func TestAcceleratorUnderLoad(t *testing.T) {
	d := newDevice(t, "libdevice.so", "works", 0)
	b := newBench(t, t.TempDir(), child(t), DefaultConfig(), d.sine("external"), d)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var r Result
			for i := g; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				in, want, tolerance := b.frame(i)
				r.Reset()
				if err := b.m.Run(context.Background(), func(t []Tensor) error { return t[0].SetFloats(in) }, &r); err != nil || !(math.Abs(r.Values[0]-want) <= tolerance) {
					t.Errorf("for %v: %v, %v, want %v", in, r.Values, err, want)
					return
				}
			}
		})
	}
	for range 3 {
		b.untilBack()
		d.set("fail")
		b.untilOn("cpu")
		d.set("works")
	}
	close(stop)
	wg.Wait()
	b.right()
}

// In the automatic choice an accelerator is one candidate among others. What
// was chosen is remembered; the child looks at it again at each start.
func TestAcceleratorAmongTheCandidates(t *testing.T) {
	d := newDevice(t, "libdevice.so", "works", 0)
	for _, c := range []struct {
		micros float64
		want   string
	}{{0.01, "external"}, {1e6, "cpu"}} {
		dir := t.TempDir()
		var asked []string
		var mu sync.Mutex
		trial := editedTrial(child(t), func(r *CandidateReport) {
			if r.Name == "external" && r.OK {
				r.Micros = c.micros
			}
		})
		listening := func(ctx context.Context, req TrialRequest) ([]CandidateReport, error) {
			mu.Lock()
			asked = append(asked, strings.Join(req.Candidates, " "))
			mu.Unlock()
			return trial(ctx, req)
		}
		b := newBench(t, dir, listening, DefaultConfig(), d.sine("auto"), d)
		b.until("the trial is over", func() bool { return !b.status().Trying })
		b.untilOn(c.want)
		candidates := b.status().Candidates
		cpu := fastestCPU(candidates).Delegate
		b.right()
		b.end()
		again := newBench(t, dir, listening, DefaultConfig(), d.sine("auto"), d)
		if again.run(); again.last.Delegate != cpu {
			t.Errorf("after a restart %s serves first, not %s", again.last.Delegate, cpu)
		}
		again.untilOn(c.want)
		if s := again.status(); s.Degraded != "" || s.Trying || len(s.Candidates) != len(candidates) {
			t.Errorf("after a restart: %+v", s)
		}
		again.right()
		again.end()
		mu.Lock()
		want := 1
		if c.want == "external" {
			want = 2
		}
		if len(asked) != want || want == 2 && len(strings.Fields(asked[1])) > 3 {
			t.Errorf("%s: the trials were of %q", c.want, asked)
		}
		mu.Unlock()
	}
}

// usb plugs sticks into a list of devices as the kernel keeps it.
type usb struct {
	t    testing.TB
	root string
}

func newUSB(t testing.TB) *usb {
	u := &usb{t, t.TempDir()}
	u.plug("1-0", "1d6b", "0002") // a hub
	return u
}

func (u *usb) plug(port, vendor, product string) {
	u.t.Helper()
	dir := filepath.Join(u.root, "bus/usb/devices")
	next := filepath.Join(u.root, "next")
	for name, text := range map[string]string{"idVendor": vendor, "idProduct": product} {
		if err := os.MkdirAll(next, 0o700); err != nil {
			u.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(next, name), []byte(text+"\n"), 0o600); err != nil {
			u.t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		u.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, port)); err != nil {
		u.t.Fatal(err)
	}
}

func (u *usb) unplug(port string) {
	u.t.Helper()
	if err := os.RemoveAll(filepath.Join(u.root, "bus/usb/devices", port)); err != nil {
		u.t.Fatal(err)
	}
}

// copyTo copies a file of model/testdata.
func copyTo(t testing.TB, dir, name, as string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("model/testdata", name+".tflite"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, as+".tflite")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A stick runs the twin that was compiled for it. It is not tried before the
// kernel lists it, and at once when it does, before its firmware is loaded and
// after.
func TestStickComesAndGoes(t *testing.T) {
	d := newDevice(t, "libedgetpu.so.1", "works", 0)
	u := newUSB(t)
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Sysfs = u.root
	mc := ModelConfig{File: copyTo(t, dir, "dense_int8", "dense"), Output: "raw", Delegate: "external", External: External{d.library, d.options}}
	copyTo(t, dir, "edgetpu", "dense_edgetpu")
	b := newBench(t, t.TempDir(), child(t), cfg, mc, d)
	b.frame = func(x int) ([]float64, float64, float64) {
		v := float64(x % 5)
		return []float64{v, v, v, v}, 4 * math.RoundToEven((v*10+0.05)/4), 4
	}
	b.untilDegraded("no Coral is plugged in")
	b.until("the trial is over", func() bool { return !b.status().Trying })
	if here, elsewhere := d.created(); here+elsewhere > 0 {
		t.Error("a stick that is not there was tried")
	}
	for i, ids := range [][2]string{{"1a6e", "089a"}, {"18d1", "9302"}} {
		port := fmt.Sprint("1-", i+1)
		d.set("works")
		// However long it was to be left alone:
		b.m.live.Load().mu.Lock()
		b.m.live.Load().away.until = time.Now().Add(time.Hour)
		b.m.live.Load().mu.Unlock()
		u.plug(port, ids[0], ids[1])
		b.untilOn("external")
		if s := b.status(); s.Degraded != "" {
			t.Errorf("%+v", s)
		}
		u.unplug(port)
		d.set("fail")
		b.untilOn("cpu")
		b.untilDegraded("no Coral is plugged in")
	}
	b.right()
}

// A twin beside the model is no promise of a stick: without one nothing is
// amiss. With one it is tried by itself.
func TestTwinBesideTheModel(t *testing.T) {
	d := newDevice(t, "libedgetpu.so.1", "works", 0)
	u := newUSB(t)
	dir := t.TempDir()
	mc := ModelConfig{File: copyTo(t, dir, "dense_int8", "dense"), Output: "raw"}
	copyTo(t, dir, "edgetpu", "dense_edgetpu")
	if a := mc.accelerator(); a == nil || !a.found || a.Library != coralLibrary() || a.file != filepath.Join(dir, "dense_edgetpu.tflite") {
		t.Errorf("%+v", a)
	}
	cfg := DefaultConfig()
	cfg.Sysfs = u.root
	var asked []string
	var mu sync.Mutex
	trial := child(t)
	b := newBench(t, t.TempDir(), func(ctx context.Context, req TrialRequest) ([]CandidateReport, error) {
		mu.Lock()
		asked = append(asked, req.Candidates...)
		mu.Unlock()
		// The library is not installed here.
		req.External = External{d.library, d.options}
		return trial(ctx, req)
	}, cfg, mc, d)
	b.frame = func(int) ([]float64, float64, float64) { return []float64{1, 1, 1, 1}, 8, 4 }
	b.until("the trial is over", func() bool { return !b.status().Trying })
	mu.Lock()
	if s := b.status(); s.Degraded != "" || strings.Contains(strings.Join(asked, " "), "external") {
		t.Errorf("%q, %+v", asked, s)
	}
	mu.Unlock()
	u.plug("1-1", "18d1", "9302")
	b.until("it was tried", func() bool { _, n := d.created(); return n > 0 })
	b.right()
}

// A file compiled of another model is refused before a frame goes through it.
func TestTwinOfAnotherModel(t *testing.T) {
	d := newDevice(t, "libedgetpu.so.1", "works", 0)
	u := newUSB(t)
	u.plug("1-1", "18d1", "9302")
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Sysfs = u.root
	mc := ModelConfig{
		File: copyTo(t, dir, "dense_hybrid", "dense"), Output: "raw", Delegate: "external", External: External{d.library, d.options},
		Accelerated: copyTo(t, dir, "edgetpu", "other"),
	}
	b := newBench(t, t.TempDir(), child(t), cfg, mc, d)
	b.frame = func(int) ([]float64, float64, float64) { return []float64{1, 1, 1, 1}, 10, 0.2 }
	b.untilDegraded("the file compiled for it is of another model: its input 0 is [1 4] int8")
	b.right()
}

// TestAbsence: after each failure in a row an accelerator is left alone twice
// as long, up to five minutes; one that comes is tried at once.
func TestAbsence(t *testing.T) {
	var a absence
	now := time.Unix(1000, 0)
	if !a.due(now, true) {
		t.Error("not due at the first look")
	}
	for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		a.failed(now)
		pause := time.Duration(seconds) * time.Second
		if a.due(now.Add(pause-1), true) || !a.due(now.Add(pause), true) {
			t.Errorf("not left alone for %v", pause)
		}
		now = now.Add(pause)
	}
	a.failed(now)
	if a.due(now.Add(time.Hour), false) {
		t.Error("due while it is away")
	}
	if !a.due(now, true) || a.due(now, true) {
		t.Error("not due once when it comes")
	}
}
