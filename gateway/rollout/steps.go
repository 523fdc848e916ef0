package rollout

import (
	"errors"
	"fmt"
	"time"

	"edgegateway/broker"
	"edgegateway/sensors"
)

// Steps says how a new version of a model comes to answer, after its pre-flight:
// in the shadow of the live one, then for some of the sources, then for all. A
// stage that is not there is left out.
type Steps struct {
	Shadow *ShadowConfig `yaml:"shadow" desc:"the new version is asked too, and its answers are compared"`
	Canary *CanaryConfig `yaml:"canary" desc:"the new version answers for some of the sources"`
	Within time.Duration `yaml:"within" desc:"a version that no rule promotes or withdraws within this time, a stage, is withdrawn"`
	Labels *LabelsConfig `yaml:"labels" desc:"where the right answers arrive later, which accuracy is counted by"`
}

// ShadowConfig is the stage in which a version is asked too.
type ShadowConfig struct {
	Share     float64 `yaml:"share" desc:"share of the samples that it is asked, 0 to 1"`
	Keep      int     `yaml:"keep" desc:"inputs on which the versions differ that are kept as a data set, STREAM.differ; 0: none"`
	Tolerance float64 `yaml:"tolerance" desc:"how far numbers may differ and be the same, as a share of their span"`
	Promote   string  `yaml:"promote" desc:"rule over the counters that lets it go on"`
	Withdraw  string  `yaml:"withdraw" desc:"rule over the counters that ends it; before the other where both hold"`
}

// CanaryConfig is the stage in which a version answers for some sources.
type CanaryConfig struct {
	Share    float64 `yaml:"share" desc:"share of the sources that it answers, 0 to 1"`
	Promote  string  `yaml:"promote" desc:"rule over the counters that makes it the live one"`
	Withdraw string  `yaml:"withdraw" desc:"rule over the counters that ends it; before the other where both hold"`
}

// LabelsConfig says where the right answers arrive.
type LabelsConfig struct {
	Topic string `yaml:"topic" desc:"MQTT filter of the messages that say what was right"`
	ID    string `yaml:"id" desc:"JSON path of the id of the result that it was right for"`
	Label string `yaml:"label" desc:"JSON path of the right label"`
	Keep  int    `yaml:"keep" desc:"results that are remembered until their labels arrive"`
}

// DefaultSteps are what holds of a model whose configuration says nothing: a
// version that passed its pre-flight goes live at once.
func DefaultSteps() Steps { return Steps{Within: 7 * 24 * time.Hour} }

// UnmarshalYAML decodes c over its defaults.
func (c *Steps) UnmarshalYAML(decode func(any) error) error {
	type plain Steps
	p := plain(DefaultSteps())
	if err := decode(&p); err != nil {
		return err
	}
	*c = Steps(p)
	return nil
}

// DefaultShadow is a shadow whose configuration says nothing.
func DefaultShadow() ShadowConfig {
	return ShadowConfig{
		Share: 0.2, Keep: 200, Tolerance: 0.05,
		Promote:  "samples >= 1000 && agreement >= 0.95 && errors <= live.errors + 0.01",
		Withdraw: "samples >= 500 && agreement < 0.8 || samples >= 100 && errors > live.errors + 0.02",
	}
}

// UnmarshalYAML decodes c over its defaults.
func (c *ShadowConfig) UnmarshalYAML(decode func(any) error) error {
	type plain ShadowConfig
	p := plain(DefaultShadow())
	if err := decode(&p); err != nil {
		return err
	}
	*c = ShadowConfig(p)
	return nil
}

// DefaultCanary is a canary whose configuration says nothing.
func DefaultCanary() CanaryConfig {
	return CanaryConfig{
		Share:    0.1,
		Promote:  "samples >= 1000 && errors <= live.errors + 0.01 && p99 <= 3 * live.p99 + 1",
		Withdraw: "samples >= 100 && (errors > live.errors + 0.02 || p50 > 5 * live.p50 + 1)",
	}
}

// UnmarshalYAML decodes c over its defaults.
func (c *CanaryConfig) UnmarshalYAML(decode func(any) error) error {
	type plain CanaryConfig
	p := plain(DefaultCanary())
	if err := decode(&p); err != nil {
		return err
	}
	*c = CanaryConfig(p)
	return nil
}

// UnmarshalYAML decodes c over its defaults.
func (c *LabelsConfig) UnmarshalYAML(decode func(any) error) error {
	type plain LabelsConfig
	p := plain{ID: "id", Label: "label", Keep: 10_000}
	if err := decode(&p); err != nil {
		return err
	}
	*c = LabelsConfig(p)
	return nil
}

// Validate says what is wrong with c, each error with its YAML path in front.
func (c Steps) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	share := func(path string, v float64) {
		if !(v > 0 && v <= 1) {
			bad("%s.share: %v is not above 0 and at most 1", path, v)
		}
	}
	rules := func(path, promote, withdraw string) {
		if _, err := newRule(promote); err != nil {
			bad("%s.promote: %w", path, err)
		}
		if _, err := newRule(withdraw); err != nil {
			bad("%s.withdraw: %w", path, err)
		}
	}
	if s := c.Shadow; s != nil {
		share("shadow", s.Share)
		rules("shadow", s.Promote, s.Withdraw)
		if s.Keep < 0 || s.Keep > 100_000 {
			bad("shadow.keep: %d is not in 0..100000", s.Keep)
		}
		if !(s.Tolerance >= 0 && s.Tolerance <= 1) {
			bad("shadow.tolerance: %v is not in 0..1", s.Tolerance)
		}
	}
	if s := c.Canary; s != nil {
		share("canary", s.Share)
		rules("canary", s.Promote, s.Withdraw)
	}
	if c.Within < time.Second {
		bad("within: %v is less than a second", c.Within)
	}
	if l := c.Labels; l != nil {
		if err := broker.ValidFilter(l.Topic); err != nil {
			bad("labels.topic: %w", err)
		}
		for name, path := range map[string]string{"id": l.ID, "label": l.Label} {
			if _, err := sensors.NewNamePath(path); err != nil {
				bad("labels.%s: %w", name, err)
			}
		}
		if l.Keep < 1 || l.Keep > 1_000_000 {
			bad("labels.keep: %d is not in 1..1000000", l.Keep)
		}
	}
	return errors.Join(errs...)
}
