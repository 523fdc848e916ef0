package aggregate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever attackers send that are no more than a method bears, each weight
// stays between what honest participants say (median, trimmed mean), or the
// step is made of honest updates alone where the others lie far off (Krum).
func TestBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, n := rapid.IntRange(1, 4).Draw(t, "attackers"), rapid.IntRange(1, 12).Draw(t, "weights")
		m := 2*f + 3 + rapid.IntRange(0, 6).Draw(t, "more honest ones")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 9))
		lo, hi := slices.Repeat([]float32{math.MaxFloat32}, n), slices.Repeat([]float32{-math.MaxFloat32}, n)
		updates := same(m, nil)
		for i := range updates {
			if i < f {
				updates[i].Samples = maxSamples / 4 // a lie
				updates[i].Delta = rapid.SliceOfN(rapid.Float32Range(-1000, 1000), n, n).Draw(t, "attack")
				continue
			}
			updates[i].Delta = normals(r, n, 0, 0.01)
			for j, v := range updates[i].Delta {
				lo[j], hi[j] = min(lo[j], v), max(hi[j], v)
			}
		}
		r.Shuffle(m, func(i, j int) { updates[i], updates[j] = updates[j], updates[i] })
		const step = 1.0 / (1 << fraction)
		within := func(kind string, w []float32) {
			for j, v := range w {
				if float64(v) < float64(lo[j])-step || float64(v) > float64(hi[j])+step {
					t.Fatalf("%s, weight %d: %v is outside %v..%v", kind, j, v, lo[j], hi[j])
				}
			}
		}
		for _, cfg := range []Config{{Kind: "median"}, {Kind: "trimmed-mean", Trim: float64(f)/float64(m) + 0.001}, {Kind: "krum", Attackers: f}, {Kind: "multi-krum", Attackers: f}} {
			all := updates
			if strings.Contains(cfg.Kind, "krum") {
				all = slices.Clone(updates)
				for i, u := range all {
					if u.Samples > 5 { // far off, each elsewhere
						far := slices.Clone(u.Delta)
						far[0] += float32(1500 * (i + 1))
						all[i].Delta = far
					}
				}
			}
			s, _ := New(cfg)
			begin(t, s, n)
			for _, u := range all {
				add(t, s, u)
			}
			w := make([]float32, n)
			if _, err := s.Finish(w); err != nil {
				t.Fatal(err)
			}
			within(cfg.Kind, w)
		}
	})
}

// No step is longer than the length that updates are shortened to, of no kind
// that takes their mean or one of them; and one attacker among many moves it by
// no more than its share.
func TestClipBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "weights")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
		for _, kind := range []string{"fedavg", "krum", "multi-krum"} {
			cfg := configOf(kind)
			cfg.Clip = 0.5
			s, _ := New(cfg)
			begin(t, s, n)
			for _, u := range same(7, nil) {
				u.Delta = normals(r, n, 0, math.Pow(10, 4*r.Float64()-2))
				add(t, s, u)
			}
			w := make([]float32, n)
			report, err := s.Finish(w)
			if err != nil {
				t.Fatal(err)
			}
			if report.Norm > 0.5+1e-6 || math.Abs(report.Norm-norm(w)) > 1e-5 {
				t.Fatalf("%s: a step of %v, the weights moved by %v", kind, report.Norm, norm(w))
			}
		}
	})
}

// attacks are what some of a cohort send instead of honest; mean and deviation
// are those of the honest ones, at each weight.
var attacks = []struct {
	name string
	made func(r *rand.Rand, honest, mean []float32, deviation float64) []float32
}{
	{"Gaussian", func(r *rand.Rand, honest, _ []float32, _ float64) []float32 { return normals(r, len(honest), 0, 0.2) }},
	{"sign flip", func(_ *rand.Rand, honest, _ []float32, _ float64) []float32 { return times(honest, -1) }},
	{"flip x10", func(_ *rand.Rand, honest, _ []float32, _ float64) []float32 { return times(honest, -10) }},
	{"scale x20", func(_ *rand.Rand, honest, _ []float32, _ float64) []float32 { return times(honest, 20) }},
	{"small shift", func(_ *rand.Rand, _, mean []float32, deviation float64) []float32 {
		x := slices.Clone(mean)
		for i := range x {
			x[i] -= float32(deviation)
		}
		return x
	}},
}

func times(x []float32, by float32) []float32 {
	y := slices.Clone(x)
	for i := range y {
		y[i] *= by
	}
	return y
}

// cohortOf is 50 participants, the first of them hostile, in a world where
// honest updates have a common part as large as what is each one's own.
func cohortOf(r *rand.Rand, n, hostile, attack int) (updates []Update, honestMean []float32) {
	const m, common, own = 50, 0.01, 0.01
	truth := normals(r, n, 0, common)
	honestMean = make([]float32, n)
	updates = same(m, nil)
	for i := range updates {
		updates[i].Delta = normals(r, n, 0, own)
		for j, v := range truth {
			updates[i].Delta[j] += v
			if i >= hostile {
				honestMean[j] += updates[i].Delta[j] / float32(m-hostile)
			}
		}
	}
	for i := range updates[:hostile] {
		updates[i].Delta = attacks[attack].made(r, updates[i].Delta, truth, own)
	}
	return updates, honestMean
}

// TestRobust measures how far each method's step is from the honest mean, in
// lengths of that, under each attack: -v prints the table of the documentation.
func TestRobust(t *testing.T) {
	const n = 2000
	methods := []struct {
		name string
		cfg  func(hostile int) Config
	}{
		{"fedavg", func(int) Config { return Config{Kind: "fedavg"} }},
		{"fedavg, clip_times 1.5", func(int) Config { return Config{Kind: "fedavg", ClipTimes: 1.5} }},
		{"median", func(int) Config { return Config{Kind: "median"} }},
		{"trimmed-mean", func(h int) Config { return Config{Kind: "trimmed-mean", Trim: float64(h) / 50} }},
		{"krum", func(h int) Config { return Config{Kind: "krum", Attackers: h} }},
		{"multi-krum", func(h int) Config { return Config{Kind: "multi-krum", Attackers: h} }},
	}
	for _, hostile := range []int{10, 15} {
		head := fmt.Sprintf("%-24s", fmt.Sprintf("%d of 50 hostile", hostile))
		for _, a := range attacks {
			head += fmt.Sprintf("%13s", a.name)
		}
		t.Log(head)
		for _, method := range methods {
			row := fmt.Sprintf("%-24s", method.name)
			for a := range attacks {
				r := rand.New(rand.NewPCG(3, uint64(a)))
				s := mustNew(t, method.cfg(hostile))
				// The measure of clip_times is the median length of the round before.
				before, _ := cohortOf(r, n, hostile, a)
				finish(t, s, make([]float32, n), before)
				updates, honest := cohortOf(r, n, hostile, a)
				w := make([]float32, n)
				finish(t, s, w, updates)
				off := math.Sqrt(distance(w, honest)) / norm(honest)
				row += fmt.Sprintf("%13.2f", off)
				plain := method.cfg(hostile).Kind == "fedavg" && method.cfg(hostile).ClipTimes == 0
				switch name := attacks[a].name; {
				case plain && (name == "flip x10" || name == "scale x20" || name == "Gaussian") && off < 0.5:
					t.Errorf("%s under %s is only %.2f off: this is no attack", method.name, name, off)
				case !plain && method.name != "krum" && off > 0.9:
					t.Errorf("%s under %s is %.2f off", method.name, name, off)
				}
			}
			t.Log(row)
		}
	}
}

// Who sends noise, far too much or the contrary stands out in the report of
// FedAvg, and hardly ever an honest one; the weights do not change by it.
func TestOutliers(t *testing.T) {
	honestNamed, rounds := 0, 0
	for a, attack := range attacks {
		named, hostileSeen := 0, 0
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, uint64(a)))
			updates, _ := cohortOf(r, 2000, 10, a)
			report := finish(t, mustNew(t, DefaultConfig()), make([]float32, 2000), updates)
			if report.Counted != 50 || report.SetAside != nil {
				t.Fatalf("%+v", report)
			}
			rounds++
			hostileSeen += 10
			seen := map[string]bool{}
			for _, o := range report.Outliers {
				if o.From >= "g10" {
					honestNamed++
				} else {
					seen[o.From] = true
				}
			}
			named += len(seen)
		}
		t.Logf("%s: %d of %d attackers are named", attack.name, named, hostileSeen)
		if want := hostileSeen * 9 / 10; attack.name != "small shift" && named < want {
			t.Errorf("%s: %d of %d attackers are named", attack.name, named, hostileSeen)
		}
	}
	t.Logf("%d honest ones are named in %d rounds of 40", honestNamed, rounds)
	if honestNamed > rounds/20 {
		t.Errorf("%d honest ones are named in %d rounds", honestNamed, rounds)
	}
	// Equal updates, none of length, and a cohort of few: nobody stands out.
	for _, updates := range [][]Update{same(9, []float32{1, 2}), same(9, []float32{0, 0}), append(same(3, []float32{1, 2}), Update{From: "x", Samples: 1, Delta: []float32{-900, 2}})} {
		if report := finish(t, mustNew(t, DefaultConfig()), make([]float32, 2), updates); report.Outliers != nil {
			t.Errorf("%+v", report.Outliers)
		}
	}
}

// Those that are cut nearly everywhere are named by the rank methods.
func TestRankedNames(t *testing.T) {
	for _, cfg := range []Config{{Kind: "median"}, {Kind: "trimmed-mean", Trim: 0.2}} {
		updates, _ := cohortOf(rand.New(rand.NewPCG(1, 1)), 2000, 5, 3) // 20 times as long
		report := finish(t, mustNew(t, cfg), make([]float32, 2000), updates)
		if report.Counted != 50 || len(report.SetAside) != 5 {
			t.Fatalf("%s: %+v", cfg.Kind, report)
		}
		for i, a := range report.SetAside {
			if a.From != updates[i].From || a.Score < 0.85 || !strings.Contains(a.Why, "outside the middle at") {
				t.Errorf("%s: %+v", cfg.Kind, a)
			}
		}
	}
}

// Memory does not grow with the cohort, but for some hundred bytes a participant:
// methods that keep updates keep those that they are given.
func TestFlat(t *testing.T) {
	const n, m = 50_000, 100
	delta := make([]float32, n)
	for _, kind := range kinds() {
		s := mustNew(t, configOf(kind))
		if err := s.Begin(n); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, u := range same(m, delta) {
			if err := s.Add(u); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		// fedbuff takes a sum of its own for its first full buffer.
		if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 8*n+m*2000 {
			t.Errorf("%s: %d bytes for %d updates of %d", kind, bytes, m, 4*n)
		}
	}
}
