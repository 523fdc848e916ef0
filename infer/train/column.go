package train

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Column is what was made of one.
type Column struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind"` // number, text, time
	Use    string   `json:"use"`  // input, target, time, dropped, constant
	Values []string `json:"values,omitempty"`
	Low    float64  `json:"low"`
	High   float64  `json:"high"`
	Empty  int      `json:"empty,omitempty"`

	hole int    // the first row where it is empty, counted from 1
	odd  string // of a column of numbers, but for some: where the first of those is
}

// ColumnError is a column that is not there.
type ColumnError struct {
	Name    string
	Columns []string // those that are
}

func (e *ColumnError) Error() string {
	return fmt.Sprintf("there is no column %q; there are %s", e.Name, strings.Join(e.Columns, ", "))
}

// timeLayouts are those that a column is tried with.
var timeLayouts = []string{"2006-01-02 15:04:05", time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02", "02.01.2006 15:04:05", "1/2/2006 15:04", "1/2/2006"}

// ParseTime reads a time as a column of times may have it; without a zone it is
// UTC.
func ParseTime(s string) (time.Time, bool) {
	for _, l := range timeLayouts {
		if t, err := time.Parse(l, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// guess looks at every value of a column: all numbers, all times, or text.
func guess(name string, i int, rows [][]string) Column {
	c := Column{Name: name, Kind: "number"}
	seen := map[string]bool{}
	numbers, times, first := true, true, true
	odd := 0 // values that are no numbers
	for k, row := range rows {
		v := strings.TrimSpace(row[i])
		if missing(v) {
			if c.Empty++; c.hole == 0 {
				c.hole = k + 1
			}
			continue
		}
		if len(seen) <= maxCategories {
			seen[v] = true
		}
		if x, err := strconv.ParseFloat(v, 64); err != nil || x-x != 0 {
			if odd++; odd == 1 {
				c.odd = fmt.Sprintf("row %d holds %q", k+1, short(v))
			}
			numbers = false
		} else if numbers {
			if first {
				c.Low, c.High = x, x
			}
			c.Low, c.High, first = min(c.Low, x), max(c.High, x), false
		}
		if times {
			_, times = ParseTime(v)
		}
		if odd > 1+len(rows)/20 && !times && len(seen) > maxCategories {
			break
		}
	}
	if odd > 1+len(rows)/20 || len(seen) <= maxCategories {
		c.odd = ""
	}
	switch {
	case len(seen) == 0, numbers:
	case times:
		c.Kind = "time"
	default:
		c.Kind = "text"
	}
	if c.Kind != "number" {
		c.Low, c.High = 0, 0
	}
	if len(seen) <= maxCategories {
		for v := range seen {
			c.Values = append(c.Values, v)
		}
		sortValues(c.Values)
	}
	return c
}

// short is text for an error.
func short(v string) string {
	if len(v) > 40 {
		return strings.ToValidUTF8(v[:40], "") + "…"
	}
	return v
}

func missing(v string) bool {
	return v == "" || strings.EqualFold(v, "na") || strings.EqualFold(v, "nan") || strings.EqualFold(v, "null") || v == "?"
}

// sortValues puts numbers in their order, other text behind, after the
// alphabet.
func sortValues(v []string) {
	slices.SortFunc(v, func(a, b string) int {
		x, errX := strconv.ParseFloat(a, 64)
		y, errY := strconv.ParseFloat(b, 64)
		switch {
		case errX == nil && errY == nil && x < y, errX == nil && errY != nil:
			return -1
		case errX == nil && errY == nil && x > y, errX != nil && errY == nil:
			return 1
		}
		return strings.Compare(a, b)
	})
}

// classLike says whether a target's values are names of classes: text, or a
// few whole numbers.
func classLike(c Column) bool {
	if c.Kind == "text" {
		return true
	}
	for _, v := range c.Values {
		if _, err := strconv.Atoi(v); err != nil {
			return false
		}
	}
	return len(c.Values) <= 20
}
