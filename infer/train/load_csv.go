package train

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CSVConfig says what the columns of a file are.
type CSVConfig struct {
	Target []string // the columns to learn; none: the inputs themselves, for an autoencoder
	Drop   []string // columns that are left out
	Time   string   // column with the time of a row; "": the first that looks like one
	// Regression takes a numeric target as values though it has few of them.
	Regression bool
	// Partial takes a target that has one value alone: others have the rest.
	Partial bool
	// Window gathers so many rows to one input, each a row after the last;
	// Ahead rows behind it are the targets (a forecast) where Target is empty.
	Window, Ahead int
	// From and Before bound the rows by their time; zero for no bound.
	From, Before time.Time
}

// Bounds of a table.
const (
	maxCSV        = 1 << 30 // bytes
	maxCategories = 64      // values of a text column
	maxColumns    = 4096
	maxCells      = 1 << 29 // of all inputs together
)

// LoadCSV reads a table with a header: numbers become inputs, text of few
// values one input a value, the target classes or values. A row with more
// fields than the header begins with its number, as R writes it. What each
// column became is returned beside the data.
func LoadCSV(path string, cfg CSVConfig) (*Dataset, []Column, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	d, columns, err := parseCSV(f, cfg)
	if err != nil {
		return nil, columns, fmt.Errorf("%s: %w", path, err)
	}
	d.Name = path
	return d, columns, nil
}

func parseCSV(r io.Reader, cfg CSVConfig) (*Dataset, []Column, error) {
	switch {
	case cfg.Window < 0 || cfg.Ahead < 0:
		return nil, nil, fmt.Errorf("a window of %d rows and %d ahead: neither is negative", cfg.Window, cfg.Ahead)
	case cfg.Ahead > 0 && cfg.Window == 0:
		return nil, nil, fmt.Errorf("%d rows ahead of no window: a forecast needs a window", cfg.Ahead)
	case cfg.Ahead > 0 && len(cfg.Target) > 0:
		return nil, nil, errors.New("a forecast learns all columns of the rows ahead; it takes no target, drop the columns that do not matter")
	}
	names, rows, err := readTable(r)
	if err != nil {
		return nil, nil, err
	}
	t := table{cfg: cfg, rows: rows}
	for i, n := range names {
		t.columns = append(t.columns, guess(n, i, rows))
	}
	if err := t.assign(); err != nil {
		return nil, t.columns, err
	}
	d, err := t.dataset()
	return d, t.columns, err
}

// readTable reads header and rows; the delimiter is the one of , ; tab and |
// that the header has most of.
func readTable(r io.Reader) (names []string, rows [][]string, err error) {
	text, err := io.ReadAll(io.LimitReader(r, maxCSV+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxCSV {
		return nil, nil, fmt.Errorf("is larger than %d bytes", maxCSV)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.HasPrefix(text, []byte{0, 0, 8}) || bytes.HasPrefix(text, []byte{0x1f, 0x8b}) {
		return nil, nil, errors.New("is no table of text: pictures in the form of MNIST (IDX, gzipped or not) are given with their labels' file, anything else that is gzipped is unpacked first")
	}
	if bytes.IndexByte(text[:min(len(text), 1<<16)], 0) >= 0 {
		return nil, nil, errors.New("is no table of text; a spreadsheet is saved as CSV (UTF-8) first")
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	c := csv.NewReader(bytes.NewReader(text))
	c.Comma = delimiter(first)
	c.FieldsPerRecord = -1
	c.TrimLeadingSpace = c.Comma != '\t' // of empty fields nothing would be left
	names, err = c.Read()
	if err != nil {
		return nil, nil, fmt.Errorf("no header: %w", err)
	}
	var lines []int
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, row)
		line, _ := c.FieldPos(0)
		lines = append(lines, line)
	}
	if len(rows) == 0 {
		return nil, nil, errors.New("has a header and no rows")
	}
	if len(rows[0]) == len(names)+1 {
		names = append([]string{rowNumber}, names...)
	} else if len(names) > 1 && names[0] == "" { // as pandas writes it
		names[0] = rowNumber
	}
	if !slices.ContainsFunc(names, func(n string) bool { _, err := strconv.ParseFloat(strings.TrimSpace(n), 64); return err != nil }) {
		return nil, nil, errors.New("its first line holds numbers alone; name the columns there")
	}
	if len(names) > maxColumns {
		return nil, nil, fmt.Errorf("%d columns are more than %d", len(names), maxColumns)
	}
	for i, row := range rows {
		if len(row) != len(names) {
			return nil, nil, fmt.Errorf("row %d, line %d, has %d fields, the header %d: remove it, or put text that holds %q in quotes", i+1, lines[i], len(row), len(names), c.Comma)
		}
	}
	for i, n := range names {
		names[i] = strings.TrimSpace(n)
		if slices.Contains(names[:i], names[i]) {
			return nil, nil, fmt.Errorf("two columns are called %q", names[i])
		}
	}
	return names, rows, nil
}

// rowNumber is the name of a column that R or pandas wrote in front.
const rowNumber = "#"

// delimiter is the one that a header has most of, outside of quotes.
func delimiter(header []byte) rune {
	counts := map[rune]int{}
	quoted := false
	for _, r := range string(header) {
		if r == '"' {
			quoted = !quoted
		} else if !quoted {
			counts[r]++
		}
	}
	best := ','
	for _, sep := range ";\t|" {
		if counts[sep] > counts[best] {
			best = sep
		}
	}
	return best
}

// table is columns on their way to a Dataset.
type table struct {
	cfg     CSVConfig
	columns []Column
	rows    [][]string
}

func (t *table) names() (list []string) {
	for _, c := range t.columns {
		list = append(list, c.Name)
	}
	return list
}

// assign decides what each column is used for.
func (t *table) assign() error {
	for _, n := range slices.Concat(t.cfg.Target, t.cfg.Drop, []string{t.cfg.Time}) {
		if n != "" && !slices.Contains(t.names(), n) {
			return &ColumnError{n, t.names()}
		}
	}
	hasTime := t.cfg.Time != ""
	inputs := 0
	for i := range t.columns {
		c := &t.columns[i]
		switch {
		case slices.Contains(t.cfg.Drop, c.Name):
			c.Use = "dropped"
		case slices.Contains(t.cfg.Target, c.Name):
			c.Use = "target"
			if c.Kind == "text" && c.odd != "" {
				return fmt.Errorf("target %q is of numbers, but %s: correct it, or remove the row", c.Name, c.odd)
			}
			if c.Kind == "text" && c.Values == nil {
				return fmt.Errorf("target %q is text of more than %d values", c.Name, maxCategories)
			}
			if c.Kind == "time" {
				return fmt.Errorf("target %q is a time", c.Name)
			}
			if c.Empty > 0 {
				return fmt.Errorf("target %q is empty in %d rows, the first of them row %d: fill or remove them", c.Name, c.Empty, c.hole)
			}
			if len(c.Values) == 1 && !t.cfg.Partial {
				return fmt.Errorf("target %q is %s in every row: there is nothing to learn", c.Name, c.Values[0])
			}
		case c.Name == t.cfg.Time, c.Kind == "time" && !hasTime && c.Empty == 0:
			if c.Kind != "time" {
				return fmt.Errorf("column %q holds no times", c.Name)
			}
			if c.Empty > 0 {
				return fmt.Errorf("the time %q is empty in %d rows, the first of them row %d: fill or remove them", c.Name, c.Empty, c.hole)
			}
			c.Use, hasTime = "time", true
		case c.Kind == "time", c.Name == rowNumber:
			c.Use = "dropped"
		case c.odd != "" && c.Kind == "text":
			return fmt.Errorf("column %q is of numbers, but %s: correct it, leave it empty, or drop the column", c.Name, c.odd)
		case c.Kind == "text" && c.Values == nil:
			c.Use = "dropped" // a name of each row
		case len(c.Values) < 2 && c.Values != nil || c.Empty == len(t.rows):
			c.Use = "constant"
		default:
			c.Use = "input"
			inputs++
		}
	}
	if inputs == 0 {
		return errors.New("no column is left as an input")
	}
	if len(t.cfg.Target) > 1 {
		for i := range t.columns {
			if c := &t.columns[i]; c.Use == "target" && c.Kind == "text" {
				return fmt.Errorf("target %q is text; of several targets each must be a number", c.Name)
			}
		}
	}
	return nil
}

// dataset makes numbers of the rows.
func (t *table) dataset() (*Dataset, error) {
	d := &Dataset{}
	var inputs, targets []int
	when := -1
	for i, c := range t.columns {
		switch c.Use {
		case "input":
			inputs = append(inputs, i)
			if c.Kind == "text" {
				for _, v := range c.Values {
					d.Features = append(d.Features, c.Name+"="+v)
				}
			} else {
				d.Features = append(d.Features, c.Name)
			}
		case "target":
			targets = append(targets, i)
		case "time":
			when = i
		}
	}
	d.Shape = Shape{len(d.Features)}
	classes := len(targets) == 1 && !t.cfg.Regression && t.columns[targets[0]].Values != nil && classLike(t.columns[targets[0]])
	if classes {
		d.Classes = t.columns[targets[0]].Values
	} else {
		d.Width = len(targets)
	}
	if len(d.Features)*len(t.rows) > maxCells {
		return nil, fmt.Errorf("%d rows of %d inputs are more than %d values; drop columns of text", len(t.rows), len(d.Features), maxCells)
	}
	last := t.firsts(inputs) // what stands in for an empty field: the value before
	for _, row := range t.rows {
		for _, i := range inputs {
			d.Values = t.appendInput(d.Values, i, row[i], last)
		}
		switch {
		case classes:
			d.Labels = append(d.Labels, int32(slices.Index(d.Classes, strings.TrimSpace(row[targets[0]]))))
		default:
			for _, i := range targets {
				v, err := strconv.ParseFloat(strings.TrimSpace(row[i]), 32)
				if err != nil {
					return nil, fmt.Errorf("target %q: %w", t.columns[i].Name, err)
				}
				d.Targets = append(d.Targets, float32(v))
			}
		}
		if when >= 0 {
			at, ok := ParseTime(strings.TrimSpace(row[when]))
			if !ok {
				return nil, fmt.Errorf("column %q: a row has no time", t.columns[when].Name)
			}
			d.Times = append(d.Times, at)
		}
	}
	d, err := d.Between(t.cfg.From, t.cfg.Before)
	if err != nil {
		return nil, err
	}
	if t.cfg.Window > 0 {
		return d.windows(t.cfg.Window, t.cfg.Ahead)
	}
	if len(targets) == 0 { // an autoencoder answers with its input
		d.Targets, d.Width = slices.Clone(d.Values), len(d.Features)
	}
	return d, d.Check()
}

// firsts are the first values of the columns that are numbers: for the empty
// fields before them.
func (t *table) firsts(inputs []int) []float32 {
	list := make([]float32, len(t.columns))
	for _, i := range inputs {
		for _, row := range t.rows {
			if f := strings.TrimSpace(row[i]); t.columns[i].Kind == "number" && !missing(f) {
				t.appendInput(nil, i, f, list)
				break
			}
		}
	}
	return list
}

func (t *table) appendInput(v []float32, i int, field string, last []float32) []float32 {
	field = strings.TrimSpace(field)
	c := &t.columns[i]
	if c.Kind == "text" {
		for _, value := range c.Values {
			one := float32(0)
			if value == field {
				one = 1
			}
			v = append(v, one)
		}
		return v
	}
	if !missing(field) {
		if x, err := strconv.ParseFloat(field, 64); err == nil {
			last[i] = float32(x)
		}
	}
	return append(v, last[i])
}

// windows gathers size rows to one input. With ahead the targets are all the
// features of the ahead rows behind the window; without, those of the last row
// of the window where there are any, else the window itself.
func (d *Dataset) windows(size, ahead int) (*Dataset, error) {
	n, w := d.Len(), product(d.Shape)
	if ahead < 0 || size < 1 || size+ahead > n {
		return nil, fmt.Errorf("windows of %d rows and %d ahead: there are %d rows", size, ahead, n)
	}
	out := &Dataset{Name: d.Name, Shape: Shape{size * w}, Row: w, Classes: d.Classes, Width: d.Width}
	for k := range size {
		for _, f := range d.Features {
			out.Features = append(out.Features, fmt.Sprintf("%s[%d]", f, k-size+1))
		}
	}
	for from := 0; from+size+ahead <= n; from++ {
		end := from + size
		out.Values = append(out.Values, d.Values[from*w:end*w]...)
		switch {
		case ahead > 0:
			out.Width = ahead * w
			out.Targets = append(out.Targets, d.Values[end*w:(end+ahead)*w]...)
		case d.Labels != nil:
			out.Labels = append(out.Labels, d.Labels[end-1])
		case d.Targets != nil:
			out.Targets = append(out.Targets, d.Targets[(end-1)*d.Width:end*d.Width]...)
		default:
			out.Width = size * w
			out.Targets = append(out.Targets, d.Values[from*w:end*w]...)
		}
		if d.Times != nil {
			out.Times = append(out.Times, d.Times[end-1])
		}
		out.Spans = append(out.Spans, Span{0, int64(from), int64(end + ahead - 1)})
	}
	return out, out.Check()
}
