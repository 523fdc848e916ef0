package pipeline

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends r as one JSON object (docs/result.schema.json) and
// returns the longer slice. Numbers that are not finite become null.
func (r *Result) AppendJSON(b []byte) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, r.ID)
	b = append(b, `,"stream":`...)
	b = appendString(b, r.Stream)
	b = append(b, `,"source":`...)
	b = appendString(b, r.Source)
	b = append(b, `,"time":`...)
	from := len(b)
	b = appendTime(b, r.Time)
	text := b[from:]
	b = append(b, `,"received":`...)
	if r.Received == r.Time { // as with most payloads, which name no time
		b = append(b, text...)
	} else {
		b = appendTime(b, r.Received)
	}
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, r.Seq, 10)
	if r.Infer.Model != "" {
		b = r.appendInference(b)
	}
	if len(r.Features) > 0 {
		b = append(b, `,"features":{`...)
		for i, f := range r.Features {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, f.Name)
			b = append(b, ':')
			b = appendNumber(b, f.Value)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func (r *Result) appendInference(b []byte) []byte {
	inf := &r.Infer
	b = append(b, `,"model":`...)
	b = appendString(b, inf.Model)
	if inf.Version != "" {
		b = append(b, `,"version":`...)
		b = appendString(b, inf.Version)
	}
	b = append(b, `,"delegate":`...)
	b = appendString(b, inf.Delegate)
	if inf.Label != "" {
		b = append(b, `,"label":`...)
		b = appendString(b, inf.Label)
	}
	b = append(b, `,"score":`...)
	b = appendNumber(b, inf.Score)
	if len(inf.Top) > 0 {
		b = append(b, `,"top":[`...)
		for i, c := range inf.Top {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"label":`...)
			b = appendString(b, c.Label)
			b = append(b, `,"score":`...)
			b = appendNumber(b, c.Score)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	if inf.Objects != nil {
		b = append(b, `,"objects":[`...)
		for i, o := range inf.Objects {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"label":`...)
			b = appendString(b, o.Label)
			b = append(b, `,"score":`...)
			b = appendNumber(b, o.Score)
			b = append(b, `,"box":[`...)
			for k, v := range o.Box {
				if k > 0 {
					b = append(b, ',')
				}
				b = appendNumber(b, v)
			}
			b = append(b, "]}"...)
		}
		b = append(b, ']')
	}
	if len(inf.Values) > 0 {
		b = append(b, `,"values":[`...)
		for i, v := range inf.Values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendNumber(b, v)
		}
		b = append(b, ']')
	}
	b = append(b, `,"took_us":`...)
	return strconv.AppendInt(b, inf.Took.Microseconds(), 10)
}

// appendNumber writes the shortest text that reads back as v; a model's
// output is a float32 and is written as such, without a float64's noise.
func appendNumber(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.AppendInt(b, int64(v), 10)
	}
	if float64(float32(v)) == v {
		return strconv.AppendFloat(b, v, 'g', -1, 32)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// appendTime writes t as RFC 3339 with microseconds. RFC3339 itself has a
// quick way in package time, a layout with a fraction of fixed width has not.
func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339)
	b = append(b[:len(b)-1], ".000000Z\""...)
	micros := t.Nanosecond() / 1000
	for i := len(b) - 3; micros > 0; i-- {
		b[i] = byte('0' + micros%10)
		micros /= 10
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string; bytes that are no UTF-8 become
// U+FFFD, as encoding/json does it.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, `\ufffd`...)
			i++
			start = i
			continue
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
