package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// That a newer picture took the place of an older one is counted, and no
// warning: full: latest asks for it.
func TestSupersededIsNoWarning(t *testing.T) {
	var out bytes.Buffer
	d := newDrops("s", prometheus.NewCounterVec(prometheus.CounterOpts{Name: "n"}, []string{"stream", "reason"}))
	d.add(zerolog.New(&out).Level(zerolog.InfoLevel), superseded, 1, nil)
	if out.Len() > 0 {
		t.Errorf("it says %s", out.String())
	}
	d.add(zerolog.New(&out).Level(zerolog.InfoLevel), queueFull, 1, nil)
	if !bytes.Contains(out.Bytes(), []byte(`"warn"`)) || d.counts()[superseded] != 1 {
		t.Errorf("%s, %v", out.String(), d.counts())
	}
}

// Each reason is logged at most once a second, and the next line says how
// many were not.
func TestDropsLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := zerolog.New(&out)
		d := newDrops("s", prometheus.NewCounterVec(prometheus.CounterOpts{Name: "n"}, []string{"stream", "reason"}))
		for range 35 { // 3.5 seconds
			d.add(log, "a", 2, errors.New("why"))
			d.add(log, "", 1, nil)
			time.Sleep(100 * time.Millisecond)
		}
		type line struct {
			Reason, Error string
			Count, Total  int
			Since         int `json:"since_last_line"`
		}
		var lines []line
		for dec := json.NewDecoder(&out); dec.More(); {
			var l line
			if err := dec.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		var want []line
		for i := range 4 {
			since := min(i, 1) * 9
			want = append(want, line{"a", "why", 2, 2 + 20*i, 2 * since}, line{"inference", "", 1, 1 + 10*i, since})
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]uint64{"a": 70, "inference": 35}, d.counts()); diff != "" {
			t.Error(diff)
		}
	})
}

// Every reason that the code gives is one of those that are counted from the
// start.
func TestDropReasons(t *testing.T) {
	given := map[string]bool{"inference": true}
	for file, pattern := range map[string]string{
		"../../sensors/sample.go": `(?m)^\t\w+ += "(\w+)"$`,
		"stream.go":               `"(stopping|no_source)"`,
		"queue.go":                `"(queue_full|superseded)"`,
		"worker.go":               `(?:s\.log, |Why: |reason = )"(\w+)"`,
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindAllSubmatch(b, -1)
		if len(found) < 2 {
			t.Errorf("%s: %q", file, found)
		}
		for _, m := range found {
			given[string(m[1])] = true
		}
	}
	got := slices.Sorted(maps.Keys(given))
	if want := slices.Sorted(slices.Values(dropReasons)); !slices.Equal(got, want) {
		t.Errorf("given %q\ncounted %q", got, want)
	}
}

// Every reason for which a window begins anew has a text for the log.
func TestResetTexts(t *testing.T) {
	b, err := os.ReadFile("../../sensors/window.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\.reset\("(\w+)"\)`).FindAllSubmatch(b, -1)
	for _, m := range found {
		if resetTexts[string(m[1])] == "" {
			t.Errorf("%s has no text", m[1])
		}
	}
	if len(found) < 4 {
		t.Errorf("found %q", found)
	}
}
