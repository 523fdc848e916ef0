package aggregate

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for _, kind := range kinds() {
		if err := configOf(kind).Validate(); err != nil {
			t.Error(err)
		}
		s, err := New(configOf(kind))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Contains("median trimmed-mean krum multi-krum", kind); s.Keeps() != want {
			t.Errorf("%s keeps the cohort: %v", kind, s.Keeps())
		}
	}
	if DefaultConfig().Validate() != nil || DefaultCompression().Validate() != nil {
		t.Error("the defaults are refused")
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, `strategy.kind: "" is none of [fedavg fedavgm`},
		{Config{Kind: "FedAvg"}, `strategy.kind: "FedAvg"`},
		{Config{Kind: "fedavg", Momentum: 0.9}, "strategy.momentum: fedavg has no use for it"},
		{Config{Kind: "fedadagrad", Beta1: 0.9}, "strategy.beta1: fedadagrad has no use for it"},
		{Config{Kind: "median", Trim: 0.1}, "strategy.trim: median has no use"},
		{Config{Kind: "krum", Attackers: 1, Keep: 2}, "strategy.keep: krum has no use"},
		{Config{Kind: "fedavg", Buffer: 3}, "strategy.buffer: fedavg has no use"},
		{Config{Kind: "krum"}, "strategy.attackers: say how many"},
		{Config{Kind: "multi-krum", Attackers: -1}, "strategy.attackers: -1 is not between"},
		{Config{Kind: "multi-krum", Attackers: 1, Keep: -1}, "strategy.keep: -1"},
		{Config{Kind: "fedavg", Rate: -1}, "strategy.rate: -1 is not between"},
		{Config{Kind: "fedavg", Rate: nan()}, "strategy.rate: NaN is not between"},
		{Config{Kind: "fedavgm", Momentum: 1}, "strategy.momentum: 1 is not between"},
		{Config{Kind: "fedadam", Beta2: 1}, "strategy.beta2: 1 is not between"},
		{Config{Kind: "fedyogi", Tau: 1e-12}, "strategy.tau: 1e-12"},
		{Config{Kind: "trimmed-mean", Trim: 0.5}, "strategy.trim: 0.5 is not between 0 and 0.5"},
		{Config{Kind: "fedbuff", Buffer: 20_000}, "strategy.buffer: 20000"},
		{Config{Kind: "fedavg", Clip: -2}, "strategy.clip: -2"},
		{Config{Kind: "median", ClipTimes: 0.5}, "strategy.clip_times: 0.5"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

// A sparse update is no good to those who look at each weight alone; the median
// of such stays 0, which is why they are refused together.
func TestSuits(t *testing.T) {
	for _, kind := range kinds() {
		for _, c := range compressions() {
			z := Compression{Kind: c}
			alone := kind == "median" || kind == "trimmed-mean"
			if err := z.Suits(configOf(kind)); (err != nil) != (alone && strings.HasPrefix(c, "topk")) {
				t.Errorf("%s with %s: %v", kind, c, err)
			}
			if z.Share = 0.5; strings.HasPrefix(c, "topk") && z.Suits(configOf(kind)) != nil {
				t.Errorf("%s with half of the weights", kind)
			}
		}
	}
	w := make([]float32, 1000)
	var updates []Update
	for i, u := range same(9, nil) {
		data, _, err := Encode(Compression{Kind: "topk", Share: 0.1}, normals(rand.New(rand.NewPCG(uint64(i), 1)), len(w), 0, 1), nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		if u.Delta, err = Decode(data, len(w)); err != nil {
			t.Fatal(err)
		}
		updates = append(updates, u)
	}
	moved := 0
	finish(t, mustNew(t, Config{Kind: "median"}), w, updates)
	for _, v := range w {
		if v != 0 {
			moved++
		}
	}
	if moved > 10 {
		t.Errorf("%d of 1000 weights moved: then it is too strict", moved)
	}
}
