package train

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// windowed is so many windows of a size, each a row after the last, of two
// sources and of classes that come in runs.
func windowed(n, size int, classes bool) *Dataset {
	d := &Dataset{Name: "w", Shape: Shape{1}, Width: 1}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		d.Values = append(d.Values, float32(i))
		d.Spans = append(d.Spans, Span{int32(2 * i / n), int64(i), int64(i + size - 1)})
		d.Times = append(d.Times, begin.Add(time.Duration(i)*time.Minute))
		if classes {
			d.Labels = append(d.Labels, int32(i/(n/8)%2))
			d.Classes = []string{"a", "b"}
		} else {
			d.Targets = append(d.Targets, float32(i))
		}
	}
	return d
}

func TestWindowsAreSplitApart(t *testing.T) {
	for _, size := range []int{1, 2, 10, 40} {
		for _, classes := range []bool{false, true} {
			for _, byTime := range []bool{false, true} {
				d := windowed(1600, size, classes)
				a, b, err := d.Split(0.25, byTime, 3)
				if err != nil {
					t.Fatal(err)
				}
				for i, x := range a.Spans {
					for k, y := range b.Spans {
						if x.Source == y.Source && x.From <= y.To && y.From <= x.To {
							t.Fatalf("windows of %d, by time %v: %v to learn from and %v to judge share readings", size, byTime, a.Values[i], b.Values[k])
						}
					}
				}
				if left := 1600 - a.Len() - b.Len(); a.Len() < 800 || b.Len() < 300 || b.Len() > 500 || left > 0 && size == 1 || left == 0 && size > 1 {
					t.Errorf("windows of %d, by time %v: %d to learn from, %d to judge, %d left out", size, byTime, a.Len(), b.Len(), left)
				}
				if classes && !byTime && (!slices.Contains(b.Labels, 0) || !slices.Contains(b.Labels, 1)) {
					t.Errorf("windows of %d: a class is not judged", size)
				}
			}
		}
	}
	// The order of the samples does not matter.
	d := windowed(1600, 10, true)
	order := rand.New(rand.NewPCG(1, 2)).Perm(1600)
	a, b, err := d.Subset(order).Split(0.25, false, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range a.Spans {
		for _, y := range b.Spans {
			if x.Source == y.Source && x.From <= y.To && y.From <= x.To {
				t.Fatalf("shuffled: %v and %v share readings", x, y)
			}
		}
	}
	d = windowed(40, 39, false)
	for i := range d.Spans {
		d.Spans[i].Source = 0
	}
	if _, _, err := d.Split(0.2, false, 1); err == nil || !strings.Contains(err.Error(), "other data to judge by") {
		t.Errorf("windows that all meet: %v", err)
	}
}

func TestBetween(t *testing.T) {
	d := windowed(100, 1, false)
	at := func(m int) time.Time { return d.Times[m] }
	got, err := d.Between(at(10), at(20))
	if err != nil || got.Len() != 10 || got.Values[0] != 10 {
		t.Errorf("%v, %v", got.Values, err)
	}
	if got, err = d.Between(time.Time{}, at(5)); err != nil || got.Len() != 5 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err = d.Between(at(99).Add(1), time.Time{}); err == nil || !strings.Contains(err.Error(), "2026-01-01 00:00:00 to 2026-01-01 01:39:00") {
		t.Errorf("%v", err)
	}
	d.Times = nil
	if _, err = d.Between(time.Time{}, time.Now()); err == nil {
		t.Error("without times")
	}
}
