package configs

import (
	"fmt"
	"os"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} by the environment; the default
// stands in, as in a shell, where the variable is not set or empty. $${ stands
// for the characters ${ themselves.
func expand(s string) (string, error) {
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		inner, rest, closed := strings.Cut(s[i+2:], "}")
		name, fallback, has := strings.Cut(inner, ":-")
		if !closed || !isName(name) {
			return "", fmt.Errorf("a variable is written ${NAME} or ${NAME:-default}; write $${ for the characters ${")
		}
		value, set := os.LookupEnv(name)
		switch {
		case value != "":
			b.WriteString(value)
		case has:
			b.WriteString(fallback)
		case !set:
			return "", fmt.Errorf("the environment variable %s is not set; ${%s:-default} gives a default", name, name)
		}
		s = rest
	}
}

// isName says whether a variable of the environment may have this name.
func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
