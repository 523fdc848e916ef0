package sensors

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// WindowConfig gathers readings: by count ("64") or by the readings' time
// ("10s"), a new window every so often.
type WindowConfig struct {
	Size  string        `yaml:"size" desc:"readings (64) or time (10s) in a window"`
	Every string        `yaml:"every" desc:"readings or time from one window to the next; the size where it is empty"`
	Gap   time.Duration `yaml:"gap" desc:"a longer pause between two readings begins a new window; 0 for none"`
	Max   int           `yaml:"max" desc:"readings that a window by time may hold; one more begins a new window"`
}

// UnmarshalYAML gives a window its defaults.
func (c *WindowConfig) UnmarshalYAML(decode func(any) error) error {
	type plain WindowConfig
	p := plain{Max: 100_000}
	if err := decode(&p); err != nil {
		return err
	}
	*c = WindowConfig(p)
	return nil
}

// Validate checks that size and every are both counts or both times.
func (c WindowConfig) Validate() error {
	var errs []error
	n, d, err := extent(c.Size)
	if c.Size == "" {
		errs = append(errs, fmt.Errorf("size: is missing: how many readings (64), or what time (10s), make a window"))
	} else if err != nil {
		errs = append(errs, fmt.Errorf("size: %w", err))
	}
	if c.Every != "" {
		en, ed, err := extent(c.Every)
		switch {
		case len(errs) > 0: // size comes first
		case err != nil:
			errs = append(errs, fmt.Errorf("every: %w", err))
		case (en > 0) != (n > 0):
			errs = append(errs, fmt.Errorf("every: size and every are both counts or both times"))
		case en > n || ed > d:
			errs = append(errs, fmt.Errorf("every: %s is more than the size %s; readings between would be lost", c.Every, c.Size))
		}
	}
	if c.Gap < 0 {
		errs = append(errs, fmt.Errorf("gap: %v is negative", c.Gap))
	}
	if c.Max < 0 || n > 1_000_000 || c.Max > 1_000_000 {
		errs = append(errs, fmt.Errorf("max: a window holds at most 1000000 readings"))
	}
	return errors.Join(errs...)
}

// Count is how many readings a window of a checked configuration holds, 0 for
// one by time.
func (c WindowConfig) Count() int {
	n, _, _ := extent(c.Size)
	return n
}

// extent reads a count or a duration.
func extent(s string) (n int, d time.Duration, err error) {
	if n, err = strconv.Atoi(s); err == nil {
		if n < 1 {
			return 0, 0, fmt.Errorf("%d is not positive", n)
		}
		return n, 0, nil
	}
	if d, err = time.ParseDuration(s); err != nil || d <= 0 {
		return 0, 0, fmt.Errorf("%q is neither a count (64) nor a time (10s)", s)
	}
	return 0, d, nil
}

// Window gathers the readings of one source.
type Window struct {
	count, everyCount int           // by count, else 0
	span, every       time.Duration // by time, else 0
	gap               time.Duration
	max               int

	width  int // values a reading; learned from the first where it was not known
	times  []time.Time
	values []float64 // reading after reading
	head   int       // readings at the front that left; they are moved out now and then
	due    time.Time // by time: the end of the window under way
	since  int       // by count: readings since the last full window
	filled bool      // by count: it was full once
	resets uint64
	reason string
}

// NewWindow makes an empty window of a checked configuration for readings of
// width values; 0 takes the width of the first reading.
func NewWindow(cfg WindowConfig, width int) *Window {
	w := &Window{width: width, gap: cfg.Gap, max: cfg.Max}
	w.count, w.span, _ = extent(cfg.Size)
	w.everyCount, w.every = w.count, w.span
	if cfg.Every != "" {
		w.everyCount, w.every, _ = extent(cfg.Every)
	}
	if w.max == 0 {
		w.max = 100_000
	}
	return w
}

// Push adds a reading and says whether the window is full now; then its
// content stands until the next Push. A reading from before the last one, one
// after a gap, one of another width, or one too many for the window's memory
// begins a new window.
func (w *Window) Push(t time.Time, values []float64) (full bool) {
	if w.width == 0 {
		w.width = len(values)
	}
	if n := w.Len(); n > 0 {
		pause := t.Sub(w.times[len(w.times)-1])
		switch {
		case len(values) != w.width:
			w.reset("width")
			w.width = len(values)
		case pause < 0:
			w.reset("back")
		case w.gap > 0 && pause > w.gap || w.span > 0 && pause > w.span:
			w.reset("gap")
		}
	}
	if w.span > 0 {
		return w.pushTime(t, values)
	}
	w.add(t, values)
	if w.Len() > w.count {
		w.head++
	}
	w.since++
	if w.Len() == w.count && (!w.filled || w.since >= w.everyCount) {
		w.filled, w.since = true, 0
		return true
	}
	return false
}

// pushTime holds the readings of the last span. The window is full when a
// reading comes at or after its due time.
func (w *Window) pushTime(t time.Time, values []float64) bool {
	for w.head < len(w.times) && t.Sub(w.times[w.head]) >= w.span {
		w.head++
	}
	if w.Len() >= w.max {
		w.reset("too_many")
	}
	if w.Len() == 0 && w.due.IsZero() {
		w.due = t.Add(w.span)
	}
	w.add(t, values)
	late := t.Sub(w.due)
	if late < 0 {
		return false
	}
	w.due = w.due.Add((late/w.every + 1) * w.every)
	return true
}

// add appends a reading and, when half of the memory is of readings that
// left, moves the others to the front: each is moved once on average.
func (w *Window) add(t time.Time, values []float64) {
	if w.head > len(w.times)/2 {
		n := copy(w.times, w.times[w.head:])
		w.times = w.times[:n]
		w.values = w.values[:copy(w.values, w.values[w.head*w.width:])]
		w.head = 0
	}
	w.times = append(w.times, t)
	w.values = append(w.values, values...)
}

func (w *Window) reset(reason string) {
	w.resets++
	w.reason = reason
	w.times, w.values, w.head = w.times[:0], w.values[:0], 0
	w.due, w.since, w.filled = time.Time{}, 0, false
}

// Resets is how many windows were begun anew.
func (w *Window) Resets() uint64 { return w.resets }

// ResetReason is why the last one was: "gap", "back" (a jump back in time),
// "width" (another number of values) or "too_many" (more readings than Max).
func (w *Window) ResetReason() string { return w.reason }

// Begin is the time of the first reading; there is one where the window is full.
func (w *Window) Begin() time.Time { return w.times[w.head] }

// Len is the number of readings.
func (w *Window) Len() int { return len(w.times) - w.head }

// Flatten appends all values, reading after reading.
func (w *Window) Flatten(dst []float64) []float64 {
	return append(dst, w.values[w.head*w.width:]...)
}

// Column appends the values of one channel in the order of time.
func (w *Window) Column(channel int, dst []float64) []float64 {
	for i := w.head*w.width + channel; i < len(w.values); i += w.width {
		dst = append(dst, w.values[i])
	}
	return dst
}

// Rate is the mean number of readings a second, 0 where it is not known.
func (w *Window) Rate() float64 {
	if w.Len() < 2 {
		return 0
	}
	span := w.times[len(w.times)-1].Sub(w.times[w.head]).Seconds()
	if span <= 0 {
		return 0
	}
	return float64(w.Len()-1) / span
}
