package sensors

import (
	"bytes"
	"fmt"
	"strconv"
	"unsafe"

	"github.com/tidwall/gjson"
)

// maxDepth is how deep a JSON payload may nest: the parser is recursive.
const maxDepth = 64

// jsonDecoder takes numbers out of a JSON payload.
type jsonDecoder struct {
	paths  []path
	names  []string
	time   *path
	seq    *path
	format string
}

func newJSONDecoder(cfg InputConfig) *jsonDecoder {
	d := &jsonDecoder{format: cfg.TimeFormat, time: optionalPath(cfg.Time), seq: optionalPath(cfg.Seq)}
	for _, text := range cfg.JSON {
		p, _ := parsePath(text) // checked by Validate
		d.paths = append(d.paths, p)
		d.names = append(d.names, text)
	}
	for _, p := range d.paths {
		if p.spread {
			d.names = nil
		}
	}
	return d
}

func (d *jsonDecoder) Names() []string { return d.names }

func (d *jsonDecoder) Decode(payload []byte, s *Sample) error {
	if err := checkJSON(payload); err != nil {
		return err
	}
	// The payload is not changed while the sample is read from it.
	text := unsafe.String(unsafe.SliceData(payload), len(payload))
	for i := range d.paths {
		p := &d.paths[i]
		v := gjson.Get(text, p.gjson)
		if !v.Exists() {
			return &Error{missingField, fmt.Sprintf("there is nothing at %q", p.name)}
		}
		if p.is != "" {
			s.Values = append(s.Values, truth(v.String() == p.is))
			continue
		}
		var err error
		if p.spread {
			if !v.IsArray() {
				return &Error{notANumber, fmt.Sprintf("%q is no array", p.name)}
			}
			if values, ok := appendNumbers(s.Values, v.Raw); ok {
				s.Values = values
				continue
			}
			v.ForEach(func(_, e gjson.Result) bool {
				var f float64
				f, err = numberOf(e, p.name)
				s.Values = append(s.Values, f)
				return err == nil
			})
		} else {
			var f float64
			f, err = numberOf(v, p.name)
			s.Values = append(s.Values, f)
		}
		if err != nil {
			return err
		}
	}
	return stamp(text, d.time, d.seq, d.format, s)
}

// stamp takes time and sequence from the payload.
func stamp(text string, at, seq *path, format string, s *Sample) (err error) {
	if at != nil {
		v := gjson.Get(text, at.gjson)
		if !v.Exists() {
			return &Error{missingField, fmt.Sprintf("there is no time at %q", at.name)}
		}
		if s.Time, err = parseTime(v.String(), format); err != nil {
			return err
		}
	}
	if seq != nil {
		v := gjson.Get(text, seq.gjson)
		n, err := strconv.ParseUint(v.String(), 10, 64)
		if err != nil {
			return &Error{missingField, fmt.Sprintf("there is no sequence number at %q", seq.name)}
		}
		s.Seq, s.HasSeq = n, true
	}
	return nil
}

func numberOf(v gjson.Result, name string) (float64, error) {
	switch v.Type {
	case gjson.Number:
		if v.Num-v.Num == 0 {
			return v.Num, nil
		}
	case gjson.True:
		return 1, nil
	case gjson.False:
		return 0, nil
	case gjson.String:
		if f, err := parseNumber(unsafe.Slice(unsafe.StringData(v.Str), len(v.Str))); err == nil {
			return f, nil
		}
	}
	if v.IsArray() {
		return 0, &Error{notANumber, fmt.Sprintf("%q is an array; %s[*] takes its numbers, %s[0] the first", name, name, name)}
	}
	return 0, &Error{notANumber, fmt.Sprintf("%q is %s, no number", name, short(v.Raw))}
}

// appendNumbers appends the numbers of an array of valid JSON. It says no
// where something else than finite numbers is in it.
func appendNumbers(dst []float64, array string) ([]float64, bool) {
	from := len(dst)
	for rest := array[1:]; ; {
		i := 0
		for rest[i] <= ' ' {
			i++
		}
		rest = rest[i:]
		if rest[0] == ']' {
			return dst, true
		}
		if c := rest[0]; c != '-' && (c < '0' || c > '9') {
			return dst[:from], false
		}
		v, n := quickNumber(rest)
		if n == 0 {
			for n = 1; rest[n] > ' ' && rest[n] != ',' && rest[n] != ']'; n++ {
			}
			var err error
			if v, err = strconv.ParseFloat(rest[:n], 64); err != nil {
				return dst[:from], false
			}
		}
		dst = append(dst, v)
		for rest[n] <= ' ' {
			n++
		}
		if rest[n] == ',' {
			n++
		}
		rest = rest[n:]
	}
}

// quickNumber reads a JSON number of at most 15 digits without an exponent
// and says how long it is, 0 where it is another kind. The digits as a whole
// number and the power of ten are exact then, so their quotient is rounded
// once and equals what strconv.ParseFloat gives (Clinger 1990).
func quickNumber(s string) (v float64, n int) {
	negative := s[0] == '-'
	if negative {
		n++
	}
	start, point := n, 0
	var digits uint64
	for ; n < len(s); n++ {
		c := s[n]
		if c-'0' <= 9 {
			digits = digits*10 + uint64(c-'0')
			continue
		}
		if c != '.' || point > 0 {
			break
		}
		point = n + 1
	}
	if n-start > 15 || n < len(s) && s[n]|0x20 == 'e' {
		return 0, 0
	}
	v = float64(digits)
	if point > 0 {
		v /= powersOfTen[n-point]
	}
	if negative {
		v = -v
	}
	return v, n
}

var powersOfTen = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// checkJSON refuses what is no JSON or nests too deep.
func checkJSON(b []byte) error {
	// Few brackets cannot nest deep; to count them is quicker than to follow.
	if bytes.Count(b, []byte{'{'})+bytes.Count(b, []byte{'['}) > maxDepth && tooDeep(b) {
		return &Error{badJSON, fmt.Sprintf("the JSON nests deeper than %d", maxDepth)}
	}
	if !gjson.ValidBytes(b) {
		return &Error{badJSON, fmt.Sprintf("%q is no JSON", short(string(b[:min(len(b), 41)])))}
	}
	return nil
}

func tooDeep(b []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
