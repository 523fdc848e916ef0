package sensors

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseTime reads a time as readTime does, of the years that RFC 3339 has.
func parseTime(text, format string) (time.Time, error) {
	t, err := readTime(text, format)
	if y := t.UTC().Year(); err == nil && (y < 1 || y > 9999) {
		err = &Error{badTime, fmt.Sprintf("%q is out of range", short(text))}
	}
	return t, err
}

// readTime reads a time: auto knows seconds, milli-, micro- and nanoseconds
// since 1970 by their size, RFC 3339, and "2006-01-02 15:04:05" as UTC.
func readTime(text, format string) (time.Time, error) {
	text = strings.TrimSpace(text)
	switch format {
	case "", "auto":
		if strings.IndexByte(text, ':') < 0 {
			return sinceEpoch(text, format, 0)
		}
		layouts := []string{time.RFC3339Nano, "2006-01-02T15:04:05"}
		if len(text) > 10 && text[10] == ' ' {
			layouts = []string{time.DateTime}
		}
		for _, layout := range layouts {
			if t, err := time.Parse(layout, text); err == nil {
				return t, nil
			}
		}
		return noTime(text, format)
	case "unix":
		return sinceEpoch(text, format, time.Second)
	case "unix_ms":
		return sinceEpoch(text, format, time.Millisecond)
	case "rfc3339":
		format = time.RFC3339Nano
	}
	t, err := time.Parse(format, text)
	if err != nil {
		return noTime(text, format)
	}
	return t, nil
}

func noTime(text, format string) (time.Time, error) {
	return time.Time{}, &Error{badTime, fmt.Sprintf("%q is no time (%s)", short(text), format)}
}

// sinceEpoch reads a number of units since 1970; 0 takes the unit that fits
// the number's size.
func sinceEpoch(text, format string, unit time.Duration) (time.Time, error) {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || !(number >= 0 && number < 1e19) {
		return noTime(text, format)
	}
	if unit == 0 {
		switch {
		case number < 1e11:
			unit = time.Second
		case number < 1e14:
			unit = time.Millisecond
		case number < 1e17:
			unit = time.Microsecond
		default:
			unit = time.Nanosecond
		}
	}
	if number*unit.Seconds() > lastSecond {
		return noTime(text, format)
	}
	return since1970(text, number, unit), nil
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
