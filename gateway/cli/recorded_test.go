package cli_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"edgegateway/gateway/dataset"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// A stream records windows of a vibration with the labels that the machine
// sends; train and evaluate take the set where it lies, while the gateway runs;
// the model goes to the same stream by a reload and answers for the same
// features as it was trained on.
func TestTrainOnRecordedStream(t *testing.T) {
	dir, broker := t.TempDir(), testkit.FreeAddr(t)
	stream := `
  press:
    topics: [press/+]
    input: {json: ["samples[*]"], channels: [v], rate: 1000, time: at}
    window: {size: "64", every: "16", gap: 1s}
    features: [rms, crest, kurtosis]
    record: {label: {topic: state/+}}
`
	head := fmt.Sprintf("gateway: hall-7\ndata: %s/data\nbroker: {listeners: [{tcp: %q}]}\ndashboard: {listen: %q}\n", dir, broker, testkit.FreeAddr(t))
	config := write(t, dir, "gateway.yaml", head+"streams:"+stream)
	start(t, "run", "--config", config).Line(` ready `)
	conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: "press"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(topic, payload string) {
		t.Helper()
		if err := conn.Publish(t.Context(), link.Msg{Topic: topic, Payload: []byte(payload), QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	hour := 0
	// A minute of one state: noise, and where the bearing is damaged a knock now
	// and then that a window of 64 holds two of.
	minute := func(state string, messages int) {
		send("state/7", state)
		hour++
		for m := range messages {
			v := make([]string, 16)
			for i := range v {
				x := r.NormFloat64()
				if state == "damaged" && (16*m+i)%32 == 5 {
					x += 8
				}
				v[i] = fmt.Sprintf("%.4f", x)
			}
			send("press/7", fmt.Sprintf(`{"at":%d.%03d,"samples":[%s]}`, 1_700_000_000+3600*hour+16*m/1000, 16*m%1000, strings.Join(v, ",")))
		}
	}
	for range 3 {
		minute("good", 60)
		minute("damaged", 60)
	}
	set := dataset.Dir(filepath.Join(dir, "data"), "press")
	for in, err := dataset.Look(set); err != nil || in.Samples < 6*57; in, err = dataset.Look(set) {
		if t.Context().Err() != nil {
			t.Fatalf("%+v %v", in, err)
		}
	}

	model := filepath.Join(dir, "press.tflite")
	said := done(t, "", "train", "--data", set, "--epochs", "40", "--out", model)
	m := readFigures(t, model)
	if m.Test.Top1 < 0.95 || m.Test.Baseline == nil || !regexp.MustCompile(`(?m)^[1-9]\d* windows left out`).MatchString(said) {
		t.Errorf("%+v\n%s", m.Test, said)
	}
	var judged []struct {
		Quality struct {
			Task    string
			Samples int
			Top1    float64
			Classes []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(done(t, "", "evaluate", "--no-latency", "--format", "json", "--data", set, model)), &judged); err != nil {
		t.Fatal(err)
	}
	if q := judged[0].Quality; q.Task != "classes" || q.Samples != 6*57 || q.Top1 < 0.95 || len(q.Classes) != 2 || q.Classes[0].Name != "damaged" {
		t.Errorf("%+v", q)
	}

	results := newInbox(t, conn, "results/press/#")
	write(t, dir, "gateway.yaml", head+"models: {press: {file: press.tflite}}\nstreams:"+stream+"    model: press\n")
	done(t, "", "reload", "--config", config)
	right, n := 0, 0
	for _, state := range []string{"good", "damaged"} {
		minute(state, 30)
		var features [][]float64
		var got []struct {
			Features         map[string]float64
			ID, Model, Label string
			Score            float64
		}
		for len(got) < 27 {
			got = append(got, struct {
				Features         map[string]float64
				ID, Model, Label string
				Score            float64
			}{})
			g := &got[len(got)-1]
			if err := json.Unmarshal(results.next().Payload, g); err != nil {
				t.Fatal(err)
			}
			features = append(features, []float64{g.Features["v.rms"], g.Features["v.crest"], g.Features["v.kurtosis"]})
		}
		for i, a := range modelled(t, model, features) {
			best, name := a.out[0], "damaged"
			if a.out[1] > best {
				best, name = a.out[1], "good"
			}
			if g := got[i]; g.Model != "press" || g.Label != name || math.Abs(g.Score-best) > 1e-4 {
				t.Fatalf("window %d: %+v, the model says %v", i, g, a.out)
			}
			if n++; name == state {
				right++
			}
		}
	}
	if right*10 < n*9 {
		t.Errorf("%d of %d right in the gateway", right, n)
	}
	if _, err := os.Stat(set); err != nil {
		t.Error(err)
	}
}
