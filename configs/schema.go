package configs

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// schemer is a type whose YAML is not what its fields say; its JSONSchema
// says what it is, and the loader leaves its checking to the type.
type schemer interface{ JSONSchema() map[string]any }

// Schema makes the JSON Schema (draft 2020-12) of a configuration type: keys
// from the yaml tags, texts from desc, allowed values from enum, defaults
// from v, and those of the elements of lists and maps from their
// UnmarshalYAML.
func Schema(v any, id, title string) ([]byte, error) {
	s := schemaOf(reflect.ValueOf(v), map[reflect.Type]bool{})
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = id
	s["title"] = title
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("JSON Schema: %w", err)
	}
	return b, nil
}

// schemaOf describes the type of v; open holds the structs above it.
func schemaOf(v reflect.Value, open map[reflect.Type]bool) map[string]any {
	if v.Kind() == reflect.Pointer {
		return schemaOf(fresh(v.Type()), open)
	}
	t := v.Type()
	if s, ok := reflect.New(t).Interface().(schemer); ok {
		return s.JSONSchema()
	}
	if t == reflect.TypeFor[time.Duration]() {
		return map[string]any{"type": []string{"string", "integer"}, "maximum": 0, "minimum": 0, "pattern": `^(0|-?([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+|.*\$\{.*)$`}
	}
	switch t.Kind() {
	case reflect.Struct:
		if open[t] {
			return map[string]any{"type": "object"}
		}
		open[t] = true
		defer delete(open, t)
		return structSchema(v, open)
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(fresh(t.Elem()), open)}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": schemaOf(fresh(t.Elem()), open)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Interface:
		return map[string]any{}
	}
	s := map[string]any{"type": "integer"}
	if fresh(t).CanUint() {
		s["minimum"] = 0
	}
	return s
}

func structSchema(v reflect.Value, open map[reflect.Type]bool) map[string]any {
	t := v.Type()
	properties := map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name := key(f)
		if name == "" {
			continue
		}
		s := schemaOf(v.Field(i), open)
		if d := f.Tag.Get("desc"); d != "" {
			s["description"] = d
		}
		if e := f.Tag.Get("enum"); e != "" {
			of := s
			if items, ok := s["items"].(map[string]any); ok {
				of = items
			}
			of["enum"] = strings.Split(e, ",")
		}
		// The defaults of a section are told by its own properties.
		if fv := v.Field(i); !fv.IsZero() && fv.Kind() != reflect.Struct {
			s["default"] = plain(fv)
		}
		properties[name] = s
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
}

// fresh is a value of the type as the loader makes it where the configuration
// says no more than that it is there: with the defaults of the type.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(deref(t))
	if u, ok := v.Interface().(yaml.InterfaceUnmarshaler); ok {
		if err := u.UnmarshalYAML(func(any) error { return nil }); err != nil {
			return reflect.Zero(v.Type().Elem())
		}
	}
	return v.Elem()
}

// plain is a value as JSON says what YAML means; of a struct, what is set.
func plain(v reflect.Value) any {
	if d, ok := v.Interface().(time.Duration); ok {
		return d.String()
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			if name := key(v.Type().Field(i)); name != "" && !v.Field(i).IsZero() {
				m[name] = plain(v.Field(i))
			}
		}
		return m
	case reflect.Slice, reflect.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.Map:
		m := map[string]any{}
		for it := v.MapRange(); it.Next(); {
			m[fmt.Sprint(it.Key())] = plain(it.Value())
		}
		return m
	}
	return v.Interface()
}
