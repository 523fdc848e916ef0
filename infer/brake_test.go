package infer

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// beside plays so many seconds of a live model that answers per second, each in
// a millisecond, and longer by a share while the trial works. A trial's slice is
// 20 ms. It gives the share of time that the trial worked, and by which share
// answers took longer all in all.
func beside(b *Brake, seconds int, perSecond, slows float64) (worked, slower float64) {
	now := time.Unix(1000, 0)
	var answers, spent, busy, steps float64
	for range seconds * 50 {
		may := b.May(now, map[string]Counts{"m": {Answers: uint64(answers), Spent: time.Duration(spent * 1e9)}})
		each := 1e-3
		if steps++; may {
			busy++
			each *= 1 + slows
		}
		answers += perSecond / 50
		spent += perSecond / 50 * each
		now = now.Add(20 * time.Millisecond)
	}
	return busy / steps, spent/(answers*1e-3+1e-12) - 1
}

// A trial that slows nothing works most of the time, one that slows too much
// hardly, and what is live is slowed by no more than was allowed all in all.
func TestBrake(t *testing.T) {
	for _, c := range []struct {
		name             string
		perSecond, slows float64
		least, most      float64 // share of time that the trial works
		held             bool
	}{
		{"nothing live", 0, 0, 0.99, 1, false},
		{"not slowed", 500, 0, 0.75, 0.85, false},
		{"slowed a little", 500, 0.15, 0.75, 0.85, false},
		{"slowed too much", 500, 0.5, 0.02, 0.15, true},
		{"slowed by far", 500, 10, 0.02, 0.15, true},
		{"few answers", 20, 0.5, 0.02, 0.4, true},
	} {
		b := NewBrake(SlowsAtMost)
		worked, slower := beside(b, 120, c.perSecond, c.slows)
		if worked < c.least || worked > c.most || b.Held() > 0 != c.held {
			t.Errorf("%s: worked %.2f of the time, want %v to %v; held %d times", c.name, worked, c.least, c.most, b.Held())
		}
		if c.slows <= 1 && slower > SlowsAtMost {
			t.Errorf("%s: slower by %.2f all in all", c.name, slower)
		}
	}
}

// What a trial does to few answers does not show in the mean: it works less where
// more than the slowest hundredth become slow by it.
func TestBrakeTail(t *testing.T) {
	for _, c := range []struct {
		name        string
		share       float64 // of answers that take twice as long while it works
		least, most float64 // share of time that it works
	}{
		{"one in 200", 0.005, 0.7, 0.85},
		{"one in 25", 0.04, 0.1, 0.35},
		{"one in 8", 0.12, 0.02, 0.15},
	} {
		b := NewBrake(SlowsAtMost)
		now := time.Unix(1000, 0)
		var n, slow uint64
		var part float64
		worked := 0
		const steps, after = 30_000, 15_000 // of 20 ms; it is judged by the second half
		var slowAfter, nAfter uint64
		for i := range steps {
			at := Counts{Answers: n}
			at.took[bucketOf(time.Millisecond)], at.took[bucketOf(2*time.Millisecond)] = n-slow, slow
			at.Spent = time.Duration(n+slow) * time.Millisecond
			may := b.May(now, map[string]Counts{"m": at})
			n += 10
			if may {
				part += 10 * c.share
			}
			if i == after {
				slowAfter, nAfter = slow, n
			}
			if may && i >= after {
				worked++
			}
			slow = uint64(part)
			now = now.Add(20 * time.Millisecond)
		}
		if got := float64(worked) / (steps - after); got < c.least || got > c.most {
			t.Errorf("%s: it works %.3f of the time, want %v to %v", c.name, got, c.least, c.most)
		}
		if got := float64(slow-slowAfter) / float64(n-nAfter); got > 0.0115 {
			t.Errorf("%s: %.4f of all answers are slow, want a hundredth at most", c.name, got)
		}
	}
}

// However much a trial slows: it comes to work now and then, and less where it
// slows more than is allowed.
func TestBrakeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(100, 2000).Draw(t, "rate")
		slows := rapid.Float64Range(0, 5).Draw(t, "slows")
		b := NewBrake(SlowsAtMost)
		worked, _ := beside(b, 120, rate, slows)
		if worked <= 0.01 {
			t.Errorf("it never works: %v", worked)
		}
		if slows > SlowsAtMost+0.05 && worked > 0.4 || slows < SlowsAtMost-0.05 && worked < 0.6 {
			t.Errorf("slows %v: it works %v of the time", slows, worked)
		}
	})
}

// What another version answered is not held against this one.
func TestBrakeForgetsOtherVersions(t *testing.T) {
	b := NewBrake(SlowsAtMost)
	now := time.Unix(1000, 0)
	at := func(ms int, version string, answers uint64, spent time.Duration) bool {
		return b.May(now.Add(time.Duration(ms)*time.Millisecond), map[string]Counts{"m": {Version: version, Answers: answers, Spent: spent}})
	}
	at(0, "1", 0, 0)
	if !at(100, "1", 100, 100*time.Millisecond) {
		t.Fatal("it rests for ever")
	}
	at(500, "2", 100, time.Second) // ten times as long each, by another version
	if slow, known := b.Slows(); known {
		t.Errorf("version 2 is held against version 1: %v", slow)
	}
}

// A pre-flight waits for as long as its gate says no.
func TestPreflightWaits(t *testing.T) {
	asked := 0
	r := preflighted(t, PreflightRequest{Model: ModelConfig{File: kept("dense_int8")}, Calls: 10}, func() bool {
		asked++
		return asked%3 == 0 // twice no, each time
	})
	if !r.OK || r.Waited <= 0 || asked < 30 {
		t.Errorf("waited %v s, asked %d times: %s", r.Waited, asked, r.Why)
	}
}
