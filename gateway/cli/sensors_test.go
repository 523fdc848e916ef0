package cli_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/train"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// The three public tables of docs/workshop.md, by the commands and the gateway
// that stand there: trained, judged, deployed, and replayed by the real client.
// What the gateway says of each row is what the model says of it.
func TestSensors(t *testing.T) {
	dir := t.TempDir()
	doc := section(t, "Sensors")
	net := after(t, doc, "`machine.net.yaml`", regexp.MustCompile(`(?m)^    (layers:\n(?:      .*\n)+)`))
	write(t, dir, "machine.net.yaml", strings.ReplaceAll(net, "\n      ", "\n  "))
	shared := func(name string) string { return testkit.Shared(t, "data/"+name) }
	metrics := map[string]*figures{}
	for _, line := range regexp.MustCompile(`(?m)^    edgegateway (train .*)$`).FindAllStringSubmatch(doc, -1) {
		var args []string
		for _, w := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line[1], -1) {
			switch w = strings.Trim(w, `"`); filepath.Ext(w) {
			case ".csv":
				w = shared(w)
			case ".yaml", ".tflite":
				w = filepath.Join(dir, w)
			}
			args = append(args, w)
		}
		out := args[len(args)-1]
		done(t, "", args...)
		name := strings.TrimSuffix(filepath.Base(out), ".tflite")
		metrics[name] = readFigures(t, out)
		info, err := os.Stat(out)
		if err != nil || info.Size() >= 20_000 {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), err)
		}
		m := metrics[name]
		t.Logf("%s: %d bytes, %+v, baseline %+v, alert %+v", name, info.Size(), m.Test, m.Test.Baseline, m.Alert)
	}
	if len(metrics) != 4 {
		t.Fatalf("%d train commands", len(metrics))
	}
	room, dark, mill, machine := metrics["room"], metrics["dark"], metrics["mill"], metrics["machine"]
	if b := room.Test.Baseline; room.Test.Samples != 2665 || room.Test.Top1 < 0.97 || b.Rule != "Light above 365.1" || math.Abs(b.Top1-2608./2665) > 1e-9 {
		t.Errorf("occupancy: %+v beside %+v", room.Test, b)
	}
	if b := dark.Test.Baseline; dark.Test.Top1 < 0.6 || dark.Test.Top1 > room.Test.Top1 || !strings.HasPrefix(b.Rule, "CO2") {
		t.Errorf("without light: %+v beside %+v", dark.Test, b)
	}
	if mill.Test.Samples != 2000 || mill.Test.AUC < 0.95 || mill.Test.AUC < mill.Test.Baseline.AUC {
		t.Errorf("failures: %+v beside %+v", mill.Test, mill.Test.Baseline)
	}

	// The gateway as it is told there, with the threshold of this training.
	block := after(t, doc, "the gateway:", regexp.MustCompile("(?s)```yaml\n(.*?)```"))
	block = regexp.MustCompile(`score > [\d.]+`).ReplaceAllString(block, fmt.Sprintf("score > %g", machine.Alert.When))
	block = regexp.MustCompile(`score < [\d.]+`).ReplaceAllString(block, fmt.Sprintf("score < %g", machine.Alert.Clear))
	broker := testkit.FreeAddr(t)
	config := write(t, dir, "gateway.yaml", block+fmt.Sprintf("data: %s/data\nbroker: {listeners: [{tcp: %q}]}\ndashboard: {listen: \"\"}\n", dir, broker))
	start(t, "run", "--config", config).Line(` ready `)

	t.Run("occupancy", func(t *testing.T) {
		rows := table(t, shared("occupancy_test.csv"))
		want := modelled(t, filepath.Join(dir, "room.tflite"), numbers(t, rows, 2, 7))
		right := 0
		for i, r := range replayed(t, broker, "room/office", shared("occupancy_test.csv"), len(want)) {
			r.is(t, i, want[i])
			if r.Label == rows[i][7] {
				right++
			}
		}
		if got := float64(right) / float64(len(rows)); math.Abs(got-room.Test.Top1) > 0.001 {
			t.Errorf("%.4f right over MQTT, %.4f by the command", got, room.Test.Top1)
		}
	})
	t.Run("failures", func(t *testing.T) {
		rows := table(t, shared("ai4i2020.csv"))
		inputs := numbers(t, rows, 3, 8)
		for i, r := range rows {
			kind := []float64{0, 0, 0}
			kind[strings.Index("HLM", r[2])] = 1
			inputs[i] = append(kind, inputs[i]...)
		}
		want := modelled(t, filepath.Join(dir, "mill.tflite"), inputs)
		for i, r := range replayed(t, broker, "mill/3", shared("ai4i2020.csv"), len(want)) {
			r.is(t, i, want[i])
		}
	})
	t.Run("machine temperature", func(t *testing.T) {
		file := shared("machine_temperature_system_failure.csv")
		rows := table(t, file)
		var inputs [][]float64
		var times []time.Time
		all := numbers(t, rows, 1, 2)
		from := 0 // where the clock went back by an hour the window begins anew
		for i := range rows {
			at, ok := train.ParseTime(rows[i][0])
			if !ok {
				t.Fatal(rows[i])
			}
			if i > 0 {
				if last, _ := train.ParseTime(rows[i-1][0]); at.Before(last) {
					from = i
				}
			}
			if i-from >= 71 {
				inputs, times = append(inputs, slices.Concat(all[i-71:i+1]...)), append(times, at)
			}
		}
		if len(inputs) != 22695-2*71 {
			t.Fatalf("%d windows", len(inputs))
		}
		conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: "alerts"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		alerts := newInbox(t, conn, "alerts/#")
		want := modelled(t, filepath.Join(dir, "machine.tflite"), inputs)
		results := replayed(t, broker, "machine/7", file, len(want))
		for i, r := range results {
			if d := math.Abs(r.Score - want[i].error); d > 1e-3*want[i].error+1e-6 || !r.Time.Equal(times[i]) {
				t.Fatalf("window %d of %v: error %v, the model's %v of %v", i, r.Time, r.Score, want[i].error, times[i])
			}
		}
		// A day that no machine has ever seen ends the count.
		var end strings.Builder
		for i := range 288 {
			fmt.Fprintf(&end, "\n%s,%d", times[len(times)-1].Add(time.Duration(i+1)*5*time.Minute).Format(time.DateTime), 95+5*max(0, i-144))
		}
		done(t, "", "replay", "machine/7", write(t, dir, "end.csv", end.String()[1:]), "--quiet", "--broker", "tcp://"+broker)
		found, wrong := alarms(t, alerts, anomalies(t, shared("nab_windows.json")), times[len(times)-1])
		months := times[len(times)-1].Sub(time.Date(2013, 12, 10, 0, 0, 0, 0, time.UTC)).Hours() / 24 / 30.4
		t.Logf("%d of 4 anomalies found, %d false alarms in the %.2f months behind the training: %v", len(found), len(wrong), months, wrong)
		if len(found) < 3 || float64(len(wrong)) > 5*months {
			t.Errorf("found %v, false alarms at %v", found, wrong)
		}
	})
}

// figures is what a metrics file holds.
type figures struct {
	Test struct {
		Samples       int
		Top1, AUC, PR float64
		MAE, RMSE, R2 float64
		Persistence   float64 `json:"persistence_mae"`
		Baseline      *struct {
			Rule      string
			Top1, AUC float64
		}
	}
	Alert *struct {
		When  float64 `json:"when_above"`
		Clear float64 `json:"clear_below"`
	}
	History []struct{ Loss, Accuracy float64 }
}

func readFigures(t *testing.T, out string) *figures {
	t.Helper()
	b, err := os.ReadFile(strings.TrimSuffix(out, ".tflite") + ".metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	m := &figures{}
	if err := json.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// section is one of docs/workshop.md.
func section(t *testing.T, title string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testkit.Root(t), "docs", "workshop.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## "+title+"\n")
	if !ok {
		t.Fatalf("docs/workshop.md has no section %s", title)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// after is what a pattern's brackets hold, behind a text.
func after(t *testing.T, doc, what string, pattern *regexp.Regexp) string {
	t.Helper()
	_, rest, ok := strings.Cut(doc, what)
	m := pattern.FindStringSubmatch(rest)
	if !ok || m == nil {
		t.Fatalf("nothing like %v behind %q", pattern, what)
	}
	return m[1]
}

// table is the rows of a CSV file without its header; R's row numbers stay out.
func table(t *testing.T, path string) [][]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(strings.NewReader(string(b)))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

// numbers are the fields from one on and before another.
func numbers(t *testing.T, rows [][]string, from, to int) [][]float64 {
	t.Helper()
	list := make([][]float64, len(rows))
	for i, r := range rows {
		for _, f := range r[from:to] {
			v, err := strconv.ParseFloat(f, 64)
			if err != nil {
				t.Fatal(err)
			}
			list[i] = append(list[i], v)
		}
	}
	return list
}

// answer is what a model says of a row: its classes, and for an autoencoder the
// mean squared error.
type answer struct {
	out   []float64
	error float64
}

// modelled runs a model on rows, without any gateway.
func modelled(t *testing.T, path string, rows [][]float64) []answer {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := infer.OpenSession(file, "builtin", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list := make([]answer, len(rows))
	for i, row := range rows {
		if err := s.In[0].SetFloats(row); err != nil {
			t.Fatal(err)
		}
		if err := s.Invoke(); err != nil {
			t.Fatal(err)
		}
		list[i].out = s.Out[0].Floats(nil)
		if len(list[i].out) == len(row) {
			for k, v := range list[i].out {
				d := v - float64(float32(row[k]))
				list[i].error += d * d / float64(len(row))
			}
		}
	}
	return list
}

// said is a result that a gateway published.
type said struct {
	Time  time.Time
	Seq   int
	Label string
	Score float64
}

// is holds the result of row i against what the model says.
func (s said) is(t *testing.T, i int, want answer) {
	t.Helper()
	best := 0
	for k, v := range want.out {
		if v > want.out[best] {
			best = k
		}
	}
	if math.Abs(s.Score-want.out[best]) > 1e-4 || s.Label != strconv.Itoa(best) && math.Abs(s.Score-0.5) > 1e-4 {
		t.Fatalf("row %d: %+v, the model says %v", i, s, want.out)
	}
}

// replayed publishes the rows of a file by the real client and gives the
// results in their order.
func replayed(t *testing.T, broker, topic, file string, n int) []said {
	t.Helper()
	conn, err := link.Connect(t.Context(), link.Config{URL: "tcp://" + broker, ClientID: "results"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	results := newInbox(t, conn, "results/#")
	client := start(t, "replay", topic, file, "--skip", "1", "--quiet", "--broker", "tcp://"+broker)
	list := make([]said, n)
	for i := range list {
		if err := json.Unmarshal(results.next().Payload, &list[i]); err != nil {
			t.Fatal(err)
		}
		if i > 0 && list[i].Seq <= list[i-1].Seq {
			t.Fatalf("result %d is %+v, behind %+v", i, list[i], list[i-1])
		}
	}
	if code := client.Exit(); code != 0 {
		t.Fatalf("replay: exit code %d", code)
	}
	return list
}

// anomalies are NAB's windows of the machine temperature.
func anomalies(t *testing.T, path string) (list [][2]time.Time) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][][2]string
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, w := range all["realKnownCause/machine_temperature_system_failure.csv"] {
		var of [2]time.Time
		for k, text := range w {
			if of[k], err = time.Parse("2006-01-02 15:04:05.000000", text); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, of)
	}
	if len(list) != 4 {
		t.Fatalf("%d windows", len(list))
	}
	return list
}

// alarms takes the alerts that were raised up to a time and says which windows
// they are in, and the times of those that are in none. It ends with the first
// one of a later time.
func alarms(t *testing.T, in *inbox, windows [][2]time.Time, last time.Time) (found map[int]bool, wrong []time.Time) {
	t.Helper()
	found = map[int]bool{}
	for {
		var e struct {
			State  string
			Result struct{ Time time.Time }
		}
		if err := json.Unmarshal(in.next().Payload, &e); err != nil {
			t.Fatal(err)
		}
		at, hit := e.Result.Time, false
		if e.State != "raised" {
			continue
		}
		if at.After(last) {
			return found, wrong
		}
		for i, w := range windows {
			if !at.Before(w[0]) && !at.After(w[1]) {
				found[i], hit = true, true
			}
		}
		if !hit {
			wrong = append(wrong, at)
		}
	}
}
