package learn

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Config is a gateway's part in federated learning; without a key it takes none.
type Config struct {
	Key      string   `yaml:"key" desc:"file with this gateway's private key, as keys new makes it; the coordinator enrols the public one; empty: it takes no part"`
	Keys     []string `yaml:"keys" desc:"files with the public keys of coordinators that are trusted"`
	Tasks    []string `yaml:"tasks" desc:"names of the tasks that it takes part in; empty: all of trusted coordinators"`
	Upstream string   `yaml:"upstream" desc:"link that it speaks over; empty: the only one"`
	Chunk    int      `yaml:"chunk" desc:"bytes of an update in one message, 1024 to 98304; fewer on a thin link"`
	Publish  bool     `yaml:"publish" desc:"bring new models of tasks to work, each judged, tried and watched here"`
	Margin   float64  `yaml:"margin" desc:"a new model is refused where its accuracy, 0 to 1, is by more than this below that of the one in use; of values, where its error is by more than this share larger"`
	Least    int      `yaml:"least" desc:"samples held out here that a new model is judged by at least; with fewer it is refused"`
	Limits   Limits   `yaml:"limits" desc:"what training may take of this box"`
}

// Limits is what training may take of the box.
type Limits struct {
	Memory  int64    `yaml:"memory_bytes" desc:"memory of the child process that trains; over it the process ends"`
	CPU     float64  `yaml:"cpu" desc:"processors that it may take: 0.5 is half of the time of one"`
	Hours   []string `yaml:"hours" desc:"local times of day at which it may work, such as 22:00-06:00; empty: always"`
	Eager   bool     `yaml:"eager" desc:"it has the usual priority: quicker on a busy box, and what is live is slower meanwhile"`
	Celsius float64  `yaml:"celsius" desc:"it pauses while a sensor of the box is hotter; 0: however hot"`
}

// DefaultConfig takes no part, for it has no key.
func DefaultConfig() Config {
	return Config{Chunk: 96 << 10, Publish: true, Margin: 0.02, Least: 20, Limits: DefaultLimits()}
}

// DefaultLimits are half a gigabyte and one processor, at any time.
func DefaultLimits() Limits { return Limits{Memory: 512 << 20, CPU: 1} }

// Validate says what is wrong with c, each error with its YAML path in front.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Key == "" && (len(c.Keys) > 0 || len(c.Tasks) > 0 || c.Upstream != "") {
		bad("key: is missing: messages are signed with it; edgegateway keys new makes one")
	}
	if c.Key != "" && len(c.Keys) == 0 {
		bad("keys: no coordinator is trusted; give the file with the public key of one")
	}
	if c.Chunk < 1<<10 || c.Chunk > 96<<10 {
		bad("chunk: %d is not in 1024..98304", c.Chunk)
	}
	if !(c.Margin >= 0 && c.Margin <= 1) {
		bad("margin: %v is not in 0..1", c.Margin)
	}
	if c.Least < 0 {
		bad("least: %d is negative", c.Least)
	}
	if err := c.Limits.Validate(); err != nil {
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			bad("limits.%w", e)
		}
	}
	return errors.Join(errs...)
}

// Validate says what is wrong with l, each error with its YAML path in front.
func (l Limits) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if l.Memory < 32<<20 {
		bad("memory_bytes: %d is under %d, too little for any training", l.Memory, 32<<20)
	}
	if !(l.CPU >= 0.01 && l.CPU <= 1024) {
		bad("cpu: %v is not in 0.01..1024", l.CPU)
	}
	for i, h := range l.Hours {
		if _, _, err := hours(h); err != nil {
			bad("hours[%d]: %w", i, err)
		}
	}
	if !(l.Celsius == 0 || l.Celsius >= 20 && l.Celsius <= 150) {
		bad("celsius: %v is neither 0 nor in 20..150", l.Celsius)
	}
	return errors.Join(errs...)
}

// hours reads 22:00-06:00 as minutes of the day.
func hours(text string) (from, to int, err error) {
	a, b, ok := strings.Cut(text, "-")
	for _, part := range []struct {
		text string
		at   *int
	}{{a, &from}, {b, &to}} {
		t, e := time.Parse("15:04", strings.TrimSpace(part.text))
		if e != nil {
			ok = false
		}
		*part.at = 60*t.Hour() + t.Minute()
	}
	if !ok || from == to {
		return 0, 0, fmt.Errorf("%q is no time of day such as 22:00-06:00", text)
	}
	return from, to, nil
}

// open says whether the hours allow work at a time, which may be past midnight.
func (l Limits) open(now time.Time) bool {
	at := 60*now.Hour() + now.Minute()
	for _, h := range l.Hours {
		from, to, err := hours(h)
		if err != nil {
			continue // Validate said so
		}
		if from < to && at >= from && at < to || from > to && (at >= from || at < to) {
			return true
		}
	}
	return len(l.Hours) == 0
}

// turn says whether it is the child's turn: of each tenth of a second it has the
// share that cpu leaves it on procs processors.
func (l Limits) turn(now time.Time) bool {
	const period = 100 * time.Millisecond
	part := time.Duration(now.UnixNano()) % period
	return part < time.Duration(l.CPU/float64(l.procs())*float64(period))
}

// procs is how many processors it uses at a time.
func (l Limits) procs() int { return max(1, int(math.Ceil(l.CPU))) }
