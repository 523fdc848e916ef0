package compress

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/model"
	"edgegateway/infer/train"
)

// randomLine draws numbers as weights are: of some spread, some of them equal.
func randomLine(t *rapid.T, most int) []float32 {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
	v := make([]float32, rapid.IntRange(1, most).Draw(t, "n"))
	step := rapid.SampledFrom([]float64{0, 0.5, 0.1}).Draw(t, "step")
	for i := range v {
		x := r.NormFloat64()
		if step > 0 {
			x = step * math.Round(x/step)
		}
		v[i] = float32(x)
	}
	return v
}

// The optimum is that of trying every division, and k-means is a division at
// rest: no value is nearer to another centre than to its own.
func TestKMeans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLine(randomLine(t, 12))
		n, k := len(l.v), rapid.IntRange(1, 5).Draw(t, "k")
		least := math.Inf(1)
		var try func(cuts []int)
		try = func(cuts []int) {
			if len(cuts) == min(k, n) {
				least = min(least, l.errorOf(append(slices.Clone(cuts), n)))
				return
			}
			for i := cuts[len(cuts)-1] + 1; i < n; i++ {
				try(append(cuts, i))
			}
		}
		try([]int{0})
		best := l.optimal(k)
		if e := l.errorOf(best); math.Abs(e-least) > 1e-9 || best[0] != 0 || best[len(best)-1] != n || len(best) != min(k, n)+1 || !slices.IsSorted(best) {
			t.Fatalf("%v in %d: %v has the error %v, the least is %v", l.v, k, best, e, least)
		}
		cuts := l.lloyd(k)
		if len(cuts) > k+1 || cuts[0] != 0 || cuts[len(cuts)-1] != n || !slices.IsSorted(cuts) {
			t.Fatalf("%v in %d: %v", l.v, k, cuts)
		}
		if e := l.errorOf(cuts); e < least-1e-9 {
			t.Fatalf("%v in %d: %v has the error %v, below the least, %v", l.v, k, cuts, e, least)
		}
		for i := 1; i < len(cuts); i++ {
			own := l.mean(cuts[i-1], cuts[i])
			for j := 1; j < len(cuts); j++ {
				for _, x := range l.v[cuts[i-1]:cuts[i]] {
					if other := l.mean(cuts[j-1], cuts[j]); math.Abs(float64(x)-other) < math.Abs(float64(x)-own)-1e-9 {
						t.Fatalf("%v in %d: %v is nearer to %v than to its own centre %v", l.v, k, x, other, own)
					}
				}
			}
		}
	})
}

// What is shared: at most so many values a layer or channel, 0 stays 0, each
// value is the mean of the weights that it stands for, larger weights never
// become smaller ones, and nothing else of the layer moves.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := randomLine(t, 400)
		for i := range v {
			if rapid.IntRange(0, 3).Draw(t, "pruned") == 0 && len(v) < 40 {
				v[i] = 0
			}
		}
		cfg := ClusterConfig{Clusters: rapid.IntRange(2, 20).Draw(t, "clusters"), Method: rapid.SampledFrom(ClusterMethods).Draw(t, "method")}
		at := stretch{run: 1, step: 1, n: len(v)}
		if rapid.Bool().Draw(t, "every second") {
			at = stretch{run: 1, step: 2, n: len(v) / 2}
		}
		old := slices.Clone(v)
		clusters, asked := share(v, at, cfg)
		if !asked {
			t.Fatal("the table is said to be too large")
		}
		members := map[float32][]float32{}
		var of []int
		at.each(func(i int) { of = append(of, i) })
		for _, i := range of {
			if old[i] == 0 && v[i] != 0 {
				t.Fatalf("0 became %v", v[i])
			}
			if old[i] != 0 {
				members[v[i]] = append(members[v[i]], old[i])
			}
			for _, j := range of {
				if old[i] < old[j] && v[i] > v[j] && old[i] != 0 && old[j] != 0 {
					t.Fatalf("%v < %v became %v > %v", old[i], old[j], v[i], v[j])
				}
			}
		}
		now := map[float32]bool{}
		for _, i := range of {
			now[v[i]] = true
		}
		if len(now) > cfg.Clusters || clusters < len(now) || clusters > cfg.Clusters {
			t.Fatalf("%d values, said %d, asked for %d", len(now), clusters, cfg.Clusters)
		}
		for c, list := range members {
			sum := 0.0
			for _, x := range list {
				sum += float64(x)
			}
			if mean := sum / float64(len(list)); math.Abs(mean-float64(c)) > 1e-6 {
				t.Fatalf("%v stands for %v, whose mean is %v", c, list, mean)
			}
		}
		for i := range v {
			if !slices.Contains(of, i) && v[i] != old[i] {
				t.Fatalf("weight %d is of another channel and became %v", i, v[i])
			}
		}
	})
}

// Whatever network: clustered, the runtime loads it on both kinds of kernels,
// they agree, and with as many clusters as there are weights nothing changes.
// Biases stay; each channel, or layer, has no more values than asked for.
func TestRandomNetworksClustered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, d, m := randomExport(t)
		if m == nil {
			return
		}
		cfg := ClusterConfig{Clusters: rapid.IntRange(2, 24).Draw(t, "clusters"), PerChannel: rapid.Bool().Draw(t, "per channel"), Method: rapid.SampledFrom(ClusterMethods).Draw(t, "method")}
		c, r, err := Cluster(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		g := c.Main()
		for _, l := range r.Layers {
			op := &g.Ops[l.Op]
			w, bias := &g.Tensors[op.Inputs[1]], op.Inputs[2]
			v, err := w.Floats()
			if err != nil {
				t.Fatal(err)
			}
			dim, _ := sharing(l.Code)
			of := channels(w.Shape, dim)
			if !cfg.PerChannel {
				of = []stretch{{run: len(v), step: len(v), n: 1}}
			}
			covered := 0
			for _, at := range of {
				seen := map[float32]bool{}
				at.each(func(i int) { seen[v[i]] = true; covered++ })
				if len(seen) > cfg.Clusters || len(seen) > l.Clusters {
					t.Fatalf("%s: %d values in a channel, at most %d were asked for, %d reported", l.Name, len(seen), cfg.Clusters, l.Clusters)
				}
			}
			if covered != len(v) || l.Distinct > l.Before || l.Distinct != distinct(v) {
				t.Fatalf("%s: %d of %d weights in channels; %+v", l.Name, covered, len(v), l)
			}
			if !slices.Equal(g.Tensors[bias].Buffer, m.Main().Tensors[m.Main().Ops[l.Op].Inputs[2]].Buffer) {
				t.Fatalf("%s: the bias moved", l.Name)
			}
		}
		before, err := m.Write()
		if err != nil {
			t.Fatal(err)
		}
		after, err := c.Write()
		if err != nil {
			t.Fatal(err)
		}
		a, err := Compare(t.Context(), after, after, [2]string{"builtin", "xnnpack:0"}, "", &Samples{Set: d})
		if err != nil {
			t.Fatal(err)
		}
		if a.Relative() > 1e-3 {
			t.Fatalf("on XNNPACK it answers otherwise: %+v", a)
		}
		cfg.Clusters = 4096
		all, _, err := Cluster(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		same, err := all.Write()
		if err != nil {
			t.Fatal(err)
		}
		if a, err = Compare(t.Context(), before, same, [2]string{}, "", &Samples{Set: d}); err != nil || a.Largest != 0 {
			t.Fatalf("a cluster for each weight changes answers: %+v, %v", a, err)
		}
	})
}

// A public network of separable convolutions: more clusters are nearer to it,
// the optimum is nearer than k-means, channels are nearer than layers.
func TestClusterVWW(t *testing.T) {
	m, file := sharedModel(t, "vww_96_float.tflite")
	away := func(cfg ClusterConfig) float64 {
		c, r, err := Cluster(m, cfg)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, l := range r.Layers {
			if l.Clusters > cfg.Clusters || l.Relative < 0 || l.Weights == 0 {
				t.Errorf("%+v", l)
			}
			sum += l.RMS * l.RMS * float64(l.Weights)
		}
		out, err := c.Write()
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > len(file)+1024 {
			t.Errorf("%d bytes became %d", len(file), len(out))
		}
		a, b := cost(t, file), cost(t, out)
		if cfg.Clusters == 16 && !cfg.PerChannel && b.Zipped > a.Zipped/3 {
			t.Errorf("zipped it has %d bytes of %d", b.Zipped, a.Zipped)
		}
		return sum
	}
	four, sixteen := away(ClusterConfig{Clusters: 4, Method: "linear"}), away(ClusterConfig{Clusters: 16, Method: "linear"})
	best, channel := away(ClusterConfig{Clusters: 16, Method: "optimal"}), away(ClusterConfig{Clusters: 16, Method: "linear", PerChannel: true})
	if !(best < sixteen && sixteen < four && channel < sixteen) {
		t.Errorf("squared errors: 4 clusters %v, 16 %v, their optimum %v, 16 a channel %v", four, sixteen, best, channel)
	}
}

func cost(t *testing.T, file []byte) *Cost {
	t.Helper()
	c, err := CostOf(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClusterRefuses(t *testing.T) {
	float, _ := sharedModel(t, "vww_96_float.tflite")
	int8s, _ := sharedModel(t, "vww_96_int8.tflite")
	none, err := model.Read(func() []byte { _, f := sharedModel(t, "audio_preprocessor_float.tflite"); return f }())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m    *model.Model
		cfg  ClusterConfig
		want string
	}{
		{float, ClusterConfig{Clusters: 1, Method: "linear"}, "outside 2..4096"},
		{float, ClusterConfig{Clusters: 16, Method: "best"}, `"best" is none of linear, optimal`},
		{int8s, DefaultCluster(), "give the float model"},
		{none, DefaultCluster(), "nothing to share"},
	} {
		if _, _, err := Cluster(c.m, c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}

// Shared values that are trained: the model comes nearer to what it was before,
// each layer keeps so few values, 0 stays 0.
func TestClusterTuned(t *testing.T) {
	s := train.Spec{Layers: []train.LayerSpec{{Type: "conv2d", Filters: 6, Kernel: 3, Activation: "relu"}, {Type: "global_pool"}, {Type: "dense", Units: 12, Activation: "relu"}, {Type: "dense", Activation: "softmax"}}}
	r := rand.New(rand.NewPCG(3, 3))
	d := &train.Dataset{Name: "waves", Shape: train.Shape{8, 8, 1}}
	for range 400 {
		fx, fy := r.Float64(), 2*r.Float64()
		for i := range 64 {
			d.Values = append(d.Values, float32(math.Sin(fx*float64(i%8))*math.Cos(fy*float64(i/8))))
		}
	}
	n, err := train.New(s, d.Shape, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.Export("waves", nil)
	if err != nil {
		t.Fatal(err)
	}
	// As pruning leaves it.
	g := m.Main()
	for i := range g.Ops {
		if op := &g.Ops[i]; op.Code == "FULLY_CONNECTED" {
			w := &g.Tensors[op.Inputs[1]]
			v, err := w.Floats()
			if err != nil {
				t.Fatal(err)
			}
			for j := range v {
				if j%3 == 0 {
					v[j] = 0
				}
			}
			w.Buffer = model.FloatBytes(v)
		}
	}
	before, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	for _, channel := range []bool{false, true} {
		c, report, err := Cluster(m, ClusterConfig{Clusters: 4, Method: "linear", PerChannel: channel})
		if err != nil {
			t.Fatal(err)
		}
		away := func(m *model.Model) float64 {
			after, err := m.Write()
			if err != nil {
				t.Fatal(err)
			}
			a, err := Compare(t.Context(), before, after, [2]string{}, "", &Samples{Set: d})
			if err != nil {
				t.Fatal(err)
			}
			return a.MeanAbs
		}
		tune := DefaultTune()
		tune.Config.Epochs, tune.Config.Batch, tune.Config.Optimizer.Rate = 20, 16, 0.003
		tune.Learn, tune.Teacher, tune.Shared = d, before, 4
		tuned, err := tune.Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		plain := slices.Clone(report.Layers)
		if err := report.Measure(tuned); err != nil {
			t.Fatal(err)
		}
		for i, l := range report.Layers {
			if l.Distinct > plain[i].Distinct || l.Zeros != plain[i].Zeros || l.RMS == plain[i].RMS {
				t.Errorf("per channel %v: %+v became %+v", channel, plain[i], l)
			}
		}
		if a, b := away(c), away(tuned); b > a/2 {
			t.Errorf("per channel %v: %v away from the original before, %v after", channel, a, b)
		}
	}
}
