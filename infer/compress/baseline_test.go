package compress

import (
	"math"
	"math/rand/v2"
	"testing"

	"edgegateway/infer/train"
	"edgegateway/internal/testkit"
)

// The rule is the best of all that there are, found by trying them.
func TestOneThresholdIsTheBest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		n := 2 + r.IntN(30)
		d := &train.Dataset{Shape: train.Shape{2}, Features: []string{"a", "b"}, Classes: []string{"no", "yes"}}
		for range n {
			d.Values = append(d.Values, float32(r.IntN(8)), float32(r.IntN(8)))
			d.Labels = append(d.Labels, int32(r.IntN(2)))
		}
		got := OneThreshold(d, d)
		most := 0
		for k := range 2 {
			for at := -0.5; at < 9; at++ {
				above := 0
				for i, l := range d.Labels {
					if (float64(d.Values[2*i+k]) > at) == (l == 1) {
						above++
					}
				}
				most = max(most, above, n-above)
			}
		}
		if math.Abs(got.Top1-float64(most)/float64(n)) > 1e-9 || !got.Hindsight {
			t.Fatalf("%+v, the best is right %d times of %d: %v %v", got, most, n, d.Values, d.Labels)
		}
	}
}

// On the published occupancy files one threshold on Light, learned on the
// training file, is right in 97.86 % of the test file.
func TestOneThresholdOfOccupancy(t *testing.T) {
	cfg := train.CSVConfig{Target: []string{"Occupancy"}}
	learn, _, err := train.LoadCSV(testkit.Shared(t, "data/occupancy_train.csv"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	test, _, err := train.LoadCSV(testkit.Shared(t, "data/occupancy_test.csv"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := OneThreshold(learn, test)
	if b.Rule != "Light above 365.1" || math.Abs(b.Top1-2608./2665) > 1e-9 || b.Hindsight || b.Order != "Light" || b.AUC < 0.97 {
		t.Errorf("%+v", b)
	}
	if b := OneThreshold(test, test); math.Abs(b.Top1-2609./2665) > 1e-9 || !b.Hindsight {
		t.Errorf("in hindsight: %+v", b)
	}
	d := *learn
	d.Classes = []string{"0", "1", "2"}
	if OneThreshold(&d, test) != nil || OneThreshold(&train.Dataset{Pixels: []byte{1}}, test) != nil {
		t.Error("a rule for three classes, or for pictures")
	}
}
