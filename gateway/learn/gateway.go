package learn

import (
	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/upstream"
	"edgegateway/infer"
	"edgegateway/infer/store"
)

// Gateway is what a Learner works on.
type Gateway struct {
	Name    string // of this gateway, as the coordinator enrols it
	Version string // of the program
	Data    string // its folder
	Store   *store.Store
	Links   map[string]*upstream.Bridge
	// Streams and Models are those of the configuration in force, and Served says
	// how a model is served now.
	Streams func() map[string]pipeline.Config
	Models  func() map[string]infer.ModelConfig
	Served  func(name string) (infer.ModelConfig, error)
	// Sign says whether versions that this gateway's key signed are trusted by its
	// store.
	Sign func(id string) bool
	// Added is told of a version that came into the store.
	Added   func(name, version, why, by string)
	Gate    func() func() bool
	Library string // of the runtime; "": the one inside
	Sysfs   string // where the box says how hot it is
}
