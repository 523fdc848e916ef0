package app

import (
	"maps"

	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/rollout"
)

// differBytes are what the inputs of one stream may take on which versions
// differ.
const differBytes = 64 << 20

// recorded are the streams whose samples may be kept: those of the
// configuration, and for each whose model has a shadow the set of the inputs on
// which the versions differ.
func (c Config) recorded() map[string]pipeline.Config {
	all := maps.Clone(c.Streams)
	for name, s := range c.Streams {
		steps := c.Rollout.Models[s.Model]
		// Bytes that go into a model as they stand have no numbers to keep.
		if s.Version != "" || steps.Shadow == nil || steps.Shadow.Keep == 0 || s.Input.Raw == "tensor" {
			continue
		}
		set := name + rollout.DifferSuffix
		if _, taken := all[set]; taken {
			continue
		}
		s.Drift = nil // it has a set of its own
		s.Record = &pipeline.RecordConfig{Every: "1", MaxSamples: steps.Shadow.Keep, MaxBytes: differBytes}
		all[set] = s
	}
	return all
}
