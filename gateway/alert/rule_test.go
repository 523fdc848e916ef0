package alert

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// step is a reading at a time after the start; the last step of a case is
// often the end of the watch.
type step struct {
	at     time.Duration
	source string // "": nothing comes, time passes
	v      float64
}

// every is readings of source a, one a second from the first on.
func every(values ...float64) (steps []step) {
	for i, v := range values {
		steps = append(steps, step{time.Duration(i) * time.Second, "a", v})
	}
	return steps
}

func TestRules(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name  string
		rule  func(*Config)
		steps []step
		want  []string
	}{
		{"each change at once", nil, every(1, 11, 12, 3, 20), []string{"1s raised a", "3s cleared a", "4s raised a"}},
		{"the bound itself is not over it", nil, every(10, 10, 9), nil},
		{"3 of 5", func(c *Config) { c.For = "3 of 5" }, every(11, 1, 11, 1, 11, 11, 1), []string{"4s raised a", "6s cleared a"}},
		{"3 of 5, never 3", func(c *Config) { c.For = "3 of 5" }, every(11, 11, 1, 1, 1, 11, 11, 1, 1, 1), nil},
		{"what raised it does not raise it again", func(c *Config) { c.For = "2 of 3" }, every(11, 11, 1, 11, 1, 11), []string{"1s raised a", "2s cleared a", "5s raised a"}},
		{"64 of 64", func(c *Config) { c.For = "64 of 64" }, every(fill(65, 11)...), []string{"1m3s raised a"}},
		{"hold", func(c *Config) { c.Hold = 4 * s }, append(every(11, 1, 1, 1), step{at: 10 * s}), []string{"0s raised a", "4s cleared a"}},
		{"hold, and true when it ends", func(c *Config) { c.Hold = 4 * s }, every(11, 1, 1, 1, 11, 11, 1), []string{"0s raised a", "6s cleared a"}},
		{"repeat while raised", func(c *Config) { c.Repeat = 2 * s }, []step{{0, "a", 11}, {5 * s, "a", 1}, {20 * s, "", 0}}, []string{"0s raised a", "2s repeated a", "4s repeated a", "5s cleared a"}},
		{"clear by time", func(c *Config) { c.Clear = "3s" }, append(every(11, 1, 1, 11, 1), step{at: 20 * s}), []string{"0s raised a", "7s cleared a"}},
		{"silence clears nothing that was true", func(c *Config) { c.Clear = "3s" }, []step{{0, "a", 11}, {3600 * s, "", 0}}, []string{"0s raised a"}},
		{"hysteresis", func(c *Config) { c.Clear = "v < 5" }, every(11, 9, 6, 11, 5, 4, 6, 9, 11), []string{"0s raised a", "5s cleared a", "8s raised a"}},
		{"hysteresis and hold", func(c *Config) { c.Clear, c.Hold = "v < 5", 3*s }, append(every(11, 4, 4), step{at: 9 * s}), []string{"0s raised a", "3s cleared a"}},
		{"hysteresis, over again when hold ends", func(c *Config) { c.Clear, c.Hold = "v < 5", 3*s }, every(11, 4, 8, 8, 8, 4), []string{"0s raised a", "5s cleared a"}},
		{"sources do not mix", func(c *Config) { c.For = "2 of 2" }, []step{{0, "a", 11}, {s, "b", 11}, {2 * s, "a", 1}, {3 * s, "b", 12}, {4 * s, "a", 11}, {5 * s, "a", 11}, {6 * s, "b", 1}},
			[]string{"3s raised b", "5s raised a", "6s cleared b"}},
		{"not a number is never over", nil, every(nan, 11, nan, nan), []string{"1s raised a", "2s cleared a"}},
		{"not a number is never under", func(c *Config) { c.Clear = "v < 5" }, every(11, nan, 4), []string{"0s raised a", "2s cleared a"}},
		{"a dotted name", func(c *Config) { c.When = "w.mean > 10 and source == 'a'" }, []step{{0, "a", 20}, {s, "a", 21}, {2 * s, "b", 30}}, []string{"1s raised a"}},
		{"another stream", func(c *Config) { c.Stream = "t" }, every(11), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := &world{begin: time.Now()}
				e, stop := engine(t, rule1(c.rule), dir, w)
				// Between the ticks, so that a result never meets one.
				w.begin = w.begin.Add(50 * time.Millisecond)
				for _, st := range c.steps {
					time.Sleep(time.Until(w.begin.Add(st.at)))
					if st.source != "" {
						feed(e, reading(st.source, st.v))
					}
				}
				synctest.Wait()
				stop()
				if d := cmp.Diff(c.want, w.log()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func fill(n int, v float64) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// One id from raised to cleared, another one the next time; the count, the
// result, the texts and the picture are those of the event.
func TestEvents(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		rules := rule1(func(c *Config) {
			c.When, c.Clear, c.Repeat, c.Severity = `any(objects, .label == "face" and .score > 0.5)`, "3s", time.Minute, "critical"
			c.Message = "somebody at {{.Source}}"
		})
		e, err := newPictureEngine(rules, dir, w)
		if err != nil {
			t.Fatal(err)
		}
		stop := running(t, e)
		defer stop()
		time.Sleep(50 * time.Millisecond) // between the ticks
		feed(e, faces("door", "dog", "face"))
		for range 61 {
			time.Sleep(time.Second)
			feed(e, faces("door", "face"))
		}
		if active := e.Active(); len(active) != 1 || active[0].Picture != nil {
			t.Errorf("active: %+v; the picture is not kept", active)
		}
		feed(e, faces("door"))
		time.Sleep(4 * time.Second)
		feed(e, faces("door", "face"))
		time.Sleep(time.Second)
		events := w.all()
		if len(events) != 4 {
			t.Fatalf("events: %v", w.log())
		}
		raised, repeated, cleared, again := events[0], events[1], events[2], events[3]
		if raised.ID == "" || repeated.ID != raised.ID || cleared.ID != raised.ID || again.ID == raised.ID {
			t.Errorf("ids: %q %q %q, then %q", raised.ID, repeated.ID, cleared.ID, again.ID)
		}
		if string(raised.Picture) != "picture of door" || repeated.Picture != nil || cleared.Picture != nil {
			t.Errorf("pictures: %q %q %q", raised.Picture, repeated.Picture, cleared.Picture)
		}
		if raised.Message != "somebody at door" || repeated.Message != raised.Message || cleared.Message != "cleared: somebody at door" {
			t.Errorf("messages: %q %q %q", raised.Message, repeated.Message, cleared.Message)
		}
		if raised.Count != 1 || repeated.Count != 61 || cleared.Count != 62 {
			t.Errorf("counts: %d %d %d", raised.Count, repeated.Count, cleared.Count)
		}
		if raised.Severity != "critical" || !cleared.Since.Equal(raised.Time) || len(e.Active()) != 1 {
			t.Errorf("%+v", cleared)
		}
	})
}

func TestClearMessage(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"hot cleared at a": nil,
		"cleared: m":       func(c *Config) { c.Message = "m" },
		"hot cleared":      func(c *Config) { c.Message = "{{.Result.features.gone}}" }, // it cannot be made
		"a is cool":        func(c *Config) { c.Message, c.Over = "m", "{{.Source}} is cool" },
	} {
		w := &world{}
		e, stop := engine(t, rule1(change), t.TempDir(), w)
		feed(e, reading("a", 11))
		feed(e, reading("a", 1))
		stop()
		if got := w.events[1].Message; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
