package simulate

import (
	"math"
	"slices"
	"testing"

	"edgegateway/fl"
)

func TestAttacks(t *testing.T) {
	job := &fl.Job{Seed: 5}
	for s, want := range map[string][]float32{"sign-flip:0.3": {-1, 2, -3}, "sign-flip:0.3:2": {-2, 4, -6}, "scale:0.1": {10, -20, 30}, "label-flip:0.1": {1, -2, 3}, "": {1, -2, 3}} {
		a, err := ParseAttack(s)
		if err != nil {
			t.Fatal(err)
		}
		delta := []float32{1, -2, 3}
		if err := a.change(job, delta); err != nil || !slices.Equal(delta, want) {
			t.Errorf("%s: %v, %v, want %v", s, delta, err, want)
		}
	}
	a, err := ParseAttack("gaussian:0.2:3")
	if err != nil {
		t.Fatal(err)
	}
	noise, again := make([]float32, 10000), make([]float32, 10000)
	again[0] = 1e9 // nothing of what was learned is left
	_, _ = a.change(job, noise), a.change(job, again)
	sum := 0.0
	for _, v := range noise {
		sum += float64(v) * float64(v)
	}
	if dev := math.Sqrt(sum / 10000); !slices.Equal(noise, again) || math.Abs(dev-3) > 0.1 {
		t.Errorf("a deviation of %v; the same twice: %v", dev, slices.Equal(noise, again))
	}
	d := labelled(20, 10)
	flip, _ := ParseAttack("label-flip:0.5")
	flip.poison(d)
	if d.Labels[0] != 9 || d.Labels[19] != 0 || d.Labels[8] != 5 {
		t.Errorf("labels %v", d.Labels)
	}
	for _, bad := range []string{"gaussian", "shout:0.2", "gaussian:2", "gaussian:x", "gaussian:NaN", "gaussian:0.2:0", "gaussian:0.2:x", "label-flip:0.2:3", "scale:0.1:1:1"} {
		if a, err := ParseAttack(bad); err == nil {
			t.Errorf("%s is taken as %+v", bad, a)
		}
	}
	hostile := a.hostile(50, 1)
	if n := len(slices.DeleteFunc(slices.Clone(hostile), func(h bool) bool { return !h })); n != 10 || slices.Equal(hostile, a.hostile(50, 2)) {
		t.Errorf("%d of 50 are hostile", n)
	}
}
