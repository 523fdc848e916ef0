package pipeline

import (
	"strings"
	"testing"
)

// Which results of one source go up, by what the stream sends.
func TestSelection(t *testing.T) {
	labels := strings.Fields("cat cat dog dog dog cat cat bird")
	for rule, want := range map[string]string{
		"all":       "cat cat dog dog dog cat cat bird",
		"none":      "",
		"change":    "cat dog cat bird",
		"every 3":   "cat dog cat",
		"every 100": "cat",
	} {
		send, err := parseSend(rule)
		if err != nil {
			t.Fatal(err)
		}
		var src source
		var got []string
		for _, l := range labels {
			if src.offer(send, l) {
				got = append(got, l)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
	for _, bad := range []string{"", "some", "every", "every 0", "every -1", "every x", "Change"} {
		if _, err := parseSend(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
