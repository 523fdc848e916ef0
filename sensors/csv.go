package sensors

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// csvDecoder reads one line of comma-separated values. A payload with a
// header line before the values, a byte order mark, or an unnamed row number
// in front is understood too: sensors and scripts send all of these.
type csvDecoder struct {
	columns   []string
	take      []int // columns that are values
	names     []string
	time, seq int // -1: none
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
			d.take = append(d.take, i)
			d.names = append(d.names, name)
		}
	}
	return d
}

func (d *csvDecoder) Names() []string { return d.names }

func (d *csvDecoder) Decode(_ string, payload []byte, s *Sample) (bool, error) {
	line := unsafe.String(unsafe.SliceData(payload), len(payload))
	line = strings.TrimPrefix(line, "\ufeff")
	line = strings.TrimRight(line, "\r\n")
	if i := strings.LastIndexByte(line, '\n'); i >= 0 {
		line = line[i+1:]
	}
	if err := d.split(line); err != nil {
		return false, err
	}
	fields := d.fields
	if len(fields) == len(d.columns)+1 {
		fields = fields[1:] // a row number without a name
	}
	if len(fields) != len(d.columns) {
		return false, &Error{badCSV, fmt.Sprintf("the line has %d fields, there are %d columns", len(fields), len(d.columns))}
	}
	for k, i := range d.take {
		v, err := parseNumber(unsafe.Slice(unsafe.StringData(fields[i]), len(fields[i])))
		if err != nil {
			return false, &Error{notANumber, fmt.Sprintf("column %s: %v", d.names[k], err)}
		}
		s.Values = append(s.Values, v)
	}
	var err error
	if d.time >= 0 {
		if s.Time, err = parseTime(fields[d.time], d.format); err != nil {
			return false, err
		}
	}
	if d.seq >= 0 {
		if s.Seq, err = strconv.ParseUint(strings.TrimSpace(fields[d.seq]), 10, 64); err != nil {
			return false, &Error{notANumber, fmt.Sprintf("column %s: %q is no sequence number", d.columns[d.seq], short(fields[d.seq]))}
		}
		s.HasSeq = true
	}
	return true, nil
}

// split cuts a line into fields. encoding/csv would allocate a reader, a
// record and a string for each; a line is simpler than a file.
func (d *csvDecoder) split(line string) error {
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

// parseTime reads a time: auto knows seconds, milli-, micro- and nanoseconds
// since 1970 by their size, RFC 3339, and "2006-01-02 15:04:05" as UTC.
func parseTime(text, format string) (time.Time, error) {
	text = strings.TrimSpace(text)
	bad := func() (time.Time, error) {
		return time.Time{}, &Error{badTime, fmt.Sprintf("%q is no time (%s)", short(text), format)}
	}
	number, err := strconv.ParseFloat(text, 64)
	if err == nil && !(number >= 0 && number < 1e19) {
		return bad()
	}
	isNumber := err == nil
	switch format {
	case "", "auto":
		if !isNumber {
			for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05"} {
				if t, err := time.Parse(layout, text); err == nil {
					return t, nil
				}
			}
			return bad()
		}
		unit := time.Nanosecond
		switch {
		case number < 1e11:
			unit = time.Second
		case number < 1e14:
			unit = time.Millisecond
		case number < 1e17:
			unit = time.Microsecond
		}
		return since1970(text, number, unit), nil
	case "unix", "unix_ms":
		unit := time.Second
		if format == "unix_ms" {
			unit = time.Millisecond
		}
		if !isNumber || number*unit.Seconds() > lastSecond {
			return bad()
		}
		return since1970(text, number, unit), nil
	case "rfc3339":
		format = time.RFC3339Nano
	}
	t, err := time.Parse(format, text)
	if err != nil {
		return bad()
	}
	return t, nil
}

// lastSecond is the end of the year 9999: later times have no RFC 3339 form.
const lastSecond = 253402300799

// since1970 is exact for whole numbers; others are rounded to microseconds,
// which is what a float64 can hold of today's times.
func since1970(text string, number float64, unit time.Duration) time.Time {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		per := int64(time.Second / unit)
		return time.Unix(n/per, n%per*int64(unit)).UTC()
	}
	number *= unit.Seconds()
	whole := int64(number)
	return time.Unix(whole, int64((number-float64(whole))*1e9)).UTC().Round(time.Microsecond)
}
