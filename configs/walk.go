package configs

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// walker goes through the tree beside the type that it will be decoded into.
// It notes where keys stand, replaces variables, and finds what the YAML
// library would let pass: unknown keys that are numbers, fractions cut to
// whole numbers, text such as 007 or 1.50 changed by being read as a number.
type walker struct {
	file *File
	errs []error
}

func (w *walker) fail(at *token.Token, path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	w.errs = append(w.errs, w.file.errorAt(at, text))
}

// value checks the node at path against a type (nil: anything goes) and gives
// the node that is decoded in its place. key is the token that positions name,
// nil for the node's own.
func (w *walker) value(n ast.Node, t reflect.Type, path string, key *token.Token) ast.Node {
	if key == nil {
		key = n.GetToken()
	}
	if path != "" {
		w.file.at[path] = key
	}
	own := false // the type reads itself: it may take other shapes than its own
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != nil {
		own = reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.InterfaceUnmarshaler]())
		if reflect.PointerTo(t).Implements(reflect.TypeFor[schemer]()) || t.Kind() == reflect.Interface {
			t = nil
		}
	}
	switch v := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		// A few aliases of aliases make gigabytes; a configuration is short
		// enough to be written out.
		w.fail(n.GetToken(), path, "anchors and aliases are not used here; write the value out")
	case *ast.TagNode:
		w.fail(n.GetToken(), path, "tags are not used here; write the value without it")
	case *ast.MappingNode:
		if w.fits(n, t, path, own, reflect.Struct, reflect.Map) {
			w.mapping(v.Values, t, path)
		}
	case *ast.MappingValueNode:
		if w.fits(n, t, path, own, reflect.Struct, reflect.Map) {
			w.mapping([]*ast.MappingValueNode{v}, t, path)
		}
	case *ast.SequenceNode:
		if !w.fits(n, t, path, own, reflect.Slice, reflect.Array) {
			break
		}
		var elem reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			elem = t.Elem()
		}
		for i, e := range v.Values {
			at := fmt.Sprintf("%s[%d]", path, i)
			if e == nil || e.Type() == ast.NullType {
				hint := ""
				if elem != nil && elem.Kind() == reflect.String {
					hint = `; # begins a comment, a filter "#" stands in quotes`
				}
				w.fail(v.GetToken(), at, "is empty%s", hint)
				continue
			}
			v.Values[i] = w.value(e, elem, at, nil)
		}
	case *ast.LiteralNode:
		return w.text(v.Value, t, path, own)
	case *ast.StringNode:
		return w.text(v, t, path, own)
	case *ast.NullNode:
	default:
		return w.scalar(n, t, path, own)
	}
	return n
}

// fits says whether what stands there is of one of the kinds, and tells where
// it is not.
func (w *walker) fits(n ast.Node, t reflect.Type, path string, own bool, kinds ...reflect.Kind) bool {
	if t == nil || own || slices.Contains(kinds, t.Kind()) {
		return true
	}
	w.wanted(n, t, path)
	return false
}

func (w *walker) wanted(n ast.Node, t reflect.Type, path string) {
	hint := ""
	switch {
	case path == "" && nodeName(n) == "text":
		hint = "; behind a key stand a colon and a space"
	case kindName(t) == nodeName(n):
		w.fail(n.GetToken(), path, "the number is out of range")
		return
	case t == reflect.TypeFor[time.Duration]() && nodeName(n) == "text":
		hint = "; units are ms, s, m, h"
	case kindName(t) == "a whole number":
		hint = inFull(n.GetToken().Value)
	case kindName(t) == "a list":
		hint = "; even one entry stands in brackets: [a]"
		if nodeName(n) == "a map" {
			hint = "; even one entry stands in brackets: [{...}]"
		}
	}
	w.fail(n.GetToken(), path, "wanted %s, found %s%s", kindName(t), nodeName(n), hint)
}

var sizeForm = regexp.MustCompile(`^(\d{1,9}) ?([kKmMgG])i?[bB]?$`)

// inFull is how a size such as 100MB is written as a whole number.
func inFull(text string) string {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	n, _ := strconv.Atoi(m[1]) // digits
	return fmt.Sprintf("; it is written in full: %d", n<<map[string]int{"k": 10, "m": 20, "g": 30}[strings.ToLower(m[2])])
}

func (w *walker) mapping(pairs []*ast.MappingValueNode, t reflect.Type, path string) {
	seen := map[string]*token.Token{}
	for _, p := range pairs {
		at := p.Key.GetToken()
		switch p.Key.(type) {
		case *ast.MergeKeyNode:
			w.fail(at, path, "anchors and aliases are not used here; write the value out")
			continue
		case *ast.MappingKeyNode, *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
			w.fail(at, path, "keys are plain words here")
			continue
		}
		name := keyText(p.Key)
		below := name
		if path != "" {
			below = path + "." + name
		}
		if first, ok := seen[name]; ok {
			w.fail(at, "", "%s stands here twice, first in line %d", below, first.Position.Line)
			continue
		}
		seen[name] = at
		var elem reflect.Type
		if t != nil && t.Kind() == reflect.Struct {
			f, ok := fieldOf(t, name)
			if !ok {
				w.unknown(p, name, t, path)
				continue
			}
			elem = f.Type
		} else if t != nil && t.Kind() == reflect.Map {
			elem = t.Elem()
			if _, ok := p.Value.(*ast.MappingNode); !ok && p.Value.Type() != ast.MappingValueType && p.Value.Type() != ast.NullType && deref(elem).Kind() == reflect.Struct {
				if _, ok := fieldOf(deref(elem), name); ok {
					w.fail(at, below, "stands a level too high: it belongs below a name, as %s: {NAME: {%s: ...}}", path, name)
					continue
				}
			}
			if d := deref(elem); p.Value.Type() == ast.NullType && d.Kind() == reflect.Struct {
				// "porch:" alone is a porch with all defaults.
				p.Value = ast.Mapping(p.Value.GetToken(), true)
			}
		}
		p.Value = w.value(p.Value, elem, below, at)
	}
}

// unknown tells of a key that a struct does not have. What may be a password,
// behind a comma in it or a forgotten colon, is not repeated.
func (w *walker) unknown(p *ast.MappingValueNode, name string, t reflect.Type, path string) {
	text := "unknown key"
	if p.Value.Type() == ast.NullType {
		text = "unknown key without a value (text with a comma stands in quotes)"
	} else if isWord(name) {
		text = fmt.Sprintf("unknown key %q", name)
	}
	if path != "" {
		text += " in " + path
	}
	known := keysOf(t)
	if n := Nearest(name, known); n != "" {
		text += fmt.Sprintf("; did you mean %q?", n)
	} else if len(known) > 0 {
		text += "; there are " + strings.Join(known, ", ")
	}
	w.fail(p.Key.GetToken(), "", "%s", text)
}

// text replaces the variables of a string and checks it against the type.
func (w *walker) text(v *ast.StringNode, t reflect.Type, path string, own bool) ast.Node {
	value, err := expand(v.Value)
	if err != nil {
		w.fail(v.GetToken(), path, "%v", err)
		return v
	}
	quoted := v.GetToken().Type == token.SingleQuoteType || v.GetToken().Type == token.DoubleQuoteType
	quoted = quoted && value == v.Value // what a variable gave is what it looks like
	v.Value = value
	if t == nil || own || t.Kind() == reflect.String {
		return v
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		if _, err = time.ParseDuration(value); err != nil {
			w.wanted(v, t, path)
		}
	case quoted:
		w.wanted(v, t, path)
	case t.Kind() == reflect.Bool:
		if value == "true" || value == "false" {
			return ast.Bool(token.New(value, value, v.GetToken().Position))
		}
		w.wanted(v, t, path)
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		if !wholeText(value, reflect.Zero(t)) {
			w.wanted(v, t, path)
		}
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		if _, err = strconv.ParseFloat(value, t.Bits()); err != nil {
			w.wanted(v, t, path)
		}
	default:
		w.wanted(v, t, path)
	}
	return v
}

// scalar checks a number or a truth value against the type.
func (w *walker) scalar(n ast.Node, t reflect.Type, path string, own bool) ast.Node {
	if t == nil || own {
		return n
	}
	_, isBool := n.(*ast.BoolNode)
	switch {
	case t == reflect.TypeFor[time.Duration]():
		if i, ok := n.(*ast.IntegerNode); ok && fmt.Sprint(i.Value) == "0" {
			return ast.String(token.String("0", "0", n.GetToken().Position))
		}
		w.wanted(n, t, path)
	case t.Kind() == reflect.String:
		// As it is written, not as the number that it could be read as.
		text := n.GetToken().Value
		return ast.String(token.String(text, text, n.GetToken().Position))
	case t.Kind() == reflect.Bool:
		if !isBool {
			w.wanted(n, t, path)
		}
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		if isBool {
			w.wanted(n, t, path)
		}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		if isBool || !whole(n, reflect.Zero(t)) {
			w.wanted(n, t, path)
		}
	default:
		w.wanted(n, t, path)
	}
	return n
}

// whole says whether a number is a whole one that a variable like v can hold.
func whole(n ast.Node, v reflect.Value) bool {
	switch n := n.(type) {
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			return v.CanInt() && !v.OverflowInt(i) || v.CanUint() && i >= 0 && !v.OverflowUint(uint64(i))
		case uint64:
			return v.CanUint() && !v.OverflowUint(i) || v.CanInt() && i <= math.MaxInt64 && !v.OverflowInt(int64(i))
		}
	case *ast.FloatNode: // 5.0
		return wholeText(strconv.FormatFloat(n.Value, 'f', -1, 64), v)
	}
	return false
}

// wholeText is whole for a number as text: from a variable, or of the form
// 1e6, which the YAML library does not take for a number.
func wholeText(s string, v reflect.Value) bool {
	if f, err := strconv.ParseFloat(s, 64); err == nil && strings.ContainsAny(s, "eE.") && math.Abs(f) < 1<<53 {
		s = strconv.FormatFloat(f, 'f', -1, 64)
	}
	var err error
	if v.CanUint() {
		_, err = strconv.ParseUint(s, 10, v.Type().Bits())
	} else {
		_, err = strconv.ParseInt(s, 10, v.Type().Bits())
	}
	return err == nil
}
