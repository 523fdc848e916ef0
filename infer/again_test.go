package infer

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// A choice that was made on a busy box serves, is remembered, and is made again,
// by a gateway that starts too, until one is made with less to wait; a busier one
// changes nothing.
func TestChoiceOfABusyBox(t *testing.T) {
	report := func(micros float64, waited ...float64) (list []CandidateReport) {
		for i, name := range []string{"builtin", "builtin:2"} {
			list = append(list, CandidateReport{Name: name, OK: true, Micros: []float64{10, micros}[i], Waited: waited[i]})
		}
		return list
	}
	var next []CandidateReport
	asked := 0
	trial := func(context.Context, TrialRequest) ([]CandidateReport, error) {
		asked++
		return slices.Clone(next), nil
	}
	dir := t.TempDir()
	e := newEngine(t, dir, trial, sine(t))
	m, err := e.Model("sine")
	if err != nil {
		t.Fatal(err)
	}
	tend := func(r []CandidateReport, wants int, delegate string, busy bool) {
		t.Helper()
		next, asked = r, 0
		m.live.Load().again = time.Time{}
		e.tend(t.Context(), m.live.Load())
		if s := e.Models()[0]; asked != wants || s.Delegate != delegate || strings.HasSuffix(s.Why, ", on a busy box") != busy {
			t.Errorf("tried %d times, not %d: %+v", asked, wants, s)
		}
	}
	tend(report(9, 0.1, 0.5), 1, "builtin", true) // its helper waited, which nobody sees
	e.tend(t.Context(), m.live.Load())
	if asked != 1 {
		t.Error("tried again at once")
	}
	tend(report(1, 0.1, 0.6), 1, "builtin", true)
	e = newEngine(t, dir, trial, sine(t))
	if m, err = e.Model("sine"); err != nil {
		t.Fatal(err)
	}
	tend(report(3, 0, 0.05), 1, "builtin:2", false)
	tend(report(9, 0, 0), 0, "builtin:2", false)
	e = newEngine(t, dir, trial, sine(t))
	if s := e.Models()[0]; s.Delegate != "builtin:2" {
		t.Errorf("after a restart: %+v", s)
	}
	// What the configuration pins is not tried.
	pinned := sine(t)
	for name, c := range pinned {
		c.Delegate = "builtin"
		pinned[name] = c
	}
	e = newEngine(t, t.TempDir(), trial, pinned)
	if m, err = e.Model("sine"); err != nil {
		t.Fatal(err)
	}
	tend(report(1, 0, 0.5), 0, "builtin", false)
}
