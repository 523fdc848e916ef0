package broker

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		match         bool
		wild          string
	}{
		{"a", "a", true, ""},
		{"a", "b", false, ""},
		{"a", "a/b", false, ""},
		{"a/b", "a", false, ""},
		{"a/+", "a/b", true, "b"},
		{"a/+", "a", false, ""},
		{"a/+", "a/", true, ""},
		{"a/+", "a/b/c", false, ""},
		{"+/+", "/x", true, "/x"},
		{"/+", "/x", true, "x"},
		{"+", "/x", false, ""},
		{"#", "a", true, "a"},
		{"#", "a/b", true, "a/b"},
		{"a/#", "a", true, ""},
		{"a/#", "a/", true, ""},
		{"a/#", "a/b/c", true, "b/c"},
		{"a/#", "ab", false, ""},
		{"a/#", "ab/c", false, ""},
		{"+/b/#", "a/b", true, "a"},
		{"+/b/#", "a/b/c/d", true, "a/c/d"},
		{"a/+/c/+", "a/b/c/d", true, "b/d"},
		{"+/+/c", "a/b/c", true, "a/b"},
		{"host/+/telemetry", "host/a/telemetry", true, "a"},
		{"camera/porch/#", "camera/porch", true, ""},
		{"camera/porch/#", "camera/porch/x/y", true, "x/y"},
		{"#", "$SYS/a", false, ""},
		{"+/a", "$SYS/a", false, ""},
		{"$SYS/#", "$SYS/a", true, "a"},
		{"a/#", "a/$SYS", true, "$SYS"},
		{"", "a", false, ""},
		{"#", "", false, ""},
	} {
		if got := Match(c.filter, c.topic); got != c.match {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
		if got, ok := Wildcards(c.filter, c.topic); got != c.wild || ok != c.match {
			t.Errorf("Wildcards(%q, %q) = %q, %v; want %q, %v", c.filter, c.topic, got, ok, c.wild, c.match)
		}
	}
}

func TestCoversAndOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b             string
		aCovers, overlap bool
	}{
		{"#", "#", true, true},
		{"a/#", "#", false, true},
		{"#", "a/+", true, true},
		{"+", "#", false, true},
		{"a/#", "a", true, true},
		{"a/#", "a/#", true, true},
		{"a/#", "a/+/b", true, true},
		{"a/+", "a/#", false, true},
		{"a/+", "a/b", true, true},
		{"a/b", "a/+", false, true},
		{"a/b", "a/c", false, false},
		{"a/+/c", "+/b/+", false, true},
		{"a/+", "a/+/c", false, false},
		{"a", "a/b", false, false},
		{"#", "$SYS/#", false, false},
		{"$SYS/#", "$SYS/broker/+", true, true},
		{"+/x", "$SYS/x", false, false},
		{"data", "data/x/y", false, false},
		{"+", "/#", false, false},
		{"+/#", "/#", true, true},
	} {
		if got := covers(c.a, c.b); got != c.aCovers {
			t.Errorf("covers(%q, %q) = %v", c.a, c.b, got)
		}
		if Overlap(c.a, c.b) != c.overlap || Overlap(c.b, c.a) != c.overlap {
			t.Errorf("Overlap(%q, %q) is not %v both ways", c.a, c.b, c.overlap)
		}
	}
}

// TestFilterProperties checks covers and Overlap against what they mean: over
// all topics of up to four levels of a small alphabet.
func TestFilterProperties(t *testing.T) {
	var topics []string
	var grow func(prefix string, depth int)
	grow = func(prefix string, depth int) {
		for _, level := range []string{"a", "b", "", "$a"} {
			topic := prefix + level
			if topic != "" {
				topics = append(topics, topic)
			}
			if depth < 4 {
				grow(topic+"/", depth+1)
			}
		}
	}
	grow("", 1)
	filter := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "+", "", "$a"}), 0, 3).Draw(t, "levels")
		if len(levels) == 0 || rapid.Bool().Draw(t, "hash") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := filter.Draw(t, "a"), filter.Draw(t, "b")
		common, outside := false, ""
		for _, topic := range topics {
			inA, inB := Match(a, topic), Match(b, topic)
			common = common || inA && inB
			if inB && !inA {
				outside = topic
			}
		}
		if covers(a, b) && outside != "" {
			t.Errorf("covers(%q, %q), but %q is matched by the second alone", a, b, outside)
		}
		if a != "" && b != "" && Overlap(a, b) != common {
			t.Errorf("Overlap(%q, %q) = %v, topics say %v", a, b, !common, common)
		}
	})
}

func TestValid(t *testing.T) {
	deep := strings.Repeat("a/", maxLevels)
	for _, c := range []struct {
		name          string
		topic, filter bool
	}{
		{"a/b", true, true}, {"/", true, true}, {"", false, false},
		{"a/+/b", false, true}, {"#", false, true}, {"a/#", false, true},
		{"a/#/b", false, false}, {"a+", false, false}, {"a/b#", false, false}, {"++", false, false},
		{"a\x00", false, false}, {"\xff", false, false},
		{deep, false, false}, {deep[:len(deep)-1], true, true},
		{strings.Repeat("a", 65536), false, false},
	} {
		if err := ValidTopic(c.name); (err == nil) != c.topic {
			t.Errorf("ValidTopic(%.20q): %v", c.name, err)
		}
		if err := ValidFilter(c.name); (err == nil) != c.filter {
			t.Errorf("ValidFilter(%.20q): %v", c.name, err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("$SYS/#", "$SYS/x")
	f.Fuzz(func(t *testing.T, a, b string) {
		part, ok := Wildcards(a, b)
		if ok != Match(a, b) || len(part) > len(b) {
			t.Errorf("Wildcards(%q, %q) = %q, %v", a, b, part, ok)
		}
		if ValidFilter(a) == nil && ValidTopic(b) == nil && Match(a, b) && !Overlap(a, b) {
			t.Errorf("%q matches %q and does not overlap it", a, b)
		}
		if ValidFilter(a) == nil && ValidFilter(b) == nil && covers(a, b) && !Overlap(a, b) {
			t.Errorf("%q covers %q and does not overlap it", a, b)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !Match("factory/+/vibration/#", "factory/press7/vibration/x") {
			b.Fatal("no match")
		}
	}
}

func BenchmarkWildcards(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if s, _ := Wildcards("host/+/telemetry", "host/a/telemetry"); s != "a" {
			b.Fatal(s)
		}
	}
}
