package compress

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"edgegateway/infer"
)

// Evaluation is all that is said of one model.
type Evaluation struct {
	Name      string                  `json:"name"`
	File      string                  `json:"file"`
	Quality   *Quality                `json:"quality,omitempty"`
	Agreement *Agreement              `json:"agreement,omitempty"` // with the first model
	Cost      Cost                    `json:"cost"`
	Latency   []infer.CandidateReport `json:"latency,omitempty"` // of every delegate on this box
}

// Best is the fastest delegate that is right, "" and 0 without any. How many
// threads it takes is in its name.
func (e *Evaluation) Best() (name string, micros float64) {
	for _, c := range e.Latency {
		if c.OK && c.Micros > 0 && (micros == 0 || c.Micros < micros) {
			name, micros = c.Name, c.Micros
		}
	}
	return name, micros
}

// Figure is a measure of quality: the first of a task is the one to look at.
type Figure struct {
	Name  string
	Value float64
	Share bool // shown as %
}

// Figures are those that the task has.
func (q *Quality) Figures() (list []Figure) {
	add := func(name string, v float64, share bool) {
		if v-v == 0 {
			list = append(list, Figure{name, v, share})
		}
	}
	switch q.Task {
	case Classes:
		add("top1", q.Top1, true)
		if len(q.Confused) > 0 && len(q.Confused[0]) > 5 {
			add("top5", q.Top5, true)
		}
	case Reconstruction:
	default:
		add("mae", q.MAE, false)
		add("rmse", q.RMSE, false)
		add("r2", q.R2, false)
		if q.Task == Forecast {
			add("persistence_mae", q.Persistence, false)
		}
	}
	if q.Ranked {
		add("auc", q.AUC, false)
		add("pr", q.PR, false)
	}
	if q.Task == Reconstruction {
		add("mae", q.MAE, false)
		add("rmse", q.RMSE, false)
	}
	return list
}

// MarshalJSON writes the figures that the task has, and no others.
func (q *Quality) MarshalJSON() ([]byte, error) {
	v := map[string]any{"task": q.Task, "samples": q.Samples}
	for _, f := range q.Figures() {
		v[f.Name] = f.Value
	}
	if q.Task == Classes {
		v["classes"], v["confusion"] = q.Classes, q.Confused
	}
	if q.Baseline != nil {
		v["baseline"] = q.Baseline
	}
	if q.Scores != nil {
		v["scores"] = q.Scores
	}
	return json.Marshal(v)
}

func (f Figure) text() string {
	if f.Share {
		return fmt.Sprintf("%.2f %%", 100*f.Value)
	}
	return fmt.Sprintf("%.4g", f.Value)
}

// Table is a row a model and then a row a delegate, as text in columns or as
// Markdown.
func Table(list []Evaluation, markdown bool) string {
	rows := [][]string{{"MODEL"}}
	figures := map[string]bool{}
	for _, e := range list {
		if e.Quality != nil {
			for _, f := range e.Quality.Figures() {
				if !figures[f.Name] {
					figures[f.Name] = true
					rows[0] = append(rows[0], strings.ToUpper(strings.ReplaceAll(f.Name, "_", " ")))
				}
			}
		}
	}
	named := append([]string{}, rows[0][1:]...)
	agree := false
	for _, e := range list {
		agree = agree || e.Agreement != nil
	}
	if agree {
		rows[0] = append(rows[0], "SAME TOP1", "DIFFERENCE")
	}
	rows[0] = append(rows[0], "BYTES", "ZIPPED")
	packed := slices.ContainsFunc(list, func(e Evaluation) bool { return e.Cost.Packed > 0 })
	if packed {
		rows[0] = append(rows[0], "PACKED")
	}
	rows[0] = append(rows[0], "WEIGHT BYTES", "MULTIPLY-ADDS", "PEAK VALUES", "BEST TIME", "ON")
	for i := range list {
		e := &list[i]
		row := []string{e.Name}
		for _, n := range named {
			cell := "-"
			if e.Quality != nil {
				for _, f := range e.Quality.Figures() {
					if strings.ToUpper(strings.ReplaceAll(f.Name, "_", " ")) == n {
						cell = f.text()
					}
				}
			}
			row = append(row, cell)
		}
		if agree {
			if a := e.Agreement; a != nil {
				row = append(row, a.top1Text(), fmt.Sprintf("%.3g", a.MeanAbs))
			} else {
				row = append(row, "-", "-")
			}
		}
		on, us := e.Best()
		best := "-"
		if us > 0 {
			best = microsText(us)
		}
		row = append(row, grouped(e.Cost.Bytes), grouped(e.Cost.Zipped))
		if packed && e.Cost.Packed > 0 {
			row = append(row, grouped(e.Cost.Packed))
		} else if packed {
			row = append(row, "-")
		}
		rows = append(rows, append(row, grouped(e.Cost.Parts.Weights), grouped(e.Cost.MACs), grouped(e.Cost.Peak), best, orDash(on)))
	}
	rows = append(rows, baselineRow(list, named, len(rows[0]))...)
	out := layout(rows, markdown)
	if delegates := latencyRows(list); len(delegates) > 1 {
		out += "\n" + layout(delegates, markdown)
	}
	return out
}

// baselineRow is what one threshold gives beside the models, none where nobody
// asked.
func baselineRow(list []Evaluation, named []string, width int) [][]string {
	if len(list) == 0 || list[0].Quality == nil || list[0].Quality.Baseline == nil {
		return nil
	}
	b := list[0].Quality.Baseline
	row := []string{b.Rule + " (chosen on these samples)"}
	for _, n := range named {
		switch n {
		case "TOP1":
			row = append(row, Figure{"", b.Top1, true}.text())
		case "AUC":
			row = append(row, Figure{"", b.AUC, false}.text()+" by "+b.Order)
		default:
			row = append(row, "-")
		}
	}
	for len(row) < width {
		row = append(row, "-")
	}
	return [][]string{row}
}

func latencyRows(list []Evaluation) [][]string {
	rows := [][]string{{"DELEGATE"}}
	at := map[string]int{}
	for i := range list {
		rows[0] = append(rows[0], list[i].Name)
		for _, c := range list[i].Latency {
			if at[c.Name] == 0 {
				at[c.Name] = len(rows)
				rows = append(rows, []string{c.Name})
			}
			r := &rows[at[c.Name]]
			for len(*r) <= i {
				*r = append(*r, "-")
			}
			cell := "no: " + cut(c.Why, 40)
			if c.OK {
				cell = microsText(c.Micros)
			}
			*r = append(*r, cell)
		}
	}
	for i := range rows {
		for len(rows[i]) < len(rows[0]) {
			rows[i] = append(rows[i], "-")
		}
	}
	return rows
}

func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func microsText(us float64) string {
	if us >= 1000 {
		return fmt.Sprintf("%.2f ms", us/1000)
	}
	return fmt.Sprintf("%.1f µs", us)
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// top1Text is how often the first class is the same, a dash where the outputs
// are no classes.
func (a Agreement) top1Text() string {
	if !a.Classes {
		return "-"
	}
	return Figure{"", a.Top1, true}.text()
}

// String says it in a sentence: "same first class in 98.00 % of 50 samples; outputs
// differ by 0.01 on average, 1.00 % of the range".
func (a Agreement) String() string {
	on := fmt.Sprintf("%d samples", a.Samples)
	if a.MadeUp {
		on = fmt.Sprintf("%d made up inputs, a guess of what it is on real data", a.Samples)
		if a.Assumed != "" {
			on = fmt.Sprintf("%d made up inputs (%s), a guess of what it is on real data", a.Samples, a.Assumed)
		}
	}
	if a.Classes {
		return fmt.Sprintf("same first class in %.2f %% of %s; outputs differ by %.3g on average, %.2f %% of the range", 100*a.Top1, on, a.MeanAbs, 100*a.Relative())
	}
	return fmt.Sprintf("outputs of %s: they differ by %.3g on average, %.2f %% of the range", on, a.MeanAbs, 100*a.Relative())
}

// layout sets rows, the first of them the heading.
func layout(rows [][]string, markdown bool) string {
	var b strings.Builder
	if markdown {
		for i, r := range rows {
			for k := range r {
				r[k] = strings.ReplaceAll(r[k], "|", "\\|")
			}
			b.WriteString("| " + strings.Join(r, " | ") + " |\n")
			if i == 0 {
				b.WriteString(strings.Repeat("|---", len(r)) + "|\n")
			}
		}
		return b.String()
	}
	w := tabwriter.NewWriter(&b, 2, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	w.Flush()
	var trimmed strings.Builder
	for line := range strings.Lines(b.String()) {
		trimmed.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return trimmed.String()
}
