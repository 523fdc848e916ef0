package alert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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

// A rule goes on over a restart where it was: what is counted towards `for`,
// when a repetition is due, what keeps an alert raised and what would clear it.
func TestRuleGoesOnAfterRestart(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name          string
		rule, later   func(*Config) // later: the rule after the restart, nil for the same
		before, after []float64     // one a second; the restart is 4 s after the last
		want          []string      // after the restart, which comes at 0s; what is told again is left out
	}{
		{"for", func(c *Config) { c.For = "3 of 3" }, nil, []float64{11, 11, 11, 1, 11, 11}, []float64{11}, []string{"0s raised a"}},
		{"for, of another condition", func(c *Config) { c.For = "3 of 3" }, func(c *Config) { c.For, c.When = "3 of 3", "v > 9" },
			[]float64{11, 11, 11, 1, 11, 11}, []float64{11, 11, 11}, []string{"2s raised a"}},
		{"repeat", func(c *Config) { c.Repeat = 10 * s }, nil, []float64{11}, nil, []string{"6s repeated a", "16s repeated a"}},
		{"hold", func(c *Config) { c.Hold = 10 * s }, nil, []float64{11, 1}, nil, []string{"5s cleared a"}},
		{"clear by time", func(c *Config) { c.Clear = "10s" }, nil, []float64{11, 1}, nil, []string{"6s cleared a"}},
		{"hysteresis", func(c *Config) { c.Clear = "v < 5" }, nil, []float64{11, 9}, []float64{9, 6, 4}, []string{"2s cleared a"}},
		{"hysteresis and hold", func(c *Config) { c.Clear, c.Hold = "v < 5", 10*s }, nil, []float64{11, 4}, nil, []string{"5s cleared a"}},
		{"hysteresis and hold, of another condition", func(c *Config) { c.Clear, c.Hold = "v < 5", 10*s }, func(c *Config) { c.Clear, c.Hold = "v < 3", 10*s },
			[]float64{11, 4}, nil, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				e, stop := engine(t, rule1(c.rule), dir, &world{})
				time.Sleep(50 * time.Millisecond) // between the ticks
				for _, v := range c.before {
					feed(e, reading("a", v))
					time.Sleep(s)
				}
				time.Sleep(3 * s)
				stop()
				w := &world{begin: time.Now()}
				if c.later == nil {
					c.later = c.rule
				}
				e, stop = engine(t, rule1(c.later), dir, w)
				for _, v := range c.after {
					feed(e, reading("a", v))
					time.Sleep(s)
				}
				time.Sleep(20*s - time.Since(w.begin))
				stop()
				got := slices.DeleteFunc(w.log(), func(line string) bool { return strings.HasPrefix(line, "-") })
				if d := cmp.Diff(c.want, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// What is told is on disk already: who is killed at that moment knows it at
// the next start, under the same id, whatever was told before and after.
func TestKeptBeforeTold(t *testing.T) {
	dir := t.TempDir()
	var kills []string // folders as a kill leaves them, one an event
	synctest.Test(t, func(t *testing.T) {
		w := &world{begin: time.Now()}
		w.told = func(*Event) {
			killed := t.TempDir()
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Error(err)
			}
			kills = append(kills, killed)
		}
		e, stop := engine(t, rule1(func(c *Config) { c.Repeat = 2 * time.Second }), dir, w)
		feed(e, reading("a", 11))
		feed(e, reading("b", 11))
		time.Sleep(3 * time.Second)
		feed(e, reading("a", 1))
		synctest.Wait()
		feed(e, reading("a", 12))
		time.Sleep(time.Second)
		stop()
		events := w.all()
		if len(events) != 7 || len(kills) != 7 {
			t.Fatalf("%v", w.log())
		}
		for i, ev := range events {
			w := &world{}
			e, stop := engine(t, rule1(nil), kills[i], w)
			synctest.Wait()
			stop()
			j := slices.IndexFunc(w.all(), func(x *Event) bool { return x.Source == ev.Source })
			if j < 0 {
				t.Fatalf("killed at %s of %s: nothing is known of it", ev.State, ev.ID)
			}
			// Another source's event may be kept with it and not told yet.
			if got := w.all()[j]; got.ID != ev.ID || got.State != ev.State || !got.Time.Equal(ev.Time) || string(got.Result) != string(ev.Result) {
				t.Errorf("killed at %s of %s: %s of %s", ev.State, ev.ID, got.State, got.ID)
			}
			if active := e.Active(); (ev.State == Cleared) == slices.ContainsFunc(active, func(x Event) bool { return x.Source == ev.Source }) {
				t.Errorf("killed at %s of %s: raised are %v", ev.State, ev.ID, active)
			}
		}
	})
}

// A journal that a power cut left torn costs the torn line alone; one that
// grew is replaced by a state file; a disk that takes nothing costs no event.
func TestJournal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{begin: time.Now()}
		e, stop := engine(t, rule1(nil), dir, w)
		for i := range 20 {
			feed(e, reading(fmt.Sprint("s", i), 11))
		}
		time.Sleep(time.Second)
		b, err := os.ReadFile(filepath.Join(dir, journalFile))
		if err != nil {
			t.Fatal(err)
		}
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, journalFile), b[:len(b)-10], 0o600); err != nil {
			t.Fatal(err)
		}
		again := &world{}
		_, stop2 := engine(t, rule1(nil), torn, again)
		synctest.Wait()
		stop2()
		if n := len(again.all()); n != 19 {
			t.Errorf("%d of 20 known after a torn line", n)
		}
		for i := 0; ; i++ {
			r := reading(fmt.Sprint("more", i), 11)
			e.Result(r, fmt.Appendf(nil, `{"long":"%s"}`, strings.Repeat("x", 200<<10)), true)
			time.Sleep(time.Second)
			st, err := os.Stat(filepath.Join(dir, journalFile))
			if errors.Is(err, os.ErrNotExist) {
				break // all is in the state file
			}
			if err != nil || st.Size() > 2*maxJournal {
				t.Fatal(st, err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		before := len(w.all())
		feed(e, reading("last", 11))
		time.Sleep(time.Second)
		if n := len(w.all()); n != before+1 {
			t.Errorf("%d events told over a disk that is gone", n-before)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		feed(e, reading("after", 11))
		time.Sleep(time.Second)
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		stop()
		final := &world{}
		_, stop3 := engine(t, rule1(nil), killed, final)
		synctest.Wait()
		stop3()
		if n := len(final.all()); n != before+2 {
			t.Errorf("%d of %d known after the disk came back", n, before+2)
		}
	})
}

// What the disk did not take is kept with the next that it takes.
func TestDiskComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "alerts")
	synctest.Test(t, func(t *testing.T) {
		e, stop := engine(t, rule1(nil), dir, &world{})
		synctest.Wait()
		away := dir + ".away"
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		feed(e, reading("a", 11))
		time.Sleep(time.Second)
		if err := os.Rename(away, dir); err != nil {
			t.Fatal(err)
		}
		feed(e, reading("b", 11))
		time.Sleep(time.Second)
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		stop()
		w := &world{}
		_, stop = engine(t, rule1(nil), killed, w)
		synctest.Wait()
		stop()
		if n := len(w.all()); n != 2 {
			t.Errorf("%d of 2 known: %v", n, w.log())
		}
	})
}

// A clock that is behind the one of the run before, as after a power cut on a
// box without a battery, keeps no alert raised for years.
func TestClockBehind(t *testing.T) {
	dir := t.TempDir()
	rules := rule1(func(c *Config) { c.Hold, c.Clear, c.Repeat = time.Minute, "5s", time.Hour })
	e, stop := engine(t, rules, dir, &world{}) // by the true clock
	feed(e, reading("a", 11))
	feed(e, reading("a", 1))
	stop()
	synctest.Test(t, func(t *testing.T) { // in the year 2000
		w := &world{begin: time.Now()}
		_, stop := engine(t, rules, dir, w)
		time.Sleep(10 * time.Second)
		stop()
		if n := len(w.all()); n != 2 || w.all()[1].State != Cleared {
			t.Errorf("%v", w.log())
		}
	})
}

// Events that come faster than they are told hold up who brings them, not the
// memory.
func TestWaitingBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		w := &world{told: func(*Event) { <-slow }}
		e, stop := engine(t, rule1(nil), dir, w)
		feed(e, reading("first", 11))
		time.Sleep(time.Second) // it is being told
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range maxWaiting + 100 {
				feed(e, reading(fmt.Sprint(i), 11))
			}
		}()
		synctest.Wait()
		e.waiting.Lock()
		n := len(e.waiting.list)
		e.waiting.Unlock()
		if n != maxWaiting {
			t.Errorf("%d wait", n)
		}
		close(slow)
		<-done
		stop()
		if n := len(w.all()); n != maxWaiting+101 {
			t.Errorf("%d told", n)
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

// The start writes the state anew: who is killed right after it does not say a
// second time that a rule is gone, and the journal begins empty.
func TestStartIsKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e, stop := engine(t, rule1(nil), dir, &world{})
		feed(e, reading("a", 11))
		time.Sleep(time.Second)
		killed := t.TempDir()
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		stop()
		for _, want := range []int{1, 0} {
			w := &world{}
			_, stop := engine(t, nil, killed, w)
			synctest.Wait()
			next := t.TempDir()
			if err := os.CopyFS(next, os.DirFS(killed)); err != nil {
				t.Fatal(err)
			}
			stop()
			if n := len(w.all()); n != want {
				t.Errorf("%d told, want %d: %v", n, want, w.log())
			}
			if _, err := os.Stat(filepath.Join(next, journalFile)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the journal of the run before goes on: %v", err)
			}
			killed = next
		}
	})
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
		time.Sleep(time.Second)
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
	e, stop := engine(t, rule1(nil), t.TempDir(), w)
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
	stop()
	last := w.all()[len(w.all())-2]
	if last.State != Cleared || last.Source != "first" {
		t.Errorf("%s %s", last.Source, last.State)
	}
}
