package sensors

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// csvDecoder reads one line of comma-separated values. A payload with a
// header line before the values, a byte order mark, or R's quoted row number
// in front is understood too: sensors and scripts send all of these.
type csvDecoder struct {
	columns   []string
	take      []int // columns that are values
	names     []string
	is        []string // of a value that says whether its column is this text; "" of a number
	time, seq int      // -1: none
	format    string
	delimiter byte
	fields    []string
}

func newCSVDecoder(cfg InputConfig) *csvDecoder {
	d := &csvDecoder{columns: cfg.CSV.Columns, format: cfg.TimeFormat, delimiter: ',',
		time: slices.Index(cfg.CSV.Columns, cfg.Time), seq: slices.Index(cfg.CSV.Columns, cfg.Seq)}
	if cfg.CSV.Delimiter != "" {
		d.delimiter = cfg.CSV.Delimiter[0]
	}
	for i, name := range d.columns {
		taken := name != "-" && i != d.time && i != d.seq
		if len(cfg.CSV.Values) > 0 {
			taken = slices.Contains(cfg.CSV.Values, name)
		}
		if taken {
			d.take, d.names, d.is = append(d.take, i), append(d.names, name), append(d.is, "")
		}
		for _, v := range cfg.CSV.Values {
			if column, is, ok := oneOf(v); ok && column == name && !slices.Contains(d.columns, v) {
				d.take, d.names, d.is = append(d.take, i), append(d.names, v), append(d.is, is)
			}
		}
	}
	return d
}

// oneOf reads NAME=TEXT, which stands for 1 where NAME is that text and for 0
// elsewhere: how training makes inputs of a column of text.
func oneOf(value string) (name, text string, ok bool) {
	name, text, ok = strings.Cut(value, "=")
	return name, text, ok && name != "" && text != ""
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (d *csvDecoder) Names() []string { return d.names }

func (d *csvDecoder) Decode(payload []byte, s *Sample) error {
	line := unsafe.String(unsafe.SliceData(payload), len(payload))
	line = strings.TrimPrefix(line, "\ufeff")
	line = strings.TrimRight(line, "\r\n")
	if i := strings.IndexByte(line, '\n'); i >= 0 {
		if err := d.header(line[:i]); err != nil {
			return err
		}
		line = line[i+1:]
	}
	fields, err := d.split(line)
	if err != nil {
		return err
	}
	if len(fields) != len(d.columns) {
		return &Error{badCSV, fmt.Sprintf("the line has %d fields, there are %d columns", len(fields), len(d.columns))}
	}
	for k, i := range d.take {
		if d.is[k] != "" {
			s.Values = append(s.Values, truth(strings.TrimSpace(fields[i]) == d.is[k]))
			continue
		}
		v, err := parseNumber(unsafe.Slice(unsafe.StringData(fields[i]), len(fields[i])))
		if err != nil {
			return &Error{notANumber, fmt.Sprintf("column %s: %v", d.names[k], err)}
		}
		s.Values = append(s.Values, v)
	}
	if d.time >= 0 {
		if s.Time, err = parseTime(fields[d.time], d.format); err != nil {
			return err
		}
	}
	if d.seq >= 0 {
		if s.Seq, err = strconv.ParseUint(strings.TrimSpace(fields[d.seq]), 10, 64); err != nil {
			return &Error{notANumber, fmt.Sprintf("column %s: %q is no sequence number", d.columns[d.seq], short(fields[d.seq]))}
		}
		s.HasSeq = true
	}
	return nil
}

// header refuses a first line of two that holds values itself: only one line
// becomes a sample, and the other would be lost without a word.
func (d *csvDecoder) header(line string) error {
	fields, err := d.split(strings.TrimRight(line, "\r"))
	for k, i := range d.take {
		if err != nil || i >= len(fields) {
			return err
		}
		if d.is[k] != "" {
			continue
		}
		if _, err := strconv.ParseFloat(fields[i], 64); err != nil {
			return nil
		}
	}
	return &Error{badCSV, "the payload has more than one line of values"}
}

// split cuts a line into fields, without the row number that R puts quoted in
// front of each line and names in no header. encoding/csv would allocate a
// reader, a record and a string for each; a line is simpler than a file.
func (d *csvDecoder) split(line string) ([]string, error) {
	numbered := strings.HasPrefix(line, `"`)
	if err := d.cut(line); err != nil {
		return nil, err
	}
	if numbered && len(d.fields) == len(d.columns)+1 {
		if _, err := strconv.ParseUint(d.fields[0], 10, 64); err == nil {
			return d.fields[1:], nil
		}
	}
	return d.fields, nil
}

func (d *csvDecoder) cut(line string) error {
	d.fields = d.fields[:0]
	for {
		if len(d.fields) > 4096 {
			return &Error{badCSV, "the line has more than 4096 fields"}
		}
		if strings.HasPrefix(line, `"`) {
			end := strings.IndexByte(line[1:], '"')
			// A doubled quote is one of the text's own; it stays doubled, for
			// no number or time has one.
			for end >= 0 && strings.HasPrefix(line[end+2:], `"`) {
				if next := strings.IndexByte(line[end+3:], '"'); next >= 0 {
					end += 2 + next
				} else {
					end = -1
				}
			}
			if end < 0 {
				return &Error{badCSV, "a quote is not closed"}
			}
			d.fields = append(d.fields, line[1:end+1])
			if line = line[end+2:]; line == "" {
				return nil
			}
			if line[0] != d.delimiter {
				return &Error{badCSV, "text follows a closing quote"}
			}
			line = line[1:]
			continue
		}
		i := strings.IndexByte(line, d.delimiter)
		if i < 0 {
			d.fields = append(d.fields, line)
			return nil
		}
		d.fields = append(d.fields, line[:i])
		line = line[i+1:]
	}
}
