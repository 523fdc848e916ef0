package cli

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"edgegateway/fl"
	"edgegateway/gateway/app"
	"edgegateway/infer/model"
	"edgegateway/infer/store"
	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// outcome is what a gateway says of the last model of a task.
func (e *flEdge) outcome(s app.Status, task string) (o fl.Outcome) {
	if s.FL != nil {
		for _, t := range s.FL.Tasks {
			if t.Task == task && t.Model != nil {
				o = *t.Model
			}
		}
	}
	return o
}

// reported waits until the coordinator heard what became of its model.
func flReported(t *testing.T, now func() fl.Status, state string) (r fl.Report) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s := now()
		if len(s.Gateways) == 1 && s.Gateways[0].Report != nil {
			if r = *s.Gateways[0].Report; r.State == state {
				return r
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the coordinator does not hear that its model is %s: %+v", state, s)
		}
	}
}

// flParams are the weights of a .tflite.
func flParams(t *testing.T, file []byte) []*train.Param {
	t.Helper()
	m, err := model.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := train.From(m)
	if err != nil {
		t.Fatal(err)
	}
	return n.Params()
}

// rightAtFirst is the share of what feed publishes that the weights are right on
// with which a task begins.
func (e *flEdge) rightAtFirst(task *fl.Task) float64 {
	e.t.Helper()
	n, err := task.Network()
	if err != nil {
		e.t.Fatal(err)
	}
	right := 0
	for i := range flSamples {
		x := make([]float32, 6)
		for k := range x {
			x[k] = float32(float64(i%2)*0.6 + e.secret(6*i+k))
		}
		if y := n.Predict(x, 1); (y[1] > y[0]) == (i%2 == 1) {
			right++
		}
	}
	return float64(right) / flSamples
}

// A second task makes a worse model: it is refused with its figures, here and at
// the coordinator, and the one that the first task made goes on.
func TestGatewayRefusesWorse(t *testing.T) {
	good := edgeTask(1)
	good.Cohort.Quorum, good.Cohort.WaitFor = 1, 1
	worse := good
	worse.Name, worse.Local.Epochs, worse.Local.Optimizer.Rate = "stuck", 1, 1e-7
	addr := testkit.Mosquitto(t, "max_queued_messages 0")
	_, trusted, boss := edgeKeys(t, t.TempDir(), "boss")
	e, public := newFLEdge(t, "north", addr, trusted, &good, "")
	keys := fl.KeyMap{"north": public}
	for worse.Seed++; e.rightAtFirst(&worse) > 0.6; worse.Seed++ {
	}
	e.begin()
	e.feed(flSamples)
	_, now, stop := flLead(t, addr, good, boss, keys)
	e.until("live model", func(s app.Status) bool { return e.outcome(s, "rings").State == "live" })
	flReported(t, now, "live")
	stop()
	_, now, _ = flLead(t, addr, worse, boss, keys)
	e.until("refusal", func(s app.Status) bool { return e.outcome(s, "stuck").State == "refused" })
	r := flReported(t, now, "refused")
	if !strings.Contains(r.Why, "the model in use on ") || r.New.Samples < 10 || r.New.Samples != r.Old.Samples || r.New.Accuracy >= r.Old.Accuracy {
		t.Errorf("%+v", r)
	}
	before := e.status().Streams[0].Results
	e.feed(10)
	e.until("answers of version 1", func(s app.Status) bool {
		return len(s.Models) == 1 && s.Models[0].Version == "1" && s.Streams[0].Results >= before+10
	})
	s, err := store.Open(store.Dir(filepath.Join(e.dir, "data")), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	st, err := s.State()
	if err != nil || len(st.Models["m"].Versions) != 2 || st.Models["m"].Live != "1" {
		t.Fatalf("%+v, %v", st.Models["m"], err)
	}
	if why := st.Models["m"].Find("1").Why; !regexp.MustCompile(`^round 1 of task rings: right on \d+\.\d\d % of \d\d+ samples held out here`).MatchString(why) {
		t.Errorf("version 1 is live for %q", why)
	}
}

// A task that begins from the .tflite in use learns its last layer on digits that
// come as pictures over MQTT; what it makes begins in the shadow.
func TestGatewayLearnsPictures(t *testing.T) {
	data := testkit.Cached(t, "mnist/data")
	d, err := train.LoadIDX(filepath.Join(data, "t10k-images-idx3-ubyte"), filepath.Join(data, "t10k-labels-idx1-ubyte"))
	if err != nil {
		t.Fatal(err)
	}
	const samples = 300
	task := edgeTask(2)
	task.Name, task.Model.Preset, task.Model.Input, task.Model.Classes = "digits", "", train.Shape{28, 28, 1}, d.Classes
	task.Model.Network.Layers = []train.LayerSpec{{Type: "conv2d", Filters: 8, Kernel: 5, Stride: 3, Activation: "relu"}, {Type: "flatten"}, {Type: "dense", Activation: "softmax"}}
	task.Cohort.Quorum, task.Cohort.WaitFor, task.Data.Minimum = 1, 1, samples
	task.Local.Epochs, task.Local.Optimizer.Rate, task.Publish.Quantize = 5, 0.03, "none"
	task.Model.Data = flFirst(t, &task)
	task.Model.File, task.Model.Sum, task.Model.Train, task.Model.Network = "digits.tflite", sha256.Sum256(task.Model.Data), "head", train.Spec{}
	addr := testkit.Mosquitto(t, "max_queued_messages 0")
	_, trusted, boss := edgeKeys(t, t.TempDir(), "boss")
	e, public := newFLEdge(t, "north", addr, trusted, &task, "")
	text, err := os.ReadFile(e.file)
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("{json: [a, b, c, d, e, f]}", "{image: auto}", "rollout: {", `rollout: {models: {m: {shadow: {promote: ""}}}, `).Replace(string(text))
	if err := os.WriteFile(e.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	e.begin()
	c, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + e.local, ClientID: "camera", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for k, class := range d.Classes {
		if err := c.Publish(t.Context(), link.Msg{Topic: fmt.Sprint("labels/", k), Payload: []byte(class), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	show := func(i int) {
		t.Helper()
		var b bytes.Buffer
		if err := png.Encode(&b, &image.Gray{Pix: d.Pixels[i*784 : (i+1)*784], Stride: 28, Rect: image.Rect(0, 0, 28, 28)}); err != nil {
			t.Fatal(err)
		}
		if err := c.Publish(t.Context(), link.Msg{Topic: fmt.Sprint("x/", d.Labels[i]), Payload: b.Bytes(), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range samples {
		show(i)
	}
	_, now, _ := flLead(t, addr, task, boss, fl.KeyMap{"north": public})
	s, err := store.Open(store.Dir(filepath.Join(e.dir, "data")), store.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	e.until("version in the shadow", func(app.Status) bool {
		st, err := s.State()
		v := st.Models["m"].Find("1")
		return err == nil && v != nil && v.Stage == store.Shadow
	})
	if o := e.outcome(e.status(), "digits"); o.State != "trying" {
		t.Errorf("in the shadow: %+v", o)
	}
	// The head alone was learned.
	f, err := s.Files("m", "1")
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadFile(f.Model)
	if err != nil {
		t.Fatal(err)
	}
	one, two := flParams(t, task.Model.Data), flParams(t, made)
	if len(one) != len(two) || len(one) < 4 {
		t.Fatalf("%d arrays became %d", len(one), len(two))
	}
	for i, p := range one {
		if head := i >= len(one)-2; slices.Equal(p.W, two[i].W) == head {
			t.Errorf("%s: learned %v", p.Name, !head)
		}
	}
	// A person takes it on.
	if err := s.Want("m", store.Want{Version: "1", Do: store.DoActivate, Force: true, By: "test"}); err != nil {
		t.Fatal(err)
	}
	r := flReported(t, now, "live")
	if r.New.Samples < 10 || r.New.Accuracy < 0.5 || r.Old.Samples != r.New.Samples || r.New.Accuracy <= r.Old.Accuracy {
		t.Errorf("%+v", r)
	}
	e.until("answers of version 1", func(s app.Status) bool { return len(s.Models) == 1 && s.Models[0].Version == "1" })
}
