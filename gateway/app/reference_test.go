package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"edgegateway/configs"
	"edgegateway/fl"
	"edgegateway/internal/testkit"
)

// schema is a part of the JSON Schema of the configuration.
type schema struct {
	Type        any
	Description string
	Default     json.RawMessage
	Enum        []string
	Properties  map[string]*schema
	Items       *schema
	Elements    *schema `json:"additionalProperties"`
}

// UnmarshalJSON takes "additionalProperties": false for none.
func (s *schema) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		return nil
	}
	type plain schema
	return json.Unmarshal(b, (*plain)(s))
}

func schemaText(t *testing.T) []byte {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Gateway, cfg.Data = "", "" // those of this machine
	b, err := configs.Schema(cfg, "id", "title")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tables gives the table of keys of each section, by the section's path:
// broker.limits, streams.NAME.window, broker.listeners[].
func tables(s *schema, path string, into map[string]string) {
	if s == nil {
		return
	}
	if len(s.Properties) > 0 {
		var b strings.Builder
		b.WriteString("| key | value | default | |\n|---|---|---|---|\n")
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			p := s.Properties[name]
			var text bytes.Buffer
			if p.Default != nil {
				if err := json.Compact(&text, p.Default); err != nil {
					panic(err) // it was decoded
				}
			}
			// JSON writes what HTML would take for its own otherwise.
			value, fallback := p.kind(), strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(text.String())
			if len(p.Properties) > 0 || p.Default == nil {
				fallback = ""
			}
			if fallback != "" {
				fallback = "`" + strings.Trim(strings.ReplaceAll(fallback, "|", `\|`), `"`) + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, value, fallback, strings.ReplaceAll(p.Description, "|", `\|`))
			below := name
			if path != "" {
				below = path + "." + name
			}
			tables(p, below, into)
		}
		into[path] = b.String()
	}
	tables(s.Items, path+"[]", into)
	tables(s.Elements, path+".NAME", into)
}

// kind is what a value is, for a person.
func (s *schema) kind() string {
	words := func(list []string) string { return "`" + strings.Join(list, "` `") + "`" }
	switch {
	case len(s.Enum) > 0:
		return words(s.Enum)
	case s.Items != nil && len(s.Items.Enum) > 0:
		return "list of " + words(s.Items.Enum)
	case s.Items != nil:
		return "list"
	case s.Elements != nil && len(s.Elements.Properties) > 0:
		return "map by name"
	case s.Elements != nil || len(s.Properties) > 0:
		return "map"
	}
	switch kind := s.Type.(type) {
	case []any:
		if slices.Contains(kind, any("integer")) && slices.Contains(kind, any("string")) && len(kind) == 2 {
			return "duration"
		}
		return "text or number"
	case string:
		return map[string]string{"string": "text", "boolean": "`true` `false`", "integer": "whole number", "number": "number"}[kind]
	}
	return ""
}

// UPDATE_DOCS=1 writes the tables of docs/configuration.md anew.
const updateEnv = "UPDATE_DOCS"

// docs/configuration.md has each key of the configuration, with what the
// program itself says of it.
func TestConfigurationReference(t *testing.T) {
	keepTables(t, "configuration.md", schemaText(t))
}

// docs/federated-tasks.md has each key of a federated task.
func TestTaskReference(t *testing.T) {
	text, err := configs.Schema(fl.DefaultTask(), "id", "title")
	if err != nil {
		t.Fatal(err)
	}
	keepTables(t, "federated-tasks.md", text)
}

// keepTables refuses a document whose tables are not those of a schema, or
// writes them.
func keepTables(t *testing.T, name string, text []byte) {
	t.Helper()
	var whole schema
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	tables(&whole, "", want)
	file := filepath.Join(testkit.Root(t), "docs", name)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	marker := regexp.MustCompile(`(?m)^<!-- keys (\S*) ?-->\n((?:\|.*\n)*)`)
	seen := map[string]bool{}
	got := marker.ReplaceAllStringFunc(string(b), func(text string) string {
		m := marker.FindStringSubmatch(text)
		table, ok := want[m[1]]
		if !ok {
			t.Errorf("%s: there is no section %q", file, m[1])
		}
		seen[m[1]] = true
		return strings.TrimSuffix(text, m[2]) + table
	})
	for path, table := range want {
		if !seen[path] {
			t.Errorf("%s: no <!-- keys %s --> with the table of this section", file, path)
		}
		for _, line := range strings.Split(table, "\n") {
			if strings.HasSuffix(line, "|  |") || strings.Contains(line, "|  |  |") && !strings.HasPrefix(line, "| key") {
				t.Errorf("%s: a key without a description: %s", path, line)
			}
		}
	}
	if got == string(b) {
		return
	}
	if os.Getenv(updateEnv) == "" {
		t.Fatalf("%s is not what the program says; write it anew with %s=1 go test ./gateway/app -run Reference", file, updateEnv)
	}
	if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What loads is right by the JSON Schema too, which is what an editor knows:
// every example and every YAML block of the documents.
func TestExamplesFitSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(schemaText(t))))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	root := testkit.Root(t)
	var texts []string
	for _, pattern := range []string{"configs/*.yaml", "docs/*.md", "README.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(file) == ".yaml" {
				texts = append(texts, string(b))
				continue
			}
			for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
				texts = append(texts, m[1])
			}
		}
	}
	if len(texts) < 10 {
		t.Errorf("only %d configurations", len(texts))
	}
	check := func(text string) error {
		b, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	for _, text := range texts {
		if err := check(text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	for _, wrong := range []string{"gatway: a", "streams: {a: {full: lates}}", "broker: {limits: {inflight: many}}", "alerts: {a: {hold: soon}}"} {
		if check(wrong) == nil {
			t.Errorf("right by the schema: %s", wrong)
		}
	}
}
