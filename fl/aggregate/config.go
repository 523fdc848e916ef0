package aggregate

import (
	"fmt"
	"slices"
)

// DefaultConfig is FedAvg.
func DefaultConfig() Config { return Config{Kind: "fedavg"} }

// DefaultCompression sends updates whole.
func DefaultCompression() Compression { return Compression{Kind: "none"} }

// option is a field of Config: which kinds have a use for it, what they take
// where it is 0, and its bounds.
type option struct {
	name   string
	kinds  []string // nil: all
	get    func(*Config) float64
	lo, hi float64 // lo <= value < hi, or 0
	words  string
}

func options() []option {
	return []option{
		{"rate", nil, func(c *Config) float64 { return c.Rate }, 1e-9, 1000, "between 1e-9 and 1000"},
		{"momentum", []string{"fedavgm"}, func(c *Config) float64 { return c.Momentum }, 1e-9, 0.9999, "between 0 and 0.9999"},
		{"beta1", []string{"fedadam", "fedyogi"}, func(c *Config) float64 { return c.Beta1 }, 1e-9, 0.9999, "between 0 and 0.9999"},
		{"beta2", []string{"fedadam", "fedyogi"}, func(c *Config) float64 { return c.Beta2 }, 1e-9, 1, "between 0 and 1"},
		{"tau", []string{"fedadam", "fedyogi", "fedadagrad"}, func(c *Config) float64 { return c.Tau }, 1e-9, 1000, "between 1e-9 and 1000"},
		{"trim", []string{"trimmed-mean"}, func(c *Config) float64 { return c.Trim }, 1e-9, 0.5, "between 0 and 0.5"},
		{"attackers", []string{"krum", "multi-krum"}, func(c *Config) float64 { return float64(c.Attackers) }, 1, maxUpdates, "between 1 and 32767"},
		{"keep", []string{"multi-krum"}, func(c *Config) float64 { return float64(c.Keep) }, 1, maxUpdates, "between 1 and 32767"},
		{"buffer", []string{"fedbuff"}, func(c *Config) float64 { return float64(c.Buffer) }, 1, 10_001, "between 1 and 10,000"},
		{"clip", nil, func(c *Config) float64 { return c.Clip }, 1e-12, 1e12, "between 1e-12 and 1e12"},
		{"clip_times", nil, func(c *Config) float64 { return c.ClipTimes }, 1, 1e6, "between 1 and 1e6"},
	}
}

// Validate says what is wrong, beginning with the field's name.
func (c Config) Validate() error {
	if !slices.Contains(kinds(), c.Kind) {
		return fmt.Errorf("strategy.kind: %q is none of %v", c.Kind, kinds())
	}
	for _, o := range options() {
		v := o.get(&c)
		switch {
		case v == 0:
		case o.kinds != nil && !slices.Contains(o.kinds, c.Kind):
			return fmt.Errorf("strategy.%s: %s has no use for it; leave it out", o.name, c.Kind)
		case !(v >= o.lo && v < o.hi):
			return fmt.Errorf("strategy.%s: %v is not %s", o.name, v, o.words)
		}
	}
	if c.Attackers == 0 && (c.Kind == "krum" || c.Kind == "multi-krum") {
		return fmt.Errorf("strategy.attackers: say how many of a cohort may be hostile; %s needs twice as many updates and 3", c.Kind)
	}
	return nil
}

// own puts a kind's own values where c has 0.
func (c Config) own() Config {
	set := func(v *float64, own float64) {
		if *v == 0 {
			*v = own
		}
	}
	switch c.Kind {
	case "fedadam", "fedyogi", "fedadagrad":
		set(&c.Rate, 0.01)
		set(&c.Beta1, 0.9)
		set(&c.Beta2, 0.99)
		set(&c.Tau, 0.001)
	case "fedavgm":
		set(&c.Momentum, 0.9)
	case "trimmed-mean":
		set(&c.Trim, 0.2)
	case "fedbuff":
		if c.Buffer == 0 {
			c.Buffer = 10
		}
	}
	set(&c.Rate, 1)
	return c
}

// Minimum is how many updates a round needs at least to move the weights.
func (c Config) Minimum() int {
	switch c = c.own(); c.Kind {
	case "krum", "multi-krum":
		return 2*c.Attackers + 3
	case "median":
		return newMedian().least
	case "trimmed-mean":
		return newTrimmed(c.Trim).least
	case "fedbuff":
		return c.Buffer
	}
	return 1
}
