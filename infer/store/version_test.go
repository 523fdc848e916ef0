package store

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestVersions holds the order of versions against how people count.
func TestVersions(t *testing.T) {
	order := []string{"0", "0.1", "0.10", "1", "1.0", "1.0.1", "1.2", "1.10", "2", "10", "999999999"}
	mixed := slices.Clone(order)
	slices.Reverse(mixed)
	slices.SortFunc(mixed, CompareVersions)
	if !slices.Equal(mixed, order) {
		t.Errorf("sorted they are %v", mixed)
	}
	for _, v := range order {
		if err := CheckVersion(v); err != nil {
			t.Error(err)
		}
	}
	for _, v := range []string{"", ".", "1.", ".1", "1..2", "01", "1.00", "v1", "1-rc1", "-1", "+1", "1.2.3.4.5.6.7.8.9", "1000000000", "1 ", "٣"} {
		if CheckVersion(v) == nil {
			t.Errorf("%q is a version", v)
		}
	}
	number := rapid.StringMatching(`(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := number.Draw(t, "a"), number.Draw(t, "b"), number.Draw(t, "c")
		if (CompareVersions(a, b) == 0) != (a == b) || CompareVersions(a, b) != -CompareVersions(b, a) {
			t.Errorf("%s and %s", a, b)
		}
		if CompareVersions(a, b) < 0 && CompareVersions(b, c) < 0 && CompareVersions(a, c) >= 0 {
			t.Errorf("%s < %s < %s", a, b, c)
		}
	})
}

func TestNames(t *testing.T) {
	for _, ok := range []string{"door", "Tür-2", "a.b_c", "_x", "7"} {
		if err := CheckName(ok); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".door", "-door", "a/b", `a\b`, "a b", "a@b", "a+b", "a#b", "$a", "a\x00", "a\xff", strings.Repeat("x", 65)} {
		if CheckName(bad) == nil {
			t.Errorf("%q is a name", bad)
		}
	}
	if name, version, err := ParseRef("door@1.2"); name != "door" || version != "1.2" || err != nil {
		t.Errorf("door@1.2 is %s, %s, %v", name, version, err)
	}
	for _, bad := range []string{"door@", "@1", "door@x", "door@1@2"} {
		if _, _, err := ParseRef(bad); err == nil {
			t.Errorf("%q is a version of a model", bad)
		}
	}
}

// TestConfig says what is wrong with a section, by its key.
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		say    string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Keep = 2 }, "keep: 2"},
		{func(c *Config) { c.KeepBytes = 0 }, "keep_bytes: 0"},
		{func(c *Config) { c.Keys = []string{""} }, "keys: "},
		{func(c *Config) { c.RequireSigned = true }, "require_signed: "},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		switch err := cfg.Validate(); {
		case c.say == "" && err != nil:
			t.Error(err)
		case c.say != "" && (err == nil || !strings.HasPrefix(err.Error(), c.say)):
			t.Errorf("%q: %v", c.say, err)
		}
	}
	cfg := DefaultConfig()
	cfg.Keys = []string{"no.pub"}
	if _, err := Open(t.TempDir(), cfg); err == nil || !strings.HasPrefix(err.Error(), "keys: key: open no.pub") {
		t.Errorf("a key that is not there: %v", err)
	}
}
