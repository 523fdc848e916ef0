package cli_test

import (
	"regexp"
	"strings"
	"testing"

	"edgegateway/internal/testkit"
)

// A gateway trains beside a stream, and both are counted.
func TestBenchTraining(t *testing.T) {
	model := testkit.Shared(t, "models/hello_world_float.tflite")
	out := done(t, "", "bench", "training", model, "--output", "regression", "--rate", "100", "--rounds", "1", "--seconds", "400ms", "--samples", "40", "--epochs", "3")
	for _, want := range []string{
		`(?m)^ +without training +[1-9]\d* +\d`, `(?m)^ +with training +[1-9]\d* +\d`, `(?m)^ +with to without +\d`,
		`(?m), \d+ updates and \d+ epochs of [1-9]\d* samples were trained in \d`, `(?m)^of that time the training worked \d`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	for args, want := range map[string]string{
		model + " --rounds 0": "are 1 at least",
		"gone.tflite":         "gone.tflite",
		model + " --cpu 0":    "limits.cpu",
	} {
		if got := run(t, "", append([]string{"bench", "training"}, strings.Fields(args)...)...); got.code == 0 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %d %s, want %s", args, got.code, got.stderr, want)
		}
	}
}
