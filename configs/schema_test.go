package configs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestSchema compiles the schema of a configuration and holds what the loader
// takes, and what it refuses, against it.
func TestSchema(t *testing.T) {
	b, err := Schema(house{Port: 80}, "https://example.com/h.json", "A house")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("h.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("h.json")
	if err != nil {
		t.Fatal(err)
	}
	for text, right := range map[string]bool{
		`{"name":"a","port":1,"wait":"10s","rooms":{"hall":{"windows":2}},"doors":[{"to":"x"}]}`: true,
		`{"wait":"1h30m"}`:                true,
		`{"wait":"1.5s"}`:                 true,
		`{"wait":0}`:                      true,
		`{"codes":{"a":5},"limit":0}`:     true,
		`{"paints":["red"]}`:              true,
		`{"nam":"a"}`:                     false,
		`{"wait":"soon"}`:                 false,
		`{"wait":30}`:                     false,
		`{"rooms":{"hall":{"door":1}}}`:   false,
		`{"doors":{"to":"x"}}`:            false,
		`{"rooms":{"a":{"windows":"2"}}}`: false,
		`{"small":-1}`:                    false,
		`{"port":1.5}`:                    false,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); (err == nil) != right {
			t.Errorf("%s: %v", text, err)
		}
		var h house
		if _, err := Parse("h.yaml", []byte(text), &h); (err == nil) != right {
			t.Errorf("%s: the schema and the loader differ: %v", text, err)
		}
	}
	for _, paint := range []string{`{"paints":["blue"]}`, `{"paints":"red"}`} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(paint))
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(v) == nil {
			t.Errorf("%s is right by the schema", paint)
		}
	}
}

func TestSchemaDefaults(t *testing.T) {
	limit := 0
	b, err := Schema(house{Wait: time.Minute, Limit: &limit, Doors: []door{{To: "hall"}, {}}}, "id", "title")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]json.RawMessage
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"wait":  "1m0s",
		"limit": 0.0,
		"doors": []any{map[string]any{"to": "hall"}, map[string]any{}},
		"name":  nil,
	} {
		var p struct {
			Default any `json:"default"`
		}
		if err := json.Unmarshal(s.Properties[name], &p); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, p.Default); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// An element's defaults are those that its UnmarshalYAML gives.
	var rooms struct {
		Elements struct {
			Properties map[string]struct {
				Default any `json:"default"`
			} `json:"properties"`
		} `json:"additionalProperties"`
	}
	if err := json.Unmarshal(s.Properties["rooms"], &rooms); err != nil {
		t.Fatal(err)
	}
	if got := rooms.Elements.Properties["windows"].Default; got != 1.0 {
		t.Errorf("windows of a room: default %v, want 1", got)
	}
}
