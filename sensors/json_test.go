package sensors

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// The quick way to read numbers gives what strconv.ParseFloat gives, bit for
// bit.
func TestQuickNumber(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	quick := 0
	for i := range 300_000 {
		var text string
		switch i % 4 {
		case 0:
			text = strconv.FormatFloat(r.NormFloat64()*100, 'f', r.IntN(14), 64)
		case 1:
			text = strconv.FormatFloat(math.Float64frombits(r.Uint64()), 'g', -1, 64)
		case 2:
			text = strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10)
		case 3:
			text = fmt.Sprintf("%d.%0*d", r.IntN(1000), 1+r.IntN(14), r.IntN(1000))
		}
		got, n := quickNumber(text + ",")
		if n == 0 {
			continue
		}
		quick++
		want, err := strconv.ParseFloat(text, 64)
		if err != nil || n != len(text) || math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%s: %v of %d characters, want %v (%v)", text, got, n, want, err)
		}
	}
	if quick < 100_000 {
		t.Errorf("only %d numbers went the quick way", quick)
	}
}

func TestPaths(t *testing.T) {
	for path, doc := range map[string]string{
		"a":           `{"a":7}`,
		"$.a":         `{"b":1,"a":7}`,
		"a.b.c":       `{"a":{"b":{"c":7}}}`,
		"a[1].b":      `{"a":[{"b":1},{"b":7}]}`,
		"a[0][1]":     `{"a":[[1,7]]}`,
		"[1].a":       `[{"a":1},{"a":7}]`,
		"a b":         `{"a b":7}`,
		"é":           `{"é":7}`,
		"@this":       `{"@this":7}`,
		"#":           `{"#":7}`,
		"a*":          `{"ab":1,"a*":7}`,
		"a|b":         `{"a|b":7}`,
		"!x":          `{"!x":7}`,
		"%":           `{"%":7}`,
		"temp-1_C:x":  `{"temp-1_C:x":7}`,
		"\"q\"":       `{"\"q\"":7}`,
		"twice":       `{"twice":7,"twice":8}`,
		"escaped":     `{"e\u0073caped":7}`,
		"after.brace": `{"x":"}{\"after\":1","after":{"brace":7}}`,
	} {
		d, err := NewDecoder(input(func(c *InputConfig) { c.JSON = []string{path} }))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var s Sample
		if err := d.Decode([]byte(doc), &s); err != nil || len(s.Values) != 1 || s.Values[0] != 7 {
			t.Errorf("%s in %s: %v %v", path, doc, s.Values, err)
		}
	}
}

func TestDepth(t *testing.T) {
	d, err := NewDecoder(input(func(c *InputConfig) { c.JSON = []string{"v"} }))
	if err != nil {
		t.Fatal(err)
	}
	nest := func(n int) string {
		return `{"v":1,"x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
	}
	for doc, want := range map[string]string{
		nest(maxDepth):     "",
		nest(maxDepth + 1): badJSON,
		`{"v":1,"x":"` + strings.Repeat("[", 1000) + `"}`:    "", // text is not depth
		`{"v":1,"x":[` + strings.Repeat("[],", 1000) + `0]}`: "", // nor is number
		strings.Repeat(`{"v":`, 1<<20):                       badJSON,
		`{"v":1}` + strings.Repeat("]", 100):                 badJSON,
	} {
		var s Sample
		if err := d.Decode([]byte(doc), &s); Reason(err) != want {
			t.Errorf("%.40s...: %v, want %q", doc, err, want)
		}
	}
}

// FuzzJSON compares with encoding/json: what it refuses is refused, and the
// numbers are the same.
func FuzzJSON(f *testing.F) {
	for _, doc := range []string{`{"v":[1,2.5,-3e2]}`, `{"v":[]}`, `{"v":[1,"2",true]}`, `{"v":[ 0.1 , 12345678901234567890 ]}`, `{"v":[1e400]}`, `{"v":7}`, `[`, `{"v":[-0,0.30000000000000004]}`, `{"v":[[1]]}`} {
		f.Add([]byte(doc))
	}
	cfg := DefaultInputConfig()
	cfg.JSON = []string{"v[*]"}
	d, err := NewDecoder(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var s Sample
		err := d.Decode(doc, &s)
		if !json.Valid(doc) {
			if err == nil {
				t.Fatalf("%q is no JSON and was taken: %v", doc, s.Values)
			}
			return
		}
		var want struct{ V []float64 }
		// Names differ in case there, and twice the same name is the last.
		if strings.Count(strings.ToLower(string(doc)), `"v"`) != 1 || strings.Contains(string(doc), `\`) || strings.Contains(string(doc), "null") {
			return
		}
		if !strings.HasPrefix(strings.TrimSpace(string(doc)), "{") || json.Unmarshal(doc, &want) != nil || want.V == nil || strings.Contains(string(doc), `"V"`) {
			return
		}
		if err != nil {
			if Reason(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if fmt.Sprint(want.V) != fmt.Sprint(s.Values) && len(want.V)+len(s.Values) > 0 {
			t.Fatalf("%q: %v, encoding/json says %v", doc, s.Values, want.V)
		}
	})
}
