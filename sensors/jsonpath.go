package sensors

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// path is a way to a value in JSON: data.temp, axes[0], samples[*].
type path struct {
	name   string
	gjson  string
	spread bool // [*] at the end: all numbers of an array
}

// parsePath turns the form people write into the library's, in which other
// characters mean something of their own and are escaped.
func parsePath(p string) (path, error) {
	out := path{name: p}
	rest := strings.TrimPrefix(p, "$.")
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

// Lookup gives the text at a path of a JSON payload, to name its source.
func Lookup(payload []byte, text string) (string, bool) {
	p, err := parsePath(text)
	if err != nil || checkJSON(payload) != nil {
		return "", false
	}
	v := gjson.GetBytes(payload, p.gjson)
	if !v.Exists() || v.IsObject() || v.IsArray() || v.Type == gjson.Null {
		return "", false
	}
	return v.String(), v.String() != ""
}
