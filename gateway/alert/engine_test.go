package alert

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What was raised before a restart is said again at the start, stays raised
// under its id, and is cleared by the results that come after it.
func TestStateSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{begin: time.Now()}
		rules := rule1(func(c *Config) { c.For, c.Clear, c.Hold = "2 of 3", "2s", 10*time.Second })
		e, stop := engine(t, rules, dir, w)
		for _, source := range []string{"a", "b", "never"} {
			feed(e, reading(source, 11))
		}
		feed(e, reading("a", 11))
		feed(e, reading("b", 11))
		time.Sleep(11 * time.Second)
		feed(e, reading("b", 1))
		time.Sleep(3 * time.Second)
		stop()
		raised := w.all()[0]

		time.Sleep(time.Hour)
		again := &world{begin: time.Now()}
		e, stop = engine(t, rules, dir, again)
		synctest.Wait()
		events := again.all()
		if len(events) != 2 || events[0].Source != "a" || events[0].State != Raised || events[1].Source != "b" || events[1].State != Cleared {
			t.Fatalf("at the start: %v", again.log())
		}
		if events[0].ID != raised.ID || !events[0].Time.Equal(raised.Time) || string(events[0].Result) != string(raised.Result) {
			t.Errorf("%+v, before %+v", events[0], raised)
		}
		if active := e.Active(); len(active) != 1 || active[0].ID != raised.ID {
			t.Errorf("active: %v", active)
		}
		feed(e, reading("a", 11))
		feed(e, reading("a", 1))
		time.Sleep(3 * time.Second)
		stop()
		events = again.all()
		if last := events[len(events)-1]; len(events) != 3 || last.State != Cleared || last.ID != raised.ID {
			t.Errorf("events: %v", again.log())
		}
	})
}

// The state is on disk soon after an event, not only after a clean stop.
func TestStateSurvivesKill(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{begin: time.Now()}
		e, stop := engine(t, rule1(nil), dir, w)
		defer stop()
		feed(e, reading("a", 11))
		time.Sleep(2 * saveEvery)
		// What is there now is what a kill leaves.
		b, err := os.ReadFile(filepath.Join(dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, stateFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		after := &world{}
		_, stop2 := engine(t, rule1(nil), copied, after)
		synctest.Wait()
		stop2()
		if events := after.all(); len(events) != 1 || events[0].ID != w.all()[0].ID || events[0].State != Raised {
			t.Errorf("%v", after.log())
		}
	})
}

// A rule that was taken out of the configuration leaves nothing raised.
func TestRuleGone(t *testing.T) {
	dir := t.TempDir()
	w := &world{}
	e, stop := engine(t, rule1(nil), dir, w)
	feed(e, reading("a", 11))
	feed(e, reading("b", 11))
	feed(e, reading("b", 1))
	stop()
	after := &world{}
	_, stop = engine(t, nil, dir, after)
	stop()
	if events := after.all(); len(events) != 1 || events[0].State != Cleared || events[0].ID != w.all()[0].ID {
		t.Errorf("%v", after.log())
	}
	third := &world{}
	_, stop = engine(t, nil, dir, third)
	stop()
	if len(third.all()) != 0 {
		t.Errorf("said twice: %v", third.log())
	}
}

func TestBrokenState(t *testing.T) {
	for _, text := range []string{"", "{", `{"rules":{"hot":{"sources":[null,{"source":"x"}]}}}`, `{"rules":3}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w := &world{}
		e, stop := engine(t, rule1(nil), dir, w)
		feed(e, reading("x", 11))
		stop()
		if events := w.all(); len(events) != 1 || events[0].State != Raised {
			t.Errorf("%q: %v", text, w.log())
		}
	}
}

// A reload keeps what unchanged and changed rules know, clears what a removed
// one has raised, and refuses a wrong rule without touching the others.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{begin: time.Now()}
		rules := map[string]Config{}
		for _, name := range []string{"same", "changed", "removed"} {
			rules[name] = rule1(func(c *Config) {
				c.For = "2 of 2"
				c.Publish = []PublishConfig{{Topic: name, Payload: "{{.State}}", On: []string{Raised, Cleared}}}
			})["hot"]
		}
		e, stop := engine(t, rules, dir, w)
		feed(e, reading("a", 11))
		feed(e, reading("a", 11))
		feed(e, reading("b", 11)) // half way
		ids := map[string]string{}
		for _, ev := range w.all() {
			ids[ev.Alert] = ev.ID
		}
		wrong := map[string]Config{"same": rules["same"], "changed": rule1(func(c *Config) { c.When = "u > 1" })["hot"]}
		if _, err := e.Prepare(wrong, fieldsV); err == nil || !strings.Contains(err.Error(), "alerts.changed.when") {
			t.Fatalf("%v", err)
		}
		c := rules["changed"]
		c.When = "v > 20"
		swap, err := e.Prepare(map[string]Config{"same": rules["same"], "changed": c}, fieldsV)
		if err != nil {
			t.Fatal(err)
		}
		swap()
		feed(e, reading("b", 11)) // the other half: of same alone
		feed(e, reading("a", 15)) // not over 20
		feed(e, reading("a", 5))
		synctest.Wait()
		stop()
		var got []string
		for _, ev := range w.all()[3:] {
			got = append(got, ev.Alert+" "+ev.State+" "+ev.Source)
			if ev.Source == "a" && ev.ID != ids[ev.Alert] {
				t.Errorf("%s: id %s, was %s", ev.Alert, ev.ID, ids[ev.Alert])
			}
		}
		if d := cmp.Diff([]string{"removed cleared a", "same raised b", "changed cleared a", "same cleared a"}, got); d != "" {
			t.Error(d)
		}
		sent := map[string]int{}
		for _, l := range w.local {
			sent[l]++
		}
		want := map[string]int{"same raised false": 2, "same cleared false": 1, "changed raised false": 1, "changed cleared false": 1, "removed raised false": 1, "removed cleared false": 1}
		if d := cmp.Diff(want, sent); d != "" {
			t.Error(d)
		}
	})
}

// The sources of a rule are bounded: silent ones that are not raised leave
// first, and one that must leave raised is cleared.
func TestSourcesBounded(t *testing.T) {
	w := &world{}
	e, err := New(rule1(nil), fieldsV, t.TempDir(), w, zerolog.Nop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	feed(e, reading("first", 11))
	for i := range maxSources + 50 {
		feed(e, reading(fmt.Sprint("quiet", i), 1))
	}
	if n := len(e.rules["hot"].states); n != maxSources || len(e.Active()) != 1 {
		t.Errorf("%d sources, %d raised", n, len(e.Active()))
	}
	for i := range maxSources {
		feed(e, reading(fmt.Sprint("loud", i), 11))
	}
	if n, a := len(e.rules["hot"].states), len(e.Active()); n != maxSources || a != maxSources {
		t.Errorf("%d sources, %d raised", n, a)
	}
	last := w.all()[len(w.all())-2]
	if last.State != Cleared || last.Source != "first" {
		t.Errorf("%s %s", last.Source, last.State)
	}
	e.stop()
}
