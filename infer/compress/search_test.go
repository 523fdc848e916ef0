package compress

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBudget(t *testing.T) {
	small := &Trial{Bytes: 100, Micros: 5, Drop: 0.02}
	good := &Trial{Bytes: 200, Micros: 9, Drop: 0.001}
	failed := &Trial{Why: "no"}
	beaten := &Trial{Bytes: 210, Micros: 9, Drop: 0.001}
	all := []*Trial{failed, small, good, beaten}
	for _, c := range []struct {
		name   string
		budget Budget
		best   *Trial
		over   float64
	}{
		{"both fit: the one that loses less", Budget{Size: 1000, Drop: -1}, good, 0},
		{"one fits", Budget{Size: 150, Drop: -1}, small, 0},
		{"a drop alone: the smallest", Budget{Drop: 0.05}, small, 0},
		{"a drop alone, little", Budget{Drop: 0.01}, good, 0},
		{"out of reach: the nearest", Budget{Size: 80, Drop: 0.02}, small, 0.25},
		{"out of reach in time", Budget{Micros: 4, Drop: -1}, small, 0.25},
		{"no drop at all", Budget{Size: 150, Drop: 0}, good, 1},
	} {
		best := c.budget.Best(all)
		if best != c.best {
			t.Errorf("%s: %+v", c.name, best)
		} else if over := c.budget.Over(best); math.Abs(over-c.over) > 1e-9 {
			t.Errorf("%s: over by %v, want %v", c.name, over, c.over)
		}
	}
	base := 0.9
	exact := &Trial{Bytes: 100, Drop: base - 0.89}
	if most := (Budget{Drop: 0.01}); exact.Drop <= most.Drop || most.Over(exact) != 0 {
		t.Errorf("a drop of just 0.01, %v as it is rounded, is over by %v", exact.Drop, most.Over(exact))
	}
	if over, bound := (Budget{Size: 150, Micros: 2, Drop: 0.01}).Misses(small); over != 1.5 || bound != "latency" {
		t.Errorf("over %s by %v", bound, over)
	}
	for want, b := range map[string]Budget{`{"max_size":5}`: {Size: 5, Drop: -1}, `{"max_drop":0}`: {}} {
		if text, err := json.Marshal(b); err != nil || string(text) != want {
			t.Errorf("%s, %v; want %s", text, err, want)
		}
	}
	if f := Front(all); len(f) != 2 || f[0] != small || f[1] != good {
		t.Errorf("the front is %v", f)
	}
	if (Budget{Drop: -1}).Validate() == nil || (Budget{Drop: 1}).Validate() == nil || (Budget{Size: 1, Drop: -1}).Validate() != nil {
		t.Error("Validate")
	}
}

func TestRecipeValidate(t *testing.T) {
	for want, r := range map[string]Recipe{
		"":               {Steps: []Step{{Do: "prune", Sparsity: 0.5}, {Do: "quantize"}}},
		"steps[0].do":    {Steps: []Step{{Do: "melt"}}},
		"steps[0].epoch": {Steps: []Step{{Do: "tune"}}},
		"the last step":  {Steps: []Step{{Do: "quantize"}, {Do: "prune"}}},
	} {
		err := r.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v, want %q", r, err, want)
		}
	}
}

// A search that is stopped goes on where it was, and comes to what one that ran
// through comes to; its models are what its recipes make.
func TestSearchGoesOn(t *testing.T) {
	file, _, d := trained(t, "mlp")
	search := func(dir string) *Search {
		return &Search{File: file, Choose: &Samples{Set: d}, Task: Classes, Budget: Budget{Size: len(file) / 5, Drop: 0.2}, Trials: 14, Dir: dir}
	}
	whole := search(t.TempDir())
	best, err := whole.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if whole.Budget.Over(best) != 0 || len(best.Recipe.Steps) < 2 {
		t.Errorf("not found: %+v", best)
	}
	made, err := whole.Model(best)
	if err != nil {
		t.Fatal(err)
	}
	again := file
	for _, s := range best.Recipe.Steps {
		if again, err = s.Apply(context.Background(), whole.Ground, again); err != nil {
			t.Fatal(err)
		}
	}
	if string(again) != string(made) || len(made) != best.Bytes {
		t.Errorf("%s makes %d bytes now, and made %d, said %d", best.Recipe, len(again), len(made), best.Bytes)
	}

	dir := t.TempDir()
	cut := search(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cut.Done = func(*Trial) {
		if len(cut.Tried()) == 6 {
			cancel()
		}
	}
	if b, err := cut.Run(ctx); !errors.Is(err, context.Canceled) || b == nil {
		t.Fatalf("stopped: %v, %v", b, err)
	}
	log := filepath.Join(dir, "trials.jsonl")
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, before[:len(before)-9], 0o644); err != nil { // as a power cut leaves it
		t.Fatal(err)
	}
	on := search(dir)
	b, err := on.Run(context.Background())
	if err != nil || b.Recipe.String() != best.Recipe.String() || b.Bytes != best.Bytes || b.Quality != best.Quality {
		t.Errorf("went on to %+v, %v; want %+v", b, err, best)
	}
	after, err := os.ReadFile(log)
	if err != nil || len(on.Tried()) != len(whole.Tried()) {
		t.Errorf("%d trials, want %d; %v", len(on.Tried()), len(whole.Tried()), err)
	}
	first, _, _ := strings.Cut(string(before), "prune")
	if !strings.HasPrefix(string(after), first) {
		t.Error("the log lost what was whole")
	}
	// With fewer trials what fits is not lost.
	few := search(dir)
	few.Trials = 2
	if b, err := few.Run(context.Background()); err != nil || key(b.Recipe) != key(best.Recipe) || len(few.Tried()) != len(whole.Tried()) {
		t.Errorf("with two trials it comes to %+v of %d, %v; %s is kept", b, len(few.Tried()), err, best.Recipe)
	}
	other := search(dir)
	other.Task = Regression
	if _, err := other.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("another search in the same folder: %v", err)
	}
}

// What nothing can do is said, with what is nearest.
func TestSearchOutOfReach(t *testing.T) {
	file, _, d := trained(t, "mlp")
	s := &Search{File: file, Choose: &Samples{Set: d}, Task: Classes, Budget: Budget{Size: 700, Drop: 0}, Trials: 10, Dir: t.TempDir()}
	best, err := s.Run(context.Background())
	if err != nil || s.Budget.Over(best) == 0 {
		t.Errorf("%+v, %v", best, err)
	}
	for _, other := range s.Tried() {
		if s.Budget.Over(other) < s.Budget.Over(best) {
			t.Errorf("%s is nearer than %s", other.Recipe, best.Recipe)
		}
	}
}

// The quality at which a drop is used up is that of a model just within the
// bound, whether the figure is a share or an error.
func TestBudgetQuality(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, drop := rapid.Float64Range(0.3, 1).Draw(t, "base"), rapid.Float64Range(0, 0.2).Draw(t, "drop")
		is := rapid.Float64Range(0.2, 1.5).Filter(func(v float64) bool { return math.Abs(v-base) > 1e-3 }).Draw(t, "is")
		wrong := rapid.Bool().Draw(t, "an error")
		lost := func(q float64) float64 {
			if wrong {
				return q/base - 1
			}
			return base - q
		}
		b := Budget{Drop: drop}
		at, ok := b.Quality([]*Trial{{Quality: base}, {Why: "broken"}, {Quality: is, Drop: lost(is)}})
		if !ok || math.Abs(lost(at)-drop) > 1e-9 {
			t.Fatalf("%v, %v: there %v is lost, not %v", at, ok, lost(at), drop)
		}
	})
	for _, list := range [][]*Trial{nil, {{Quality: 1}}, {{Why: "broken"}}} {
		if at, ok := (Budget{Drop: 0.1}).Quality(list); ok {
			t.Errorf("%v of %v", at, list)
		}
	}
	if _, ok := (Budget{Drop: -1, Size: 9}).Quality([]*Trial{{Quality: 1}, {Quality: 0.5, Drop: 0.5}}); ok {
		t.Error("there is no bound on the drop")
	}
}
