package compress

import (
	"context"
	"errors"
	"strings"
	"testing"

	"edgegateway/infer/model"
)

// Ctrl-C leaves the best so far, proved; before there is one, nothing.
func TestShortenStopped(t *testing.T) {
	file, _, d := trained(t, "mlp")
	for _, c := range []struct {
		at    string // the work that is stopped,
		after int    // when so much of it is done
		want  string // a note; "": there is no model
	}{
		{"calibrating", 3, ""},
		{"choosing how", 2, ""},
		{"choosing how", 2 * d.Len(), "of 6 ways were compared"},
		{"comparing", 5, "compared on 20 samples alone"},
		{"comparing, XNNPACK", 5, "compared on 20 samples alone"},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		made, err := Shorten(ctx, Job{File: file, Config: DefaultConfig(), Calibration: &Samples{Set: d}, Progress: func(what string, done, _ int) {
			if what == c.at && done >= c.after {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", c.at, err)
		}
		if (made != nil) != (c.want != "") {
			t.Errorf("%s at %d: made %v", c.at, c.after, made != nil)
		}
		if made == nil {
			continue
		}
		if m, err := model.Read(made.File); err != nil || m.Check() != nil || made.Builtin.Samples == 0 {
			t.Errorf("%s: %v, %+v", c.at, err, made.Builtin)
		}
		if notes := strings.Join(made.Notes, "\n"); !strings.Contains(notes, c.want) {
			t.Errorf("%s: %q", c.at, notes)
		}
	}
}
