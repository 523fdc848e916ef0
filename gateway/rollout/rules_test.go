package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgegateway/gateway/pipeline"
)

// some are counters of a shadow with something in each.
func some() Counters {
	now := time.Unix(10_000, 0)
	return countersOf(pipeline.BesideCounts{
		Begun: now.Add(-2 * time.Hour), Samples: 1000, Agreed: 970, Dropped: 7,
		Classes: []pipeline.ClassCount{{Label: "7", Samples: 100, Differ: 20}, {Label: "x", Samples: 5, Differ: 5}, {Label: "1", Samples: 895, Differ: 5}},
		Pairs:   []pipeline.PairCount{{Live: "7", Beside: "1", Samples: 20}},
		Beside:  worked("2", 1000, 10, 2*time.Millisecond), Live: worked("1", 5000, 0, time.Millisecond),
	}, false, now)
}

func TestCounters(t *testing.T) {
	c := some()
	if c.Hours != 2 || c.Agreement != 0.97 || c.Worst != 0.2 || c.Samples != 1000 || c.Live.Samples != 5000 || c.Dropped != 7 {
		t.Errorf("%+v", c)
	}
	if got := c.String(); !strings.HasPrefix(got, "1000 samples, agreement 0.9700, errors 0.0099 (live 0.0000), p99 2.") {
		t.Error(got)
	}
	canary := countersOf(pipeline.BesideCounts{Begun: time.Unix(0, 0), Beside: worked("2", 50, 10, time.Millisecond)}, true, time.Unix(0, 0))
	if canary.Samples != 60 || canary.Agreement != 0 || strings.Contains(canary.String(), "agreement") {
		t.Errorf("%+v: %v", canary, canary)
	}
	many := c
	many.Classes = make([]pipeline.ClassCount, 500)
	if n := len(many.short().Classes); n != toldClasses || len(many.Classes) != 500 {
		t.Errorf("%d of %d classes are told", n, len(many.Classes))
	}
}

func TestRules(t *testing.T) {
	c := some()
	c.Labels, c.Accuracy, c.Live.Labels, c.Live.Accuracy = 200, 0.91, 210, 0.95
	for text, want := range map[string]bool{
		"":                                    false,
		"agreement > 0.95 && samples >= 1000": true,
		"agreement > 0.98 && samples >= 10000 && p99 < 20":    false,
		"samples >= 500 && agreement < 0.9 || errors > 0.005": true,
		`disagreement["7"] > 0.1`:                             true,
		`disagreement["no such class"] > 0`:                   false,
		"worst >= 0.2 and hours > 1":                          true,
		"accuracy < live.accuracy - 0.03 && labels > 100":     true,
		"p99 < 1.5 * live.p99":                                false,
		"samples / live.samples < 0.5 && dropped < 10":        true,
		"labels / (live.labels - live.labels) > 1e9":          true, // infinite
	} {
		r, err := newRule(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := r.holds(c); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"agrement > 0.98":                  `"agrement > 0.98": unknown name agrement (1:1); there are accuracy, agreement, disagreement, dropped, errors, hours, labels, live, p50, p99, samples, worst, live.accuracy, live.errors`,
		"live.agreement > 0.9":             "live.agreement > 0.9",
		"samples":                          "is a float and no condition",
		"samples = 3":                      "equal is ==",
		"samples >":                        "it ends too early",
		"samples > 'many'":                 "mismatched types",
		"int(samples) % int(dropped) == 0": "over counters that are all 0",
	} {
		if _, err := newRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Withdrawing comes before promoting, and a stage has an end.
func TestRulesJudge(t *testing.T) {
	for _, c := range []struct {
		promote, withdraw string
		within            time.Duration
		want              verdict
		why               string
	}{
		{"samples > 10", "", 24 * time.Hour, promoted, "promoted by its rule samples > 10: 1000 samples, agreement 0.97"},
		{"samples > 10", "samples > 9", 24 * time.Hour, withdrawn, "withdrawn by its rule samples > 9"},
		{"samples > 1e6", "errors > 0.5", 24 * time.Hour, changed, ""},
		{"samples > 1e6", "", 2 * time.Hour, withdrawn, "no rule decided within 2h0m0s"},
		{"samples > 10", "1 % int(1000 - samples) > 0", 24 * time.Hour, withdrawn, "cannot be judged"},
	} {
		r, err := newRules(c.promote, c.withdraw, c.within)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := r.judge(some()); got != c.want || !strings.Contains(why, c.why) {
			t.Errorf("%+v: %v, %s", c, got, why)
		}
	}
}

func TestSteps(t *testing.T) {
	shadow, canary := DefaultShadow(), DefaultCanary()
	ok := Steps{Shadow: &shadow, Canary: &canary, Within: time.Hour, Labels: &LabelsConfig{Topic: "truth/+", ID: "id", Label: "label", Keep: 10}}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
	if err := DefaultSteps().Validate(); err != nil {
		t.Error(err)
	}
	// What the defaults say of a good version and of bad ones.
	good := some()
	good.Errors = 0
	bad, slow := some(), good
	bad.Errors = 0.5
	slow.P50 = 100
	differs := good
	differs.Agreement = 0.7
	for name, c := range map[string]struct {
		promote, withdraw string
		Counters
		want verdict
	}{
		"shadow, good":      {shadow.Promote, shadow.Withdraw, good, promoted},
		"shadow, fails":     {shadow.Promote, shadow.Withdraw, bad, withdrawn},
		"shadow, differs":   {shadow.Promote, shadow.Withdraw, differs, withdrawn},
		"shadow, beginning": {shadow.Promote, shadow.Withdraw, Counters{}, changed},
		"canary, good":      {canary.Promote, canary.Withdraw, good, promoted},
		"canary, fails":     {canary.Promote, canary.Withdraw, bad, withdrawn},
		"canary, slow":      {canary.Promote, canary.Withdraw, slow, withdrawn},
		"canary, beginning": {canary.Promote, canary.Withdraw, Counters{}, changed},
	} {
		r, err := newRules(c.promote, c.withdraw, time.Hour*100)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := r.judge(c.Counters); got != c.want {
			t.Errorf("%s: %v, %s", name, got, why)
		}
	}
	for want, change := range map[string]func(*Steps){
		"models.m.shadow.share: ":     func(s *Steps) { s.Shadow.Share = 0 },
		"models.m.shadow.keep: ":      func(s *Steps) { s.Shadow.Keep = -1 },
		"models.m.shadow.tolerance: ": func(s *Steps) { s.Shadow.Tolerance = 2 },
		"models.m.shadow.promote: ":   func(s *Steps) { s.Shadow.Promote = "agrement > 1" },
		"models.m.canary.share: ":     func(s *Steps) { s.Canary.Share = 1.5 },
		"models.m.canary.withdraw: ":  func(s *Steps) { s.Canary.Withdraw = "p99" },
		"models.m.within: ":           func(s *Steps) { s.Within = 0 },
		"models.m.labels.topic: ":     func(s *Steps) { s.Labels.Topic = "a/#/b" },
		"models.m.labels.id: ":        func(s *Steps) { s.Labels.ID = "[*]" },
		"models.m.labels.keep: ":      func(s *Steps) { s.Labels.Keep = 0 },
	} {
		sh, ca, la := shadow, canary, *ok.Labels
		s := Steps{Shadow: &sh, Canary: &ca, Within: time.Hour, Labels: &la}
		change(&s)
		c := DefaultConfig()
		c.Models = map[string]Steps{"m": s}
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A label counts once, for each version that answered, whichever came first.
func TestTruths(t *testing.T) {
	make := func(keep int) *truths {
		tr, err := newTruths(LabelsConfig{ID: "id", Label: "right.label", Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	hear := func(tr *truths, id, label string) {
		tr.hear(fmt.Appendf(nil, `{"id":%q,"right":{"label":%q}}`, id, label))
	}
	tr := make(10)
	tr.answer("a", "1", "cat")
	tr.answer("a", "2", "dog")
	hear(tr, "a", "dog")
	hear(tr, "a", "cat") // too late
	tr.answer("b", "1", "cat")
	hear(tr, "b", "cat")
	tr.answer("b", "2", "cat") // behind its label
	hear(tr, "unknown", "cat")
	for _, bad := range []string{"", "{", `{"id":"c"}`, `[]`, `{"id":3,"right":{"label":true}}`, strings.Repeat("x", maxTruth+1)} {
		tr.hear([]byte(bad))
	}
	if one, two := tr.of("1"), tr.of("2"); one != (marks{2, 1}) || two != (marks{2, 2}) {
		t.Errorf("%+v %+v", one, two)
	}
	rapid.Check(t, func(t *rapid.T) {
		keep := rapid.IntRange(1, 20).Draw(t, "keep")
		n := rapid.IntRange(0, 100).Draw(t, "n")
		tr := make(keep)
		for i := range n {
			tr.answer(fmt.Sprint(i), "1", "x")
		}
		for i := range n {
			hear(tr, fmt.Sprint(i), "x")
		}
		if got, want := tr.of("1"), uint64(min(keep, n)); got.labels != want || got.right != want || len(tr.said) != int(want) || len(tr.order) != int(want) {
			t.Fatalf("%+v of %d, %d kept", got, n, len(tr.said))
		}
	})
	var none *truths
	if none.of("1") != (marks{}) {
		t.Error("labels of nobody")
	}
}

func TestWorse(t *testing.T) {
	for _, c := range []struct {
		now, before marks
		want        bool
	}{
		{marks{1000, 800}, marks{1000, 950}, true},
		{marks{1000, 920}, marks{1000, 950}, false}, // by less than asked
		{marks{40, 32}, marks{1000, 950}, false},    // it may be chance
		{marks{10, 0}, marks{1000, 950}, false},     // too few
		{marks{1000, 0}, marks{10, 10}, false},
		{marks{1000, 990}, marks{1000, 950}, false},
	} {
		if got := c.now.worse(c.before, 0.05); got != c.want {
			t.Errorf("%+v behind %+v: %v", c.now, c.before, got)
		}
	}
}

// How often the gateway died with a version beside the live one, as its log tells.
func TestFatal(t *testing.T) {
	for log, want := range map[string]int{
		"":                                     0,
		"start shadow start shadow start":      2,
		"start shadow stop start shadow start": 1,
		"start shadow start canary start canary start": 3,
		"start shadow start start start":               1, // it was not put there again
		"start shadow start withdrawn start":           0,
		"start shadow start trying shadow start":       1,
		"start other start other start":                0,
		"start shadow canary start":                    1,
	} {
		var entries []Entry
		for word := range strings.FieldsSeq(log) {
			e := Entry{Step: word}
			switch word {
			case StepStart, StepStop:
			case "other":
				e = Entry{Step: StepShadow, Model: "m", Version: "3"}
			default:
				e.Model, e.Version = "m", "2"
			}
			entries = append(entries, e)
		}
		if got := fatal(entries, "m", "2"); got != want {
			t.Errorf("%s: %d, want %d", log, got, want)
		}
	}
}

// FuzzHear takes any message for a label.
func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"id":"a","label":"cat"}`))
	f.Add([]byte(`{"id":"a","label":3}`))
	f.Add([]byte(`{"id":["a"]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		tr, err := newTruths(LabelsConfig{ID: "id", Label: "label", Keep: 4})
		if err != nil {
			t.Fatal(err)
		}
		tr.answer("a", "1", "cat")
		tr.hear(payload)
		if m := tr.of("1"); m.labels > 1 || m.right > m.labels {
			t.Errorf("%+v", m)
		}
	})
}
