package app

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgegateway/gateway/alert"
	"edgegateway/internal/link"
	"edgegateway/internal/testkit"
)

// dataSet is a file of readings as a sensor would send it.
type dataSet struct {
	file, stream, alert string
	column              int // of the value in a row
	over                func(v float64) bool
	n, of               int
}

// Rows of real data sets at full rate: each becomes a result or a counted
// drop, and an alert over its values is right to the row.
func TestDataSets(t *testing.T) {
	const config = `
streams:
  occupancy: {topics: [occupancy], input: {csv: {columns: [row, "-", temperature, humidity, light, co2, "-", "-"], values: [temperature, humidity, light, co2]}, seq: row}}
  ai4i: {topics: [ai4i], input: {csv: {columns: [row, "-", "-", air, process, speed, torque, wear, "-"], values: [air, process, speed, torque, wear]}, seq: row}}
  machine: {topics: [machine], input: {csv: {columns: ["-", value]}}}
alerts:
  light: {stream: occupancy, when: light > 400, for: 2 of 3}
  torque: {stream: ai4i, when: torque > 60}
  heat: {stream: machine, when: value > 95, for: 3 of 5}
`
	for _, d := range []dataSet{
		{"occupancy_test.csv", "occupancy", "light", 4, func(v float64) bool { return v > 400 }, 2, 3},
		{"ai4i2020.csv", "ai4i", "torque", 6, func(v float64) bool { return v > 60 }, 1, 1},
		{"machine_temperature_system_failure.csv", "machine", "heat", 1, func(v float64) bool { return v > 95 }, 3, 5},
	} {
		t.Run(d.stream, func(t *testing.T) {
			b, err := os.ReadFile(testkit.Shared(t, "data/"+d.file))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "\r", "")), "\n")[1:]
			// Some lines that are none come between the rows.
			var msgs []link.Msg
			broken := 0
			for i, line := range lines {
				msgs = append(msgs, link.Msg{Topic: d.stream, Payload: []byte(line), QoS: 1})
				if i%100 == 99 {
					broken++
					msgs = append(msgs, link.Msg{Topic: d.stream, Payload: []byte(line[:len(line)/3]), QoS: 1})
				}
			}
			cloud := begin(t, t.TempDir(), "cloud", "")
			results, alerts := cloud.tapped("gateways/edge/results/#"), cloud.tapped("gateways/edge/alerts/#")
			g := begin(t, t.TempDir(), "edge", config+cloudOf(cloud.url))
			if n, err := g.client("replay").Window(t.Context(), msgs); err != nil {
				t.Fatalf("%d acknowledged: %v", n, err)
			}
			until(t, "every row", func() bool {
				for _, s := range g.pipe.Status() {
					dropped := uint64(0)
					for _, n := range s.Drops {
						dropped += n
					}
					if s.Stream == d.stream && s.Results+dropped == uint64(len(msgs)) && int(dropped) == broken {
						return results.len() == len(lines)
					}
				}
				return false
			})
			want := d.changes(t, lines)
			until(t, "every change", func() bool { return alerts.len() >= len(want) })
			var got []string
			for _, m := range alerts.all() {
				e := decode[alert.Event](t, m.Payload)
				got = append(got, fmt.Sprint(e.State, " ", decode[result](t, e.Result).Seq))
			}
			if diff := cmp.Diff(want, got); diff != "" || len(want) < 10 {
				t.Errorf("%d changes: %s", len(want), diff)
			}
		})
	}
}

// changes is what the rule says of the rows, worked out from the file alone:
// raised at the row that makes n of the last of, cleared at the first one
// that is not over the bound.
func (d dataSet) changes(t *testing.T, lines []string) (list []string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(strings.Join(lines, "\n"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	since, raised := 0, false // since: rows before it count no more
	for i, row := range rows {
		over := func(k int) bool {
			v, err := strconv.ParseFloat(rows[k][d.column], 64)
			if err != nil {
				t.Fatal(err)
			}
			return d.over(v)
		}
		n := 0
		for k := max(since, i-d.of+1); k <= i; k++ {
			if over(k) {
				n++
			}
		}
		seq := fmt.Sprint(i + 1) // counted by the gateway
		if d.stream != "machine" {
			seq = row[0] // the row's own number
		}
		switch {
		case raised && !over(i):
			raised, since = false, i+1
			list = append(list, "cleared "+seq)
		case !raised && n >= d.n:
			raised = true
			list = append(list, "raised "+seq)
		}
	}
	return list
}
