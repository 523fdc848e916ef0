package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// house is a configuration as the program's own: sections, maps of elements
// with defaults, lists.
type house struct {
	Name   string          `yaml:"name"`
	Port   int             `yaml:"port"`
	Small  uint8           `yaml:"small"`
	Share  float64         `yaml:"share"`
	Open   bool            `yaml:"open"`
	Wait   time.Duration   `yaml:"wait"`
	Limit  *int            `yaml:"limit"`
	Garden garden          `yaml:"garden"`
	Rooms  map[string]room `yaml:"rooms"`
	Doors  []door          `yaml:"doors"`
	Paints []string        `yaml:"paints" enum:"red,grey"`
	Codes  map[string]code `yaml:"codes"`
}

type garden struct {
	Trees int `yaml:"trees"`
}

type room struct {
	Windows  int    `yaml:"windows"`
	Colour   string `yaml:"colour"`
	Password string `yaml:"password"`
}

func (r *room) UnmarshalYAML(decode func(any) error) error {
	type plain room
	p := plain{Windows: 1}
	if err := decode(&p); err != nil {
		return err
	}
	*r = room(p)
	return nil
}

type door struct {
	To string `yaml:"to"`
}

// code reads itself: a number, or a map with one.
type code struct {
	Number int `yaml:"number"`
}

func (c *code) UnmarshalYAML(decode func(any) error) error {
	if decode(&c.Number) == nil {
		return nil
	}
	var m struct {
		Value int `yaml:"value"`
	}
	err := decode(&m)
	c.Number = m.Value
	return err
}

func (c *code) JSONSchema() map[string]any { return map[string]any{"type": "integer"} }

func TestParse(t *testing.T) {
	t.Setenv("COLOUR", "blue: [no yaml]")
	t.Setenv("OPEN", "true")
	t.Setenv("EMPTY", "")
	t.Setenv("PORT", "80")
	h := house{Name: "default", Wait: time.Second, Garden: garden{Trees: 3}}
	f, err := Parse("h.yaml", []byte(`
port: ${PORT}
wait: 2m
rooms:
  hall: {colour: "${COLOUR}"}
  attic: {windows: 0, colour: "${EMPTY:-grey}", password: "$${kept}"}
  cellar:
  shed: {password: 007, colour: 1.50}
doors: [{to: hall}]
open: ${OPEN}
garden: # all of it is commented out
name:
small: 1e2
limit: 0
share: 1
codes: {a: 5, b: {value: 6}}
`), &h)
	if err != nil {
		t.Fatal(err)
	}
	if h.Name != "default" || h.Port != 80 || h.Wait != 2*time.Minute || !h.Open || h.Garden.Trees != 3 ||
		h.Small != 100 || h.Limit == nil || *h.Limit != 0 || h.Share != 1 || h.Codes["a"].Number != 5 || h.Codes["b"].Number != 6 {
		t.Errorf("got %+v", h)
	}
	for name, want := range map[string]room{
		"hall":   {1, "blue: [no yaml]", ""},
		"attic":  {0, "grey", "${kept}"},
		"cellar": {1, "", ""},
		"shed":   {1, "1.50", "007"},
	} {
		if h.Rooms[name] != want {
			t.Errorf("%s is %+v, want %+v", name, h.Rooms[name], want)
		}
	}
	err = f.Locate(errors.Join(
		errors.New("doors[0].to: no such room"),
		errors.Join(errors.New("rooms.hall.size: missing"), errors.New("windmill: missing")),
		fmt.Errorf("port: %w, %w", errors.New("taken"), errors.New("closed"))))
	want := "h.yaml: windmill: missing\n" +
		"h.yaml:2:1: port: taken, closed\n" +
		"h.yaml:5:3: rooms.hall.size: missing\n" +
		"h.yaml:9:10: doors[0].to: no such room"
	if err.Error() != want {
		t.Errorf("located:\n%v\nwant:\n%v", err, want)
	}
	if f.Locate(nil) != nil {
		t.Error("no error became one")
	}
}

func TestEmptyIsDefaults(t *testing.T) {
	for _, text := range []string{"", "\n# nothing\n", "---\n", "~", "name:\n"} {
		h := house{Name: "a", Port: 7}
		if _, err := Parse("h.yaml", []byte(text), &h); err != nil || h.Port != 7 || h.Name != "a" {
			t.Errorf("%q: %+v, %v", text, h, err)
		}
	}
}

// TestBad loads each testdata/*.bad.yml and looks for the words that its
// error must hold.
func TestBad(t *testing.T) {
	words := map[string][]string{
		"alias":     {"4:16: rooms.hall.colour: anchors and aliases are not used here"},
		"bool":      {"1:7: open: wanted true or false, found text"},
		"braces":    {"2:27: ", "within braces and brackets ${NAME} stands in quotes"},
		"brackets":  {"more than 64 deep"},
		"documents": {"2 documents"},
		"duration":  {"1:7: wait: wanted a duration such as 10s, found a whole number"},
		"empty":     {"2:1: doors[1]: is empty"},
		"fraction":  {"1:7: port: wanted a whole number, found a number"},
		"key":       {`1:1: unknown key "nam"; did you mean "name"?`},
		"keylist":   {`3:5: unknown key "zzzzzz" in doors[1]; there are to`},
		"keymap":    {`2:10: unknown key "windws" in rooms.hall; did you mean "windows"?`},
		"list":      {"3:14: rooms.hall.windows: wanted a whole number, found a list"},
		"many":      {`1:1: unknown key "nam"`, "2:7: port: wanted", "3:7: wait: wanted a duration", "4:10: paints[0]: the environment variable NONE_SUCH"},
		"hash":      {`2:9: the list that begins here has no ] at its end; # begins a comment here, a filter such as "#" stands in quotes`},
		"hashline":  {`2:3: paints[0]: is empty; # begins a comment, a filter "#" stands in quotes`},
		"hashspace": {`2:1: ',' or ']' must be specified; # begins a comment here`},
		"one":       {"1:9: paints: wanted a list, found text; even one entry stands in brackets: [a]"},
		"own":       {"3:9: rooms.hall: wanted a map, found text"},
		"open":      {`1:7: a text that begins with " has none at its end`},
		"path":      {"1:17: ',' or ']' must be specified; text with a bracket or brace in it stands in quotes"},
		"tab":       {"2:1: a tab stands here; lines are indented with spaces"},
		"template":  {"1:8: a value that begins with { stands in quotes"},
		"at":        {"1:7: a value that begins with @ or ` stands in quotes"},
		"percent":   {"1:7: a value that begins with % stands in quotes"},
		"colon":     {"1:7: a second value begins here; text with a colon and a space in it stands in quotes"},
		"nocolon":   {"1:1: wanted a map, found text; behind a key stand a colon and a space"},
		"map":       {"1:8: rooms: wanted a map, found text"},
		"merge":     {"anchors and aliases"},
		"number":    {`1:1: unknown key "1"`},
		"range":     {"1:8: small: the number is out of range"},
		"section":   {"1:9: garden: wanted a map, found a whole number"},
		"syntax":    {"4:1: ',' or ']' must be specified"},
		"tag":       {"tags are not used here"},
		"twice":     {`3:1: "name" stands here twice, first in line 1`},
		"unset":     {"2:23: rooms.NONE_SUCH.colour: the environment variable NONE_SUCH is not set; ${NONE_SUCH:-default}"},
		"variable":  {"a variable is written ${NAME}"},
	}
	files, err := filepath.Glob("testdata/*.bad.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bad.yml")
		var h house
		_, err := Load(file, &h)
		if err == nil {
			t.Errorf("%s was loaded", file)
			continue
		}
		if len(words[name]) == 0 {
			t.Errorf("%s: the table has no words for: %v", file, err)
		}
		for _, w := range words[name] {
			if !strings.Contains(err.Error(), w) || !strings.HasPrefix(err.Error(), file+":") {
				t.Errorf("%s: got %v, want %q", file, err, w)
			}
		}
		delete(words, name)
	}
	for name := range words {
		t.Errorf("testdata/%s.bad.yml is not there", name)
	}
}

// A file as an editor of Windows writes it, and one that is no text.
func TestEncoding(t *testing.T) {
	var h house
	if _, err := Parse("h.yaml", []byte("\ufeffname: a\r\nport: 1\r\n"), &h); err != nil || h.Name != "a" || h.Port != 1 {
		t.Errorf("%+v, %v", h, err)
	}
	for _, text := range []string{"\xff\xfen\x00a\x00", "name: \xe4\n"} {
		if _, err := Parse("h.yaml", []byte(text), &h); err == nil || err.Error() != "h.yaml: is no text in UTF-8" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestManyErrorsAreCut(t *testing.T) {
	text := strings.Builder{}
	for i := range 1000 {
		fmt.Fprintf(&text, "key%d: 1\n", i)
	}
	_, err := Parse("h.yaml", []byte(text.String()), &house{})
	if err == nil || !strings.HasSuffix(err.Error(), "and 980 more") {
		t.Errorf("got %v", err)
	}
	_, err = Parse("h.yaml", make([]byte, maxBytes+1), &house{})
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("got %v", err)
	}
}

// TestNoSecretInErrors breaks a configuration in every way that a typing
// mistake can, and looks for the password in what is said of it.
func TestNoSecretInErrors(t *testing.T) {
	for _, good := range []string{
		"rooms:\n  hall:\n    password: s3cret-Word\n    windows: 2\n",
		"rooms: {hall: {password: s3cret-Word, windows: 2}}\n",
		"rooms: {hall: {password: 's3cret-Word', colour: \"s3cret-Word\"}}\n",
		"rooms:\n  hall:\n    password: |\n      s3cret-Word\n    windows: 2\n",
	} {
		if _, err := Parse("h.yaml", []byte(good), &house{}); err != nil {
			t.Fatalf("%q: %v", good, err)
		}
		bad := 0
		try := func(text string) {
			_, err := Parse("h.yaml", []byte(text), &house{})
			if err == nil {
				return
			}
			bad++
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "Word") {
				t.Errorf("%q: %v", text, err)
			}
		}
		for i := range good {
			try(good[:i])
			try(good[:i] + good[i+1:])
			for _, c := range ":-[]{}'\"|>&*!%@`#?, \n\t\x00\xff$~0" {
				try(good[:i] + string(c) + good[i:])
				try(good[:i] + string(c) + good[i+1:])
				try(good[:i] + string(c) + " " + good[i:])
			}
		}
		if bad < 100 {
			t.Errorf("%q: only %d mistakes were found", good, bad)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pw")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		content     string
		mode        os.FileMode
		value, want string
		bad         string
	}{
		{content: "s3cret\n", mode: 0o600, want: "s3cret"},
		{content: "s3cret\r\n", mode: 0o400, want: "s3cret"},
		{content: " s3cret ", mode: 0o600, want: " s3cret "},
		{content: "s3cret", mode: 0o640, bad: "chmod 600 " + file},
		{content: "s3cret", mode: 0o604, bad: "mode 0604"},
		{content: "\n", mode: 0o600, bad: "is empty"},
		{content: strings.Repeat("s3cret", 1000), mode: 0o600, bad: "no password"},
		{content: "s3cret", mode: 0o600, value: "other", bad: "not both"},
	} {
		write(c.content, c.mode)
		got, err := Secret(c.value, file)
		if c.bad == "" && (err != nil || got != c.want) {
			t.Errorf("%.20q: got %q, %v", c.content, got, err)
		}
		if c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%.20q: got %q, %v; want %q", c.content, got, err, c.bad)
		}
	}
	if s, err := Secret("s3cret", ""); s != "s3cret" || err != nil {
		t.Errorf("got %q, %v", s, err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := Secret("", path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"porch", "host", "features", "on", "topics"}
	for name, want := range map[string]string{
		"proch": "porch", "Host": "host", "feature": "features", "topic": "topics",
		"zzz": "", "": "", "x": "", "no": "on", "completely": "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Setenv("A", "1")
	t.Setenv("NONE", "")
	for text, want := range map[string]string{
		"${A}": "1", "x${A}y${A}": "x1y1", "$${A}": "${A}", "$$${A}": "$${A}", "$A": "$A", "{{.A}}": "{{.A}}",
		"${NONE}": "", "${NONE:-d}": "d", "${NO_SUCH:-}": "", "${NO_SUCH:-a:-b}": "a:-b", "": "",
	} {
		if got, err := expand(text); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"${NO_SUCH}", "${A", "${A-B}", "${}", "${1A}", "x ${ A}"} {
		if got, err := expand(text); err == nil {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("name: a\nrooms: {hall: {windows: 2}}\ndoors: [{to: x}]\nwait: 3s"))
	f.Add([]byte("? [a, b]\n: {c: d}"))
	f.Add([]byte("a: &x [1]\nb: *x\n<<: *x"))
	f.Add([]byte("name: |\n  ${A:-b}\n  c\n# d\nshare: .nan\nsmall: 0x1F"))
	bad, err := filepath.Glob("testdata/*.bad.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range bad {
		if data, err := os.ReadFile(path); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h := house{}
		file, err := Parse("h.yaml", data, &h)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "h.yaml:") {
				t.Errorf("no file in: %v", err)
			}
			return
		}
		if err := file.Locate(errors.New("rooms.hall.size: x")); err == nil {
			t.Error("the error is lost")
		}
	})
}
