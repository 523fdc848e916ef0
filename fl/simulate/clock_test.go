package simulate

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"edgegateway/fl"
)

func drain(t *testing.T, c *clock) {
	t.Helper()
	for {
		more, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
}

func TestClock(t *testing.T) {
	c := &clock{now: epoch}
	var got []string
	say := func(s string) func() error {
		return func() error { got = append(got, fmt.Sprint(s, c.now.Sub(epoch))); return nil }
	}
	c.after(2*time.Second, say("c"))
	c.after(time.Second, func() error {
		c.at(epoch, say("late")) // what was is over
		c.after(time.Second, say("d"))
		return say("a")()
	})
	c.after(time.Second, say("b"))
	drain(t, c)
	if want := []string{"a1s", "b1s", "late1s", "c2s", "d2s"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestDoor(t *testing.T) {
	c := &clock{now: epoch}
	d := door{clock: c}
	var got []string
	for i, at := range []time.Duration{0, 0, 1, 9} {
		c.after(at*time.Second, func() error {
			d.enter(func() time.Duration {
				got = append(got, fmt.Sprint(i, c.now.Sub(epoch)))
				return 2 * time.Second
			})
			return nil
		})
	}
	drain(t, c)
	if want := []string{"0 0s", "1 2s", "2 4s", "3 9s"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The shelf's states are as Memory is, whatever is done with them, and leave
// nothing on disk once all is deleted.
func TestShelf(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		shelf := newShelf(dir)
		states, want := []*state{shelf.state(), shelf.state()}, []*fl.Memory{fl.NewMemory(), fl.NewMemory()}
		name := rapid.SampledFrom([]string{"a", "b/1", "b/2", "bc", "d/e"})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i, n := rapid.IntRange(0, 1).Draw(t, "whose"), name.Draw(t, "name")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				data := bytes.Repeat([]byte{byte(rapid.IntRange(0, 2).Draw(t, "byte"))}, rapid.SampledFrom([]int{0, 3, large - 1, large, 2 * large}).Draw(t, "size"))
				if err := states[i].Put(n, data); err != nil {
					t.Fatal(err)
				}
				_ = want[i].Put(n, data)
			case 2:
				if err := states[i].Delete(n); err != nil {
					t.Fatal(err)
				}
				_ = want[i].Delete(n)
			}
			for k := range states {
				for _, prefix := range []string{"", "b", "b/", "x"} {
					got, _ := states[k].List(prefix)
					if all, _ := want[k].List(prefix); !slices.Equal(got, all) {
						t.Fatalf("%q: %v, want %v", prefix, got, all)
					}
				}
				for _, f := range []string{"a", "b/1", "b/2", "bc", "d/e"} {
					got, err := states[k].Get(f)
					if data, _ := want[k].Get(f); err != nil || !bytes.Equal(got, data) || (got == nil) != (data == nil) {
						t.Fatalf("%s: %d bytes, want %d, %v", f, len(got), len(data), err)
					}
				}
			}
		}
		for k := range states {
			for _, f := range slices.Clone(states[k].names) {
				if err := states[k].Delete(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 || len(shelf.by) > 0 {
			t.Fatalf("%v and %d contents are left, %v", left, len(shelf.by), err)
		}
	})
}
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"fl/+/task", "fl/a/task", true}, {"fl/+/task", "fl/a/b/task", false}, {"fl/a/from/+/+", "fl/a/from/g/hello", true}, {"fl/a/from/+/+", "fl/a/from/g", false},
		{"fl/#", "fl/a/b", true}, {"fl/#", "fl", true}, {"fl/a", "fl/a", true}, {"fl/a", "fl/b", false}, {"fl/a/#", "fl/b/c", false},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("%s takes %s: %v", c.filter, c.topic, got)
		}
	}
}
