package cli_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// judged runs evaluate and gives what it says of the quality of one model.
func judged(t *testing.T, args ...string) (q map[string]float64, task string) {
	t.Helper()
	var list []struct{ Quality map[string]any }
	if err := json.Unmarshal([]byte(done(t, "", append([]string{"evaluate", "--no-latency", "--format", "json"}, args...)...)), &list); err != nil {
		t.Fatal(err)
	}
	q = map[string]float64{}
	for k, v := range list[0].Quality {
		if f, ok := v.(float64); ok {
			q[k] = f
		}
	}
	task, _ = list[0].Quality["task"].(string)
	return q, task
}

func near(t *testing.T, q map[string]float64, name string, want float64) {
	t.Helper()
	if got, ok := q[name]; !ok || math.Abs(got-want) > 1e-4*math.Max(1e-2, math.Abs(want)) {
		t.Errorf("%s: %v, by hand %v", name, got, want)
	}
}

// A table of values: the errors are those of the model's own answers, and it
// has learned the law that the table follows.
func TestEvaluateRegression(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(5, 6))
	text := "a,b,y\n"
	var in [][]float64
	var want []float64
	for range 600 {
		a, b := 10*r.Float64(), 100+50*r.Float64()
		y := 3*a - b/10 + 0.1*r.NormFloat64()
		text += fmt.Sprintf("%v,%v,%v\n", float32(a), float32(b), float32(y))
		in, want = append(in, []float64{a, b}), append(want, y)
	}
	data, model := write(t, dir, "t.csv", text), filepath.Join(dir, "m.tflite")
	done(t, "", "train", "--data", data, "--target", "y", "--network", "forecast", "--epochs", "30", "--out", model)
	if m := readFigures(t, model); m.Test.R2 < 0.98 || m.Test.MAE <= 0 {
		t.Errorf("of what was held out: %+v", m.Test)
	}
	q, task := judged(t, "--data", data, "--target", "y", model)
	abs, sq, mean, spread := 0.0, 0.0, 0.0, 0.0
	for _, y := range want {
		mean += y / 600
	}
	for i, a := range modelled(t, model, in) {
		abs += math.Abs(a.out[0]-want[i]) / 600
		sq += (a.out[0] - want[i]) * (a.out[0] - want[i])
		spread += (want[i] - mean) * (want[i] - mean)
	}
	near(t, q, "mae", abs)
	near(t, q, "rmse", math.Sqrt(sq/600))
	near(t, q, "r2", 1-sq/spread)
	if task != "regression" || q["r2"] < 0.98 {
		t.Errorf("%s %v", task, q)
	}
	if out := done(t, "", "evaluate", "--no-latency", "--format", "markdown", "--data", data, "--target", "y", model); !strings.Contains(out, "| MAE | RMSE | R2 |") {
		t.Error(out)
	}
}

// A forecast of two channels is judged beside saying that nothing changes.
func TestEvaluateForecast(t *testing.T) {
	dir := t.TempDir()
	text := "time,a,b\n"
	var rows [][]float64
	for i := range 700 {
		row := []float64{20 + 5*math.Sin(float64(i)/7), 100 + 30*math.Cos(float64(i)/11)}
		rows = append(rows, row)
		text += fmt.Sprintf("2026-01-02 %02d:%02d:00,%v,%v\n", i/60, i%60, float32(row[0]), float32(row[1]))
	}
	data, model := write(t, dir, "t.csv", text), filepath.Join(dir, "m.tflite")
	flags := []string{"--data", data, "--window", "12", "--ahead", "3"}
	said := done(t, "", append([]string{"train", "--network", "forecast", "--epochs", "25", "--by-time", "--out", model}, flags...)...)
	if !strings.Contains(said, "saying that nothing changes") {
		t.Error(said)
	}
	if m := readFigures(t, model); m.Test.MAE > m.Test.Persistence/2 {
		t.Errorf("of the latest: %+v", m.Test)
	}
	q, task := judged(t, append(flags, model)...)
	var in [][]float64
	for i := 0; i+15 <= len(rows); i++ {
		in = append(in, slices.Concat(rows[i:i+12]...))
	}
	abs, still := 0.0, 0.0
	for i, a := range modelled(t, model, in) {
		for k, want := range slices.Concat(rows[i+12 : i+15]...) {
			abs += math.Abs(a.out[k] - want)
			still += math.Abs(rows[i+11][k%2] - want)
		}
	}
	n := float64(6 * len(in))
	near(t, q, "mae", abs/n)
	near(t, q, "persistence_mae", still/n)
	if task != "forecast" || int(q["samples"]) != len(in) {
		t.Errorf("%s %v", task, q)
	}
}

// An autoencoder learns good rows; rows with labels say how well its error
// finds the bad ones. Which class is the bad one can be said.
func TestEvaluateReconstruction(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(7, 8))
	good := func() []float64 {
		a, b := r.NormFloat64(), r.NormFloat64()
		return []float64{a, b, a + b, a - b, 2 * a, b - 2*a}
	}
	line := func(v []float64, more string) string {
		s := ""
		for _, x := range v {
			s += fmt.Sprintf("%v,", float32(x))
		}
		return strings.TrimSuffix(s, ",") + more + "\n"
	}
	learn := "a,b,c,d,e,f\n"
	for range 800 {
		learn += line(good(), "")
	}
	test := "a,b,c,d,e,f,state\n"
	var in [][]float64
	var bad []bool
	for i := range 300 {
		v, state := good(), "ok"
		if i%5 == 0 {
			state = "broken"
			v[r.IntN(6)] += 0.7 * r.NormFloat64()
		}
		test += line(v, ","+state)
		in, bad = append(in, v), append(bad, state == "broken")
	}
	data, labelled, model := write(t, dir, "learn.csv", learn), write(t, dir, "test.csv", test), filepath.Join(dir, "m.tflite")
	net := write(t, dir, "net.yaml", "layers: [{type: dense, units: 2}, {type: dense}]")
	said := done(t, "", "train", "--data", data, "--network", net, "--epochs", "40", "--rate", "0.02", "--out", model)
	if m := readFigures(t, model); m.Alert == nil || m.Alert.When <= m.Alert.Clear || !strings.Contains(said, "when: score >") {
		t.Errorf("%+v\n%s", m.Alert, said)
	}
	q, task := judged(t, "--data", data, model)
	if task != "reconstruction" || q["auc"] != 0 {
		t.Errorf("without labels: %s %v", task, q)
	}
	// By hand: AUC is the share of pairs in order; average precision goes down
	// the list from the highest score.
	answers := modelled(t, model, in)
	pairs, above := 0.0, 0.0
	order := make([]int, len(in))
	for i := range in {
		order[i] = i
		for k := range in {
			if bad[i] && !bad[k] {
				pairs++
				if answers[i].error > answers[k].error {
					above++
				}
			}
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		if answers[a].error > answers[b].error {
			return -1
		}
		return 1
	})
	precision, hits := 0.0, 0.0
	for at, i := range order {
		if bad[i] {
			hits++
			precision += hits / float64(at+1)
		}
	}
	flags := []string{"--data", labelled, "--target", "state", "--task", "reconstruction"}
	q, _ = judged(t, append(flags, "--positive", "broken", model)...)
	near(t, q, "auc", above/pairs)
	near(t, q, "pr", precision/hits)
	if q["auc"] < 0.8 {
		t.Errorf("found badly: %v", q)
	}
	q, _ = judged(t, append(flags, model)...) // the second class is "ok"
	near(t, q, "auc", 1-above/pairs)
	if r := run(t, "", append([]string{"evaluate", "--no-latency", "--positive", "brokn"}, append(flags, model)...)...); r.code != 2 || !strings.Contains(r.stderr, "there are broken, ok") {
		t.Errorf("%+v", r)
	}
}
