package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"edgegateway/infer/compress"
	"edgegateway/infer/model"
	"edgegateway/infer/model/pack"
	"edgegateway/internal/chart"
)

// optimized is what a search came to.
type optimized struct {
	Out    string            `json:"out"`
	Budget compress.Budget   `json:"budget"`
	Fits   bool              `json:"fits"`
	Over   float64           `json:"over,omitempty"`       // by how much, as a share of the bound that is met least
	Bound  string            `json:"over_bound,omitempty"` // that bound: size, latency, memory or drop
	MadeUp bool              `json:"made_up,omitempty"`    // the inputs that trials were judged on
	Best   *compress.Trial   `json:"best"`
	Before *compress.Quality `json:"before,omitempty"` // on the samples that only judge
	After  *compress.Quality `json:"after,omitempty"`
	// Agreement is with the model as it was, on the made up inputs that judged where
	// there is no data; Doubt of these.
	Agreement *compress.Agreement `json:"agreement,omitempty"`
	Doubt     *compress.Doubt     `json:"doubt,omitempty"`
	// Alone are the trials of one kind of step that fit.
	Alone []*compress.Trial `json:"one_step_alone,omitempty"`
	Front []*compress.Trial `json:"front"`
	Tried []*compress.Trial `json:"tried"`
}

// write writes the model, its recipe, its report and the figures.
func (o *optimizing) write(ctx context.Context, best *compress.Trial, stem string) (*optimized, error) {
	s := &o.search
	file, err := s.Model(best)
	if err != nil {
		return nil, err
	}
	r := &optimized{Out: o.out, Budget: s.Budget, MadeUp: s.Choose == nil, Best: best, Tried: s.Tried(), Front: compress.Front(s.Tried())}
	r.Over, r.Bound = s.Budget.Misses(best)
	r.Fits = r.Over == 0
	for _, t := range r.Tried {
		if t.Recipe.Kinds() == 1 && s.Budget.Over(t) == 0 {
			r.Alone = append(r.Alone, t)
		}
	}
	if o.off != nil {
		judged := &compress.Samples{Set: o.off, Low: o.samples.Low, High: o.samples.High}
		for _, q := range []struct {
			file []byte
			to   **compress.Quality
		}{{o.file, &r.Before}, {file, &r.After}} {
			if *q.to, err = compress.Judge(ctx, q.file, "", o.data.library, s.Task, judged, nil); err != nil {
				return nil, err
			}
		}
	}
	if r.MadeUp {
		if err := o.doubt(ctx, r, file); err != nil {
			return nil, err
		}
	}
	deployed := file
	if s.Packed {
		if deployed, err = pack.Pack(file, nil); err != nil {
			return nil, err
		}
	}
	recipe, err := yaml.Marshal(best.Recipe)
	if err != nil {
		return nil, err
	}
	report, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeWhole(o.out, deployed), writeWhole(stem+".recipe.yaml", recipe), writeWhole(stem+".report.json", append(report, '\n'))); err != nil {
		return nil, err
	}
	return r, o.draw(r, stem)
}

// doubt says on what made up inputs the search judged, and whether others would
// say otherwise.
func (o *optimizing) doubt(ctx context.Context, r *optimized, file []byte) error {
	m, err := model.Read(o.given)
	if err != nil {
		return err
	}
	guess := compress.MadeUp(m, 100, 2)
	ground := o.search.Ground
	guess.Low, guess.High = ground.Low, ground.High
	a, err := compress.Compare(ctx, o.given, file, [2]string{}, o.data.library, guess)
	if err != nil {
		return err
	}
	r.Agreement = &a
	r.Doubt, err = compress.Doubted(ctx, o.given, file, [2]string{}, o.data.library, guess, a)
	return err
}

// draw writes quality over size and over time of all that was tried, and the
// bounds as lines; what no other beats has the number that it has in the list.
func (o *optimizing) draw(r *optimized, stem string) error {
	size := chart.Scatter{Title: "What was tried, by size", X: "bytes of the file", Y: "quality", LogX: true}
	time := chart.Scatter{Title: "What was tried, by time", X: "µs on the fastest delegate", Y: "quality", LogX: true}
	if b := r.Budget; b.Size > 0 {
		size.AtX = []chart.Bound{{At: float64(b.Size), Name: "most bytes"}}
	}
	if b := r.Budget; b.Micros > 0 {
		time.AtX = []chart.Bound{{At: b.Micros, Name: "most time"}}
	}
	if q, ok := r.Budget.Quality(r.Tried); ok {
		size.AtY = []chart.Bound{{At: q, Name: "most that may be lost"}}
		time.AtY = size.AtY
	}
	for i, t := range r.Tried {
		if t.Why != "" {
			continue
		}
		p := chart.Point{X: float64(t.Bytes), Y: t.Quality, Group: "tried"}
		if slices.Contains(r.Front, t) {
			p.Label, p.Group = fmt.Sprint(i+1), "no other beats it"
		}
		if t == r.Best {
			p.Label, p.Group = fmt.Sprint(i+1), "written"
		}
		size.Points = append(size.Points, p)
		if p.X = t.Micros; p.X > 0 {
			time.Points = append(time.Points, p)
		}
	}
	return writeFigures(stem, map[string]*chart.Drawing{"-size": size.Draw(), "-time": time.Draw()})
}

// text is the report for a reader.
func (r *optimized) text() string {
	var b strings.Builder
	line := func(t *compress.Trial) {
		fmt.Fprintf(&b, "%3d  %s\n", slices.Index(r.Tried, t)+1, trialLine(t, r.Budget))
	}
	b.WriteString("what no other beats, the smallest first:\n")
	for _, t := range r.Front {
		line(t)
	}
	switch {
	case !r.Fits:
		fmt.Fprintf(&b, "out of reach with %d recipes; the nearest is %.1f %% over --max-%s:\n", len(r.Tried), 100*r.Over, r.Bound)
	case len(r.Best.Recipe.Steps) == 0:
		b.WriteString("found; the model fits as it is, and that loses nothing:\n")
	case r.Best.Recipe.Kinds() < 2:
		b.WriteString("found; one kind of step alone is enough:\n")
	case len(r.Alone) > 0:
		fmt.Fprintf(&b, "found; one kind of step alone fits too (%s), and is not as good:\n", r.Alone[0].Recipe)
	default:
		b.WriteString("found; no step alone fits:\n")
	}
	line(r.Best)
	if r.After != nil {
		fmt.Fprintf(&b, "on %d samples that took no part: %s; before: %s\n", r.After.Samples, qualityLine(r.After), qualityLine(r.Before))
	}
	if r.MadeUp {
		fmt.Fprintf(&b, "what is lost was measured on %d made up inputs (%s), a guess of what it is on real data: give --data\n", r.Agreement.Samples, r.Agreement.Assumed)
		doubted(&b, r.Doubt)
	}
	fmt.Fprintf(&b, "%s: %d bytes\n", r.Out, r.Best.Bytes)
	return b.String()
}

// trialLine is a trial in a line: what it takes, what it loses, how.
func trialLine(t *compress.Trial, b compress.Budget) string {
	if t.Why != "" {
		return fmt.Sprintf("%-12s %s: %s", "-", t.Recipe, t.Why)
	}
	fits := "  "
	if b.Over(t) == 0 {
		fits = "ok"
	}
	micros := ""
	if t.Micros > 0 {
		micros = fmt.Sprintf("%9.1f µs", t.Micros)
	}
	return fmt.Sprintf("%s %9d B %s  loses %6.2f %%  %s", fits, t.Bytes, micros, 100*t.Drop, t.Recipe)
}
