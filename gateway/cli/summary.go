package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// lineWidth is how many characters a line of standard output may have: those
// of the terminal, or so many where it is none.
func lineWidth(otherwise int) int {
	if w, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil && w > 0 {
		return w
	}
	return otherwise
}

// said is what a line shows of a result or an alert.
type said struct {
	ID       string              `json:"id"`
	State    string              `json:"state"`
	Alert    string              `json:"alert"`
	Message  string              `json:"message"`
	Label    string              `json:"label"`
	Score    *float64            `json:"score"`
	Time     time.Time           `json:"time"`
	Since    time.Time           `json:"since"`
	Features map[string]*float64 `json:"features"`
	Values   []*float64          `json:"values"`
	Objects  *[]struct {
		Label string   `json:"label"`
		Score *float64 `json:"score"`
	} `json:"objects"`
	Version string `json:"version"`
	TookUs  int64  `json:"took_us"`
}

// summary is a payload in one line of about so many characters: what a result
// or alert says, else the text itself, else its size.
func summary(payload []byte, width int) string {
	var s said
	if len(payload) > 0 && payload[0] == '{' && json.Unmarshal(payload, &s) == nil && s.ID != "" {
		return printable(s.line(width))
	}
	text := strings.Join(strings.Fields(string(payload)), " ")
	if !utf8.Valid(payload) || text != printable(text) {
		return fmt.Sprintf("(%d bytes)", len(payload))
	}
	return shorten(text, width)
}

// timeOf is the time that a JSON payload tells by its field "time": RFC 3339,
// or seconds, milli-, micro- or nanoseconds since 1970. It is zero without.
func timeOf(payload []byte) time.Time {
	var p struct {
		Time any `json:"time"`
	}
	if len(payload) == 0 || payload[0] != '{' || json.Unmarshal(payload, &p) != nil {
		return time.Time{}
	}
	switch v := p.Time.(type) {
	case string:
		at, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return time.Time{}
		}
		return at
	case float64:
		for v > 1e11 { // seconds of the year 5138
			v /= 1000
		}
		if v > 1e8 { // 1973; what is less is no date
			return time.UnixMicro(int64(v * 1e6))
		}
	}
	return time.Time{}
}

// ago is a time that has passed as a person says it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// printable replaces what could steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, text)
}

// shorten cuts a text to so many characters, but never to less than twenty.
func shorten(text string, width int) string {
	if r := []rune(text); len(r) > max(width, 20) {
		return string(r[:max(width, 20)-3]) + "..."
	}
	return text
}

func (s said) line(width int) string {
	if s.Alert != "" {
		text := "ALERT " + s.Alert + " " + s.State
		switch {
		case s.State == "cleared":
			text += fmt.Sprintf(" after %v", s.Time.Sub(s.Since).Round(time.Second))
		case s.Message != "":
			text += ": " + s.Message
		}
		return shorten(text, width)
	}
	took := ""
	switch {
	case s.TookUs >= 100:
		took = fmt.Sprintf(" (%.1f ms)", float64(s.TookUs)/1000)
	case s.TookUs > 0:
		took = fmt.Sprintf(" (%d µs)", s.TookUs)
	}
	if s.Version != "" {
		took = " version " + shorten(s.Version, 20) + took
	}
	text := s.found()
	var numbers []string
	for _, v := range s.Values {
		numbers = append(numbers, number(v, 4))
	}
	for _, name := range sortedKeys(s.Features) {
		numbers = append(numbers, name+"="+number(s.Features[name], 3))
	}
	return strings.TrimSpace(fill(shorten(text, width-len(took)), numbers, width-len(took)) + took)
}

// found is what the model saw, "" for one that gives numbers alone.
func (s said) found() string {
	switch {
	case s.Objects != nil && len(*s.Objects) == 0:
		return "nothing found"
	case s.Objects != nil:
		var parts []string
		label := ""
		for _, o := range *s.Objects {
			if o.Label != label {
				parts = append(parts, o.Label)
				label = o.Label
			}
			parts = append(parts, hundredth(o.Score))
		}
		return strings.Join(parts, " ")
	case s.Label != "":
		return s.Label + " " + hundredth(s.Score)
	case s.Score != nil && len(s.Values) == 0:
		return "score " + number(s.Score, 4)
	}
	return ""
}

// fill appends the numbers that have room in a line, at least one of them,
// and says how many are left.
func fill(text string, numbers []string, width int) string {
	for i, n := range numbers {
		left := ""
		if i < len(numbers)-1 {
			left = fmt.Sprintf(" ... %d more", len(numbers)-i-1)
		}
		if i > 0 && len([]rune(text))+1+len(n)+len(left) > width {
			return fmt.Sprintf("%s ... %d more", text, len(numbers)-i)
		}
		text += " " + n
	}
	return text
}

func number(v *float64, digits int) string {
	if v == nil {
		return "-" // it is not finite
	}
	return fmt.Sprintf("%.*g", digits, *v)
}

func hundredth(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

// count is a number of things as a person says it.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
