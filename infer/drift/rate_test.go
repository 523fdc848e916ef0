package drift

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// process makes a series that never changes its kind.
type process func(rng *rand.Rand) func() float64

func independent(rng *rand.Rand) func() float64 { return rng.NormFloat64 }

// following is a series in which each value keeps a part of the one before.
func following(part float64) process {
	return func(rng *rand.Rand) func() float64 {
		v := rng.NormFloat64()
		return func() float64 {
			v = part*v + math.Sqrt(1-part*part)*rng.NormFloat64()
			return v
		}
	}
}

// daily is day and night, of 96 samples, and the weather of a few hours.
func daily(rng *rand.Rand) func() float64 {
	weather := following(0.9)(rng)
	i := rng.IntN(96)
	return func() float64 {
		i++
		return 3*math.Sin(2*math.Pi*float64(i)/96) + weather()
	}
}

// switched is off or on for about 20 samples, as a light is.
func switched(rng *rand.Rand) func() float64 {
	on := 0.0
	return func() float64 {
		if rng.IntN(20) == 0 {
			on = 1 - on
		}
		return on
	}
}

// flagged has an unchanged series judged, shifted by so much behind what was
// learned, and says in what part of the windows, each wholly new, at least one
// judgement was drift. The series is also the label, by its whole part.
func flagged(t testing.TB, p process, runs, learn, windows int, cfg Config, shifted float64) float64 {
	t.Helper()
	bad, all := 0, 0
	for seed := range uint64(runs) {
		next := p(rand.New(rand.NewPCG(seed, 1)))
		l, err := NewLearner([]string{"x"}, 1, true, learn)
		if err != nil {
			t.Fatal(err)
		}
		label := func(v float64) string { return fmt.Sprint(math.Round(v)) }
		for !l.Full() {
			v := next()
			l.Add([]float64{v}, label(v))
		}
		ref, err := l.Reference(cfg.Window)
		if err != nil {
			t.Fatal(err)
		}
		m, err := NewMonitor(ref, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range windows + 1 {
			over := false
			for range cfg.Window {
				v := next() + shifted
				m.Add([]float64{v}, label(v))
				over = m.Due() && m.Judge(true).Drift > 1 || over
			}
			if i == 0 { // it filled
				continue
			}
			if all++; over {
				bad++
			}
		}
	}
	return float64(bad) / float64(all)
}

// What is promised of false alarms holds for independent samples and for such
// that depend on each other, also where a window is a part of a day; and a
// shift is seen, the smaller the less samples depend: of 80 series each, with
// fixed seeds.
func TestFalseAlarms(t *testing.T) {
	for _, c := range []struct {
		name   string
		series process
		window int
		shift  float64 // that is seen in nearly all windows
	}{
		{"independent", independent, 128, 1},
		{"0.5 of the one before", following(0.5), 128, 1.5},
		{"0.9 of the one before", following(0.9), 256, 3},
		{"day and night, a third of a day", daily, 32, 0},
		{"day and night, two days", daily, 192, 100},
		{"a switch", switched, 256, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, chance := range []float64{0.1, 0.01} {
				rate := flagged(t, c.series, 80, 16*c.window, 8, Config{c.window, chance}, 0)
				t.Logf("%s: %g promised, %.4f seen", c.name, chance, rate)
				if sure := 2 * math.Sqrt(chance/(80*8)); rate > chance+sure {
					t.Errorf("%.4f of the windows are flagged, %g is promised", rate, chance)
				}
			}
			if c.shift == 0 { // such windows tell nothing
				return
			}
			if rate := flagged(t, c.series, 20, 16*c.window, 1, Config{c.window, 0.001}, c.shift); rate < 0.9 {
				t.Errorf("a shift by %g is seen in %.2f of the windows", c.shift, rate)
			}
		})
	}
}
