package broker

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxLevels bounds the levels of topics and filters: the broker's work on one
// grows with their square.
const maxLevels = 128

// Match reports whether an MQTT filter matches a topic. A filter that begins
// with a wildcard does not match a topic that begins with $.
func Match(filter, topic string) bool { return covers(filter, topic) }

// covers reports whether every topic that filter matches is matched by
// allowed too. A topic is a filter that matches itself alone.
func covers(allowed, filter string) bool {
	if filter == "" || filter[0] == '$' && startsWild(allowed) {
		return false
	}
	for {
		a, aRest, aMore := strings.Cut(allowed, "/")
		if a == "#" {
			return true
		}
		f, fRest, fMore := strings.Cut(filter, "/")
		if f == "#" || a != "+" && a != f {
			return false
		}
		if !fMore {
			return !aMore || aRest == "#"
		}
		if !aMore {
			return false
		}
		allowed, filter = aRest, fRest
	}
}

func startsWild(filter string) bool {
	return filter != "" && (filter[0] == '+' || filter[0] == '#')
}

// Overlap reports whether there is a topic that both filters match.
func Overlap(a, b string) bool {
	if a == "" || b == "" || a[0] == '$' && startsWild(b) || b[0] == '$' && startsWild(a) {
		return false
	}
	if a == "+" && b == "/#" || a == "/#" && b == "+" {
		return false // only the empty name is matched by both, and it is no topic
	}
	for {
		x, xRest, xMore := strings.Cut(a, "/")
		y, yRest, yMore := strings.Cut(b, "/")
		if x == "#" || y == "#" {
			return true
		}
		if x != y && x != "+" && y != "+" {
			return false
		}
		if !xMore || !yMore {
			return xMore == yMore || xRest == "#" || yRest == "#"
		}
		a, b = xRest, yRest
	}
}

// Wildcards returns what the wildcards of filter matched in topic, joined by
// slashes: "host/+/telemetry" finds "a" in "host/a/telemetry", "camera/porch/#"
// finds "x/y" in "camera/porch/x/y" and "" in "camera/porch". It is false when
// the filter does not match. Nothing is allocated where the wildcards stand
// side by side.
func Wildcards(filter, topic string) (string, bool) {
	if !Match(filter, topic) {
		return "", false
	}
	found, from, to := "", -1, -1 // found is topic[from:to] while from >= 0
	for at, more := 0, true; more; {
		var f string
		f, filter, more = strings.Cut(filter, "/")
		if at > len(topic) { // what is left of the filter is a # that stands for nothing
			break
		}
		end := len(topic)
		if n := strings.IndexByte(topic[at:], '/'); n >= 0 && f != "#" {
			end = at + n
		}
		if f == "+" || f == "#" {
			switch part := topic[at:end]; {
			case to < 0:
				found, from = part, at
			case from >= 0 && to+1 == at:
				found = topic[from:end]
			default:
				found, from = found+"/"+part, -1
			}
			to = end
		}
		at = end + 1
	}
	return found, true
}

// ValidTopic says why a name cannot be published to, nil when it can.
func ValidTopic(topic string) error {
	if strings.ContainsAny(topic, "+#") {
		return fmt.Errorf("topic %q has a wildcard", topic)
	}
	return validName("topic", topic)
}

// ValidFilter says why a filter cannot be subscribed to, nil when it can.
// Shared subscriptions ($share/group/filter) are no filters here.
func ValidFilter(filter string) error {
	if err := validName("filter", filter); err != nil {
		return err
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") {
			return fmt.Errorf("filter %q: a wildcard stands for a whole level, %q is none", filter, level)
		}
		if level == "#" && more {
			return fmt.Errorf("filter %q: # stands last", filter)
		}
	}
	return nil
}

func validName(kind, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty", kind)
	case len(s) > 65535:
		return fmt.Errorf("the %s has %d bytes, MQTT allows 65535", kind, len(s))
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return fmt.Errorf("%s %q is no UTF-8 text", kind, s)
	case strings.Count(s, "/") >= maxLevels:
		return fmt.Errorf("the %s has %d levels, the limit is %d", kind, strings.Count(s, "/")+1, maxLevels)
	}
	return nil
}
