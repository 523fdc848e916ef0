package cli_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model"
	"edgegateway/internal/testkit"
)

// A model of a reading's presence, clustered: what is written has so few values,
// is judged beside the one before, and says what it says as JSON too.
func TestCluster(t *testing.T) {
	dir := t.TempDir()
	data := testkit.Shared(t, "data/occupancy_train.csv")
	float, out := filepath.Join(dir, "room.tflite"), filepath.Join(dir, "room-clustered.tflite")
	done(t, "", "train", "--data", data, "--target", "Occupancy", "--samples", "1000", "--epochs", "3", "--out", float)
	said := done(t, "", "cluster", float, "--clusters", "8", "--data", data, "--target", "Occupancy", "--samples", "500")
	for _, want := range []string{"FULLY_CONNECTED  1_dense_1/weights ", "packed ", out + ": ", "zipped", "before: ", "after:  ", "% right", "of 500 samples"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	var size, was, zipped, zippedWas, packed, packedWas int
	var zips, packs float64
	_, last, _ := strings.Cut(said, out+": ")
	if n, err := fmt.Sscanf(last, "%d bytes, before %d; zipped %d, before %d (%f times); packed %d, before %d (%f times)", &size, &was, &zipped, &zippedWas, &zips, &packed, &packedWas, &packs); n != 8 ||
		math.Abs(zips-float64(zippedWas)/float64(zipped)) > 0.051 || math.Abs(packs-float64(packedWas)/float64(packed)) > 0.051 {
		t.Errorf("%v: %s", err, last)
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	layers := 0
	for _, op := range m.Main().Ops {
		if op.Code != "FULLY_CONNECTED" {
			continue
		}
		layers++
		v, err := m.Main().Tensors[op.Inputs[1]].Floats()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[float32]bool{}
		for _, x := range v {
			seen[x] = true
		}
		if len(seen) > 8 || len(seen) < 2 {
			t.Errorf("a layer has %d values", len(seen))
		}
	}
	if layers != 2 {
		t.Errorf("%d dense layers", layers)
	}
	// Trained further it says each epoch, and is judged by the other half.
	trained := run(t, "", "cluster", float, "--clusters", "3", "--data", data, "--target", "Occupancy", "--samples", "800", "--epochs", "3", "--out", filepath.Join(dir, "t.tflite"))
	if trained.code != 0 || !strings.Contains(trained.stderr, "epoch 3 of 3") || !strings.Contains(trained.stdout, "of 400 samples") {
		t.Errorf("%+v", trained)
	}
	trained = run(t, "", "cluster", float, "--clusters", "3", "--data", data, "--target", "Occupancy", "--samples", "400", "--test", testkit.Shared(t, "data/occupancy_test.csv"), "--epochs", "2", "--unlabelled", "--out", filepath.Join(dir, "u.tflite"))
	if trained.code != 0 || !strings.Contains(trained.stdout, "of 2665 samples") {
		t.Errorf("%+v", trained)
	}
	var doc struct {
		Out     string
		Layers  []struct{ Weights, Values int }
		MadeUp  bool `json:"made_up"`
		Quality []map[string]any
	}
	text := done(t, "", "cluster", float, "--clusters", "4", "--per-channel", "--method", "optimal", "--json", "--out", filepath.Join(dir, "b.tflite"))
	if err := json.Unmarshal([]byte(text), &doc); err != nil || len(doc.Layers) != 2 || !doc.MadeUp || doc.Layers[0].Values < 5 {
		t.Errorf("%v: %s", err, text)
	}
	if said := done(t, "", "cluster", float, "--clusters", "4", "--biases", "8", "--out", filepath.Join(dir, "e.tflite")); !strings.Contains(said, " biases have ") {
		t.Error(said)
	}
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"cluster", "takes MODEL", 2},
		{"cluster " + float + " --clusters 1", "clusters: 1 is outside", 2},
		{"cluster " + float + " --biases 1", "--biases: clusters: 1 is outside", 2},
		{"cluster " + float + " --method best", `"best" is none of`, 2},
		{"cluster " + float + " --epochs 2", "--epochs trains on --data", 2},
		{"cluster " + float + " --epochs -2 --data " + data, "epochs: -2 is outside", 2},
		{"cluster " + float + " --out " + float, "is the model itself", 2},
		{"cluster " + dir + "/gone.tflite", "no such file", 3},
		{"cluster " + testkit.Shared(t, "models/vww_96_int8.tflite") + " --out " + dir + "/c.tflite", "give the float model", 3},
	} {
		if r := run(t, "", strings.Fields(c.args)...); r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: code %d, %s", c.args, r.code, r.stderr)
		}
	}
}
