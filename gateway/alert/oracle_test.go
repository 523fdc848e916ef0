package alert

import (
	"encoding/csv"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgegateway/internal/testkit"
)

func machineTemperature(t *testing.T) (values []float64) {
	t.Helper()
	f, err := os.Open(testkit.Shared(t, "data/machine_temperature_system_failure.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		v, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	return values
}

// turn is a state and the row that brought it.
type turn struct {
	row   int
	state string
}

// Alerts over real readings are right to the row. The oracle looks at whole
// rows, one a second, and keeps no state but the list itself.
func TestMachineTemperatureOracle(t *testing.T) {
	values := machineTemperature(t)
	if len(values) != 22695 {
		t.Fatalf("%d rows", len(values))
	}
	over := func(i int, bound float64) bool { return values[i] > bound }
	for _, c := range []struct {
		name   string
		rule   func(*Config)
		oracle func() []turn
	}{
		{"3 of 5, hysteresis", func(c *Config) { c.When, c.For, c.Clear = "v > 95", "3 of 5", "v < 90" }, func() (want []turn) {
			raised, since := false, 0 // since: rows before it count no more
			for i := range values {
				switch {
				case raised && values[i] < 90:
					raised, since = false, i+1
					want = append(want, turn{i, Cleared})
				case !raised:
					n := 0
					for k := max(since, i-4); k <= i; k++ {
						if over(k, 95) {
							n++
						}
					}
					if n >= 3 {
						raised = true
						want = append(want, turn{i, Raised})
					}
				}
			}
			return want
		}},
		{"hold and clear by time", func(c *Config) { c.When, c.Hold, c.Clear = "v > 100", 60*time.Second, "5s" }, func() (want []turn) {
			at := -1 // raised at this row
			for i := range values {
				switch {
				case at < 0 && over(i, 100):
					at = i
					want = append(want, turn{i, Raised})
				case at >= 0 && i-at >= 60:
					under := true
					for k := i - 5; k <= i; k++ {
						under = under && !over(k, 100)
					}
					if under {
						at = -1
						want = append(want, turn{i, Cleared})
					}
				}
			}
			return want
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				e, stop := engine(t, rule1(c.rule), dir, w)
				begin := time.Now().Add(50 * time.Millisecond) // between the ticks
				for i, v := range values {
					time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second)))
					r := reading("machine", v)
					r.Seq = uint64(i)
					feed(e, r)
				}
				stop()
				var got []turn
				for _, ev := range w.all() {
					got = append(got, turn{int(ev.Time.Sub(begin).Round(time.Second) / time.Second), ev.State})
				}
				want := c.oracle()
				if len(want) < 10 {
					t.Fatalf("the rule hardly ever speaks: %v", want)
				}
				if d := cmp.Diff(want, got, cmp.AllowUnexported(turn{})); d != "" {
					t.Error(d)
				}
			})
		})
	}
}
