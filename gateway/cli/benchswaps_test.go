package cli_test

import (
	"regexp"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// Versions are exchanged under load, and nothing is lost; what cannot be
// measured is refused.
func TestBenchSwaps(t *testing.T) {
	one, two := testkit.Shared(t, "models/hello_world_float.tflite"), testkit.Shared(t, "models/hello_world_int8.tflite")
	out := done(t, "", "bench", "swaps", one, two, "--output", "regression", "--swaps", "4", "--rate", "400", "--rounds", "2", "--seconds", "200ms")
	for _, want := range []string{
		`(?m)^ +without +[1-9]\d* +\d`, `(?m)^ +with swaps +[1-9]\d* +\d`, `(?m)^4 swaps, of which`,
		`(?m)^published [1-9]\d*: lost 0, answered by neither 0, out of order 0$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	for args, want := range map[string]string{
		one + " " + two + " --swaps 0": "are 1 at least",
		one + " gone.tflite":           "gone.tflite",
		one + " " + testkit.Shared(t, "models/ad01_int8.tflite") + " --output raw": "takes 640 numbers",
	} {
		if got := run(t, "", append([]string{"bench", "swaps"}, strings.Fields(args)...)...); got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %d %s, want %s", args, got.code, got.stderr, want)
		}
	}
}
