package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// cameras publish digits of MNIST, and an inspector says of each result what
// was right.
type cameras struct {
	t      *testing.T
	frames [][]byte
	labels []int

	mu     sync.Mutex
	by     map[string][2]int // version: right, all
	stages map[string]stageMsg
	last   map[string]string // step by version: why
	more   chan struct{}     // closed and replaced with each message of a model
}

// stageMsg is what stays on models/digits/rollout.
type stageMsg struct {
	Version, Stage, Over                      string
	Samples, Labels                           int
	Agreement, Worst, Errors, Accuracy, Hours float64
	Live                                      struct {
		Samples, Labels  int
		Errors, Accuracy float64
	}
	Classes []struct {
		Label           string
		Samples, Differ int
	}
	Pairs []struct {
		Live, Beside string
		Samples      int
	}
}

const howMany = 20 // cameras

// begin publishes until stop, fifty frames ahead of what was inspected: nobody
// falls behind so far that the broker has to drop something for it.
func (c *cameras) begin(broker string) (stop func()) {
	c.t.Helper()
	connect := func(id string) *link.Conn {
		conn, err := link.Connect(c.t.Context(), link.Config{URL: broker, ClientID: id})
		if err != nil {
			c.t.Fatal(err)
		}
		return conn
	}
	room := make(chan struct{}, 50)
	said := make(chan []byte, 100)
	reader, inspector, camera := connect("reader"), connect("inspector"), connect("cameras")
	end := make(chan struct{})
	if err := reader.Subscribe(c.t.Context(), []string{"results/#", "models/#"}, 1, func(m link.Msg) {
		if strings.HasPrefix(m.Topic, "models/") {
			c.hear(m)
			return
		}
		select {
		case said <- m.Payload:
		case <-end:
		}
	}); err != nil {
		c.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-end:
				return
			case b := <-said:
				c.inspect(inspector, b)
				select {
				case <-room:
				default:
				}
			}
		}
	})
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case room <- struct{}{}:
			}
			m := link.Msg{Topic: fmt.Sprint("camera/", i%howMany), Payload: c.frames[i%len(c.frames)], QoS: 1}
			if err := camera.Publish(c.t.Context(), m); err != nil && c.t.Context().Err() == nil {
				c.t.Error(err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		all.Wait()
		for _, conn := range []*link.Conn{reader, inspector, camera} {
			conn.Close()
		}
	})
	c.t.Cleanup(stop)
	return stop
}

// inspect says what was right of a result.
func (c *cameras) inspect(inspector *link.Conn, result []byte) {
	var r struct {
		ID, Source, Version, Label string
		Seq                        int
	}
	if err := json.Unmarshal(result, &r); err != nil {
		c.t.Error(err)
		return
	}
	of, err := strconv.Atoi(r.Source)
	if err != nil {
		c.t.Errorf("%s: %v", result, err)
		return
	}
	right := strconv.Itoa(c.labels[((r.Seq-1)*howMany+of)%len(c.labels)])
	c.mu.Lock()
	n := c.by[r.Version]
	if n[1]++; r.Label == right {
		n[0]++
	}
	c.by[r.Version] = n
	c.mu.Unlock()
	err = inspector.Publish(c.t.Context(), link.Msg{Topic: "inspection/end", Payload: fmt.Appendf(nil, `{"id":%q,"label":%q}`, r.ID, right), QoS: 1})
	if err != nil && c.t.Context().Err() == nil {
		c.t.Error(err)
	}
}

// hear takes what the gateway says of the model.
func (c *cameras) hear(m link.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Topic {
	case "models/digits/status":
		var s struct{ Step, Of, Why string }
		if err := json.Unmarshal(m.Payload, &s); err == nil {
			c.last[s.Step+" "+s.Of] = s.Why
		}
	case "models/digits/rollout":
		var s stageMsg
		if err := json.Unmarshal(m.Payload, &s); err == nil {
			c.stages[s.Stage+" "+s.Version] = s
		}
	}
	close(c.more)
	c.more = make(chan struct{})
}

// step waits for one of the steps of a version, and gives it with its reason.
func (c *cameras) step(version string, steps ...string) (step, why string) {
	c.t.Helper()
	for deadline := time.After(2 * time.Minute); ; {
		c.mu.Lock()
		for _, s := range steps {
			if why, ok := c.last[s+" "+version]; ok {
				c.mu.Unlock()
				return s, why
			}
		}
		more, have := c.more, slices.Sorted(maps.Keys(c.last))
		c.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			c.t.Fatalf("version %s came to none of %v; there were %v", version, steps, have)
		}
	}
}

// answered is how many results a version had right, of how many.
func (c *cameras) answered(version string) (right, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[version][0], c.by[version][1]
}

// tell prints the counters of a stage.
func (c *cameras) tell(stage, version string) stageMsg {
	c.t.Helper()
	c.mu.Lock()
	s, ok := c.stages[stage+" "+version]
	c.mu.Unlock()
	if !ok {
		c.t.Fatalf("no counters of the %s of version %s", stage, version)
	}
	c.t.Logf("version %s, %s: %s", version, stage, s.Over)
	if len(s.Classes) > 0 {
		var b strings.Builder
		for _, k := range s.Classes[:min(len(s.Classes), 3)] {
			fmt.Fprintf(&b, "  %s: %d of %d", k.Label, k.Differ, k.Samples)
		}
		for _, p := range s.Pairs[:min(len(s.Pairs), 3)] {
			fmt.Fprintf(&b, "  %s for %s: %d", p.Beside, p.Live, p.Samples)
		}
		c.t.Logf("  they differ most in%s", b.String())
	}
	return s
}

// A version trained on a tenth of what the live one learned from is withdrawn in
// the shadow, before it answered anybody; one trained on more goes through
// shadow and canary to all cameras. The rules decide by labels that arrive later.
func TestShadowOnDigits(t *testing.T) {
	data := testkit.Cached(t, "mnist/data")
	images, test := filepath.Join(data, "train-images-idx3-ubyte"), filepath.Join(data, "t10k-images-idx3-ubyte")
	trained := func(samples, epochs int) (string, float64) {
		t.Helper()
		return learned(t, "--data", images, "--test", test, "--val", "0", "--epochs", fmt.Sprint(epochs), "--rate", "0.003", "--schedule", "cosine", "--samples", fmt.Sprint(samples))
	}
	samples, most, epochs := 3000, 10_000, 2
	shadow, canary, after := 400, 200, 500
	if long() {
		samples, most, epochs = 6000, 0, 3
		shadow, canary, after = 5000, 2000, 10_000
	}
	live, liveRight := trained(samples, 2)
	tenth, tenthRight := trained(samples/10, 2)
	better, betterRight := trained(most, epochs)
	if tenthRight > liveRight-0.05 || betterRight < liveRight+0.02 {
		t.Fatalf("the versions have %v, %v and %v right", liveRight, tenthRight, betterRight)
	}
	d, err := train.LoadIDX(test, strings.Replace(test, "images-idx3", "labels-idx1", 1))
	if err != nil {
		t.Fatal(err)
	}
	c := &cameras{t: t, by: map[string][2]int{}, stages: map[string]stageMsg{}, last: map[string]string{}, more: make(chan struct{})}
	for i, l := range d.Labels[:9999] { // so that each camera sees all of them in time
		var b bytes.Buffer
		if err := png.Encode(&b, &image.Gray{Pix: d.Pixels[i*784 : (i+1)*784], Stride: 28, Rect: image.Rect(0, 0, 28, 28)}); err != nil {
			t.Fatal(err)
		}
		c.frames, c.labels = append(c.frames, b.Bytes()), append(c.labels, int(l))
	}
	dir, broker := t.TempDir(), testkit.FreeAddr(t)
	config := write(t, dir, "gateway.yaml", fmt.Sprintf(`
gateway: hall-7
data: %s/data
broker: {listeners: [{tcp: %q}]}
dashboard: {listen: ""}
models:
  digits: {file: %q, output: classes, top: 1, delegate: builtin}
streams:
  look: {topics: [camera/+], input: {image: auto}, model: digits}
rollout:
  preflight: {eager: true} # a busy machine lets nothing idle run
  models:
    digits:
      shadow:
        share: 0.5
        keep: 100
        promote: samples >= %[4]d && labels >= %[4]d && accuracy >= live.accuracy + 0.01 && agreement > 0.8
        withdraw: samples >= %[4]d && labels >= %[4]d && accuracy < live.accuracy - 0.03
      canary:
        share: 0.3
        promote: labels >= %[5]d && accuracy >= live.accuracy && errors == 0
        withdraw: errors > 0 || labels >= %[5]d && accuracy < live.accuracy - 0.05
      labels: {topic: inspection/+}
`, dir, broker, live, shadow, canary))
	p := start(t, "run", "--config", config)
	p.Line(` ready `)
	stop := c.begin("tcp://" + broker)
	for version, file := range map[string]string{"1": tenth, "2": better} {
		done(t, "", "model", "add", "--config", config, "--name", "digits@"+version, file)
	}

	done(t, "", "model", "activate", "--rollout", "--config", config, "digits@1")
	step, why := c.step("1", "withdrawn", "canary", "live", "failed")
	if step != "withdrawn" || !strings.Contains(why, "withdrawn by its rule samples >= ") {
		t.Fatalf("version 1: %s, %s", step, why)
	}
	s := c.tell("shadow", "1")
	if s.Samples < shadow || s.Accuracy > s.Live.Accuracy-0.03 || s.Agreement > 0.95 || s.Live.Samples < s.Samples {
		t.Errorf("%+v", s)
	}
	if _, n := c.answered("1"); n > 0 {
		t.Errorf("version 1 answered %d times", n)
	}

	done(t, "", "model", "activate", "--rollout", "--config", config, "digits@2")
	for _, want := range []string{"canary", "live"} {
		if step, why := c.step("2", want, "withdrawn", "failed"); step != want {
			t.Fatalf("version 2: %s, %s", step, why)
		}
	}
	if s := c.tell("shadow", "2"); s.Samples < shadow || s.Accuracy < s.Live.Accuracy+0.01 {
		t.Errorf("%+v", s)
	}
	if s := c.tell("canary", "2"); s.Labels < canary || s.Live.Samples == 0 {
		t.Errorf("%+v", s)
	}
	_, before := c.answered("2")
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, n := c.answered("2"); n >= before+after {
			break
		}
		if time.Now().After(end) {
			t.Fatal("version 2 does not answer")
		}
	}
	stop()
	right, all := c.answered("2")
	wasRight, was := c.answered("")
	t.Logf("the first version answered %d digits, %.2f %% right; version 2 %d, %.2f %%", was, 100*float64(wasRight)/float64(was), all, 100*float64(right)/float64(all))
	if long() && float64(right)/float64(all) < float64(wasRight)/float64(was) {
		t.Errorf("%d of %d right, before %d of %d", right, all, wasRight, was)
	}
	var sets []struct {
		Name    string
		Samples int
	}
	if err := json.Unmarshal([]byte(done(t, "", "dataset", "list", "--json", "--data", filepath.Join(dir, "data"))), &sets); err != nil || len(sets) != 1 || sets[0].Name != "look.differ" || sets[0].Samples == 0 || sets[0].Samples > 100 {
		t.Errorf("%+v, %v", sets, err)
	}
	interrupt(t, p)
}
