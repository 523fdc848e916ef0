package sensors

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

// path is a way to a value in JSON: data.temp, axes[0], samples[*].
type path struct {
	name   string
	gjson  string
	spread bool   // [*] at the end: all numbers of an array
	is     string // the value is whether the text there is this one; "" for numbers
}

// parsePath turns the form people write into the library's, in which other
// characters mean something of their own and are escaped.
func parsePath(p string) (path, error) {
	out := path{name: p}
	rest := strings.TrimPrefix(p, "$.")
	if name, is, ok := oneOf(rest); ok {
		rest, out.is = name, is
	}
	if rest, out.spread = strings.CutSuffix(rest, "[*]"); rest == "" && !out.spread {
		return out, fmt.Errorf("the path is empty")
	}
	var parts []string
	for _, level := range strings.Split(rest, ".") {
		name, index, indexed := strings.Cut(level, "[")
		if name == "" && !(indexed || rest == "") {
			return out, fmt.Errorf("%q has an empty level", p)
		}
		if name != "" {
			parts = append(parts, escapePath(name))
		}
		for indexed {
			var n string
			if n, index, indexed = strings.Cut(index, "]"); !indexed {
				return out, fmt.Errorf("%q has a [ without ]", p)
			}
			if _, err := strconv.ParseUint(n, 10, 31); err != nil {
				return out, fmt.Errorf("%q: [%s] is no index; [*] stands at the end only", p, n)
			}
			parts = append(parts, n)
			if index != "" && index[0] != '[' {
				return out, fmt.Errorf("%q: %q follows an index", p, index)
			}
			index, indexed = strings.CutPrefix(index, "[")
		}
	}
	if out.spread && out.is != "" {
		return out, fmt.Errorf("%q: an array is no text", p)
	}
	if out.gjson = strings.Join(parts, "."); out.gjson == "" {
		out.gjson = "@this"
	}
	return out, nil
}

func escapePath(name string) string {
	var b strings.Builder
	for _, r := range name {
		if strings.ContainsRune(`*?|#@!{}[]()=<>%"\:,^`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func optionalPath(text string) *path {
	if text == "" {
		return nil
	}
	p, _ := parsePath(text)
	return &p
}

// NamePath finds the name of a source in JSON payloads.
type NamePath struct{ path path }

// NewNamePath understands the path of one value.
func NewNamePath(text string) (NamePath, error) {
	p, err := parsePath(text)
	if err == nil && (p.spread || p.is != "") {
		err = fmt.Errorf("%q is no path to one value", text)
	}
	return NamePath{p}, err
}

// Name gives the text at the path; it may be a part of the payload's memory.
// Whether all of the payload is JSON, its decoder says. The error is an
// *Error.
func (n NamePath) Name(payload []byte) (string, error) {
	v := gjson.Get(unsafe.String(unsafe.SliceData(payload), len(payload)), n.path.gjson)
	if v.Type == gjson.Null || v.Type == gjson.JSON || v.String() == "" {
		if err := checkJSON(payload); err != nil {
			return "", err
		}
		return "", &Error{noSource, fmt.Sprintf("there is no name of a source at %q", n.path.name)}
	}
	return v.String(), nil
}
