package dataset

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Counter counts Labelled samples again and again, and reads only what was
// written since. It is for one goroutine.
type Counter struct {
	of   Labelled
	logs map[int]counted
}

// counted is a log as it was: its samples that fit, and its length.
type counted struct {
	n     int
	size  int64
	other int    // that do not fit
	why   string // the first of these does not
}

// NewCounter counts those that l would load.
func NewCounter(l Labelled) *Counter { return &Counter{of: l, logs: map[int]counted{}} }

// Count is how many samples there are now; a set that is not there has none.
func (c *Counter) Count(ctx context.Context) (total int, err error) {
	if err := c.of.Check(); err != nil {
		return 0, err
	}
	numbers, err := logs(c.of.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := map[int]counted{}
	for _, n := range numbers {
		info, err := os.Stat(filepath.Join(c.of.Dir, logName(n)))
		if errors.Is(err, os.ErrNotExist) { // it left meanwhile
			continue
		}
		if err != nil {
			return 0, err
		}
		is, ok := c.logs[n]
		if !ok || is.size != info.Size() {
			is = counted{size: info.Size()}
			_, err := scanLog(c.of.Dir, n, func(h Header, s line, _ string) error {
				if _, ok := c.of.fits(h, s.Label, len(s.Values)); ok {
					is.n++
				} else if is.other++; is.other == 1 {
					is.why = c.of.misfit(h, s.Label, len(s.Values))
				}
				return ctx.Err()
			})
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return 0, err
			}
		}
		now[n] = is
		total += is.n
	}
	c.logs = now
	return total, nil
}

// Other is how many samples do not fit, and why one of them does not.
func (c *Counter) Other() (n int, why string) {
	for _, is := range c.logs {
		if n += is.other; is.other > 0 {
			why = is.why
		}
	}
	return n, why
}
