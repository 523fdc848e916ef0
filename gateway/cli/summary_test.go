package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"edgegateway/internal/link"
)

// One line says what a result or an alert says, of every kind of output, and
// nothing in it steers the terminal.
func TestSummary(t *testing.T) {
	for _, tt := range []struct {
		payload string
		width   int
		want    string
	}{
		{`{"id":"a","score":0.8,"objects":[{"label":"face","score":0.81},{"label":"face","score":0.5},{"label":"cat","score":0.4}],"took_us":4100}`, 80, "face 0.81 0.50 cat 0.40 (4.1 ms)"},
		{`{"id":"a","score":0,"objects":[],"took_us":900}`, 80, "nothing found (0.9 ms)"},
		{`{"id":"a","label":"person","score":0.996,"top":[],"took_us":0}`, 80, "person 1.00"},
		{`{"id":"a","score":311.0384,"took_us":50}`, 80, "score 311 (50 µs)"},
		{`{"id":"a","label":"person","score":0.9,"version":"1.4","took_us":50}`, 80, "person 0.90 version 1.4 (50 µs)"},
		{`{"id":"a","score":0,"values":[0.99561,null,-2]}`, 80, "0.9956 - -2"},
		{`{"id":"a","features":{"b":1,"a.mean":0.25,"c":null}}`, 80, "a.mean=0.25 b=1 c=-"},
		{`{"id":"a","features":{"cpu.max":0.33,"cpu.mean":0.0942,"disk.max":0.14,"disk.mean":0.14}}`, 48, "cpu.max=0.33 cpu.mean=0.0942 ... 2 more"},
		{`{"id":"a","label":"person","score":0.9,"features":{"a":1,"b":2},"took_us":100}`, 80, "person 0.90 a=1 b=2 (0.1 ms)"},
		{`{"id":"a","alert":"hot","state":"raised","message":"the room is hot"}`, 80, "ALERT hot raised: the room is hot"},
		{`{"id":"a","alert":"hot","state":"raised","message":"the room is hot"}`, 28, "ALERT hot raised: the roo..."},
		{`{"id":"a","alert":"hot","state":"cleared","since":"2026-01-31T12:00:00Z","time":"2026-01-31T12:01:05Z"}`, 80, "ALERT hot cleared after 1m5s"},
		{`{"id":"a","label":"\u001b[2J\u202eevil","score":1}`, 80, "?[2J?evil 1.00"},
		{"{\"v\":\n  1}", 80, `{"v": 1}`},
		{"", 80, ""},
		{"\x00\x01", 80, "(2 bytes)"},
		{"\xff", 80, "(1 bytes)"},
		{"a\x1b[2J", 80, "(5 bytes)"},
		{strings.Repeat("ä", 50), 30, strings.Repeat("ä", 27) + "..."},
		{`{"id":"a","label":5}`, 80, `{"id":"a","label":5}`},
	} {
		if got := summary([]byte(tt.payload), tt.width); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.payload, got, tt.want)
		}
	}
	if got := printable("a/\x1b]0;b"); got != "a/?]0;b" {
		t.Errorf("%q", got)
	}
}

// A line says when it came, and what the broker had kept says so, and how old
// it is where it tells its time.
func TestHeading(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	sent := func(d time.Duration) int64 { return now.Add(-d).UnixNano() }
	for _, tt := range []struct {
		payload          string
		retained, stamps bool
		want             string
	}{
		{`{"time":"2026-01-31T11:59:00Z"}`, false, false, "a/b"},
		{`{"time":"2026-01-31T11:59:00Z"}`, false, true, "12:00:00 a/b"},
		{`{"time":"2026-01-31T11:59:48.5Z"}`, true, true, "12:00:00 a/b (retained, 11 s old)"},
		{`{"time":"2026-01-31T12:03:00+01:00"}`, true, false, "a/b (retained, 57 min old)"},
		{fmt.Sprintf(`{"time":%d}`, sent(5*time.Hour)/1e9), true, false, "a/b (retained, 5 h old)"},
		{fmt.Sprintf(`{"time":%d}`, sent(72*time.Hour)/1e6), true, false, "a/b (retained, 3 days old)"},
		{fmt.Sprintf(`{"time":%d}`, sent(time.Minute)/1e3), true, false, "a/b (retained, 1 min old)"},
		{fmt.Sprintf(`{"time":%d}`, sent(time.Second)), true, false, "a/b (retained, 1 s old)"},
		{`{"time":"2026-01-31T12:00:01Z"}`, true, false, "a/b (retained)"}, // another clock
		{`{"time":"noon"}`, true, false, "a/b (retained)"},
		{`{"time":12.5}`, true, false, "a/b (retained)"},
		{`{"time":{"a":1}}`, true, false, "a/b (retained)"},
		{"ON", true, false, "a/b (retained)"},
		{"", true, false, "a/b (retained)"},
	} {
		if got := heading(link.Msg{Topic: "a/b", Payload: []byte(tt.payload), Retain: tt.retained}, now, tt.stamps); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.payload, got, tt.want)
		}
	}
}
