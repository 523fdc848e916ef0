package fl

import (
	"time"

	"edgegateway/fl/aggregate"
	"edgegateway/infer/train"
)

// Task is what is to be learned, by whom and how: the file that a coordinator
// is given.
type Task struct {
	Name  string      `yaml:"name" desc:"of the task: letters, digits, dash, dot and underscore"`
	Model ModelConfig `yaml:"model" desc:"what is trained"`
	Data  DataConfig  `yaml:"data" desc:"what it is trained on"`
	Local LocalConfig `yaml:"local" desc:"how each participant trains in a round"`

	Strategy    aggregate.Config      `yaml:"strategy" desc:"how updates become the next model"`
	Compression aggregate.Compression `yaml:"compression" desc:"how updates travel"`

	Rounds   int           `yaml:"rounds" desc:"at most so many"`
	Cohort   CohortConfig  `yaml:"cohort" desc:"who takes part in a round"`
	Deadline time.Duration `yaml:"deadline" desc:"a round ends then with the updates that are there, if they are enough; 0: it waits for all"`
	Late     string        `yaml:"late" enum:"drop,next" desc:"an update after its round: not counted, or counted in the next, weakened by its age"`
	Stop     StopConfig    `yaml:"stop" desc:"when it ends before its last round"`
	Publish  PublishConfig `yaml:"publish" desc:"what gateways do with a new model"`
	Seed     uint64        `yaml:"seed" desc:"the same seed gives the same weights"`
}

// ModelConfig is the model of a task: a network of layers, or a .tflite that is
// trained further.
type ModelConfig struct {
	File    string      `yaml:"file" desc:"a float .tflite to begin with"`
	Network train.Spec  `yaml:"network" desc:"or the layers of a new one"`
	Preset  string      `yaml:"preset" desc:"or one of those that train knows"`
	Input   train.Shape `yaml:"input" desc:"shape of one sample: [features] or [height, width, channels]"`
	Classes []string    `yaml:"classes" desc:"names of the classes, in their order"`
	Values  int         `yaml:"values" desc:"or how many values it answers with"`
	Norm    *train.Norm `yaml:"norm" desc:"mean and standard deviation of each feature; pictures need none"`
	Train   string      `yaml:"train" enum:"all,head" desc:"all weights, or those of the last layer alone; head: of a file"`

	Sum  Hash   `yaml:"-"`          // SHA-256 of the file; zero without one
	Data []byte `yaml:"-" cbor:"-"` // the file; it travels apart from the task
}

// DataConfig says what a participant trains on.
type DataConfig struct {
	Stream  string  `yaml:"stream" desc:"the stream whose recorded samples are used"`
	Minimum int     `yaml:"minimum" desc:"a gateway with fewer samples takes no part"`
	Holdout float64 `yaml:"holdout" desc:"share of a participant's samples that it never trains on and judges by"`
}

// LocalConfig says how a participant trains in a round: always from the round's
// weights, with an optimizer that remembers nothing.
type LocalConfig struct {
	Epochs    int                   `yaml:"epochs" desc:"times that all its samples are seen in a round"`
	Batch     int                   `yaml:"batch" desc:"samples a step; 0: all"`
	Optimizer train.OptimizerConfig `yaml:"optimizer" desc:"how weights follow their gradients"`
	Proximal  float64               `yaml:"proximal" desc:"FedProx: pull back to the round's weights, half of it times the squared distance"`
}

// CohortConfig says who takes part in a round.
type CohortConfig struct {
	Size    int    `yaml:"size" desc:"participants a round; 0: all who are there"`
	Quorum  int    `yaml:"quorum" desc:"updates that a round needs at its deadline"`
	WaitFor int    `yaml:"wait_for" desc:"the first round begins when so many are there; 0: as many as size or, where that is 0, quorum says"`
	Select  string `yaml:"select" enum:"random,data,present" desc:"by lot, by lot weighted by their samples, or those heard of last"`
}

// waitFor is with how many the first round begins.
func (c CohortConfig) waitFor() int {
	switch {
	case c.WaitFor > 0:
		return c.WaitFor
	case c.Size > 0:
		return c.Size
	}
	return c.Quorum
}

// StopConfig says when a task ends before its last round.
type StopConfig struct {
	Accuracy float64 `yaml:"accuracy" desc:"evaluated accuracy that is enough; 0: none is"`
	Patience int     `yaml:"patience" desc:"rounds without a better evaluation; 0: never"`
}

// PublishConfig says what gateways do with what a task makes.
type PublishConfig struct {
	Model    string `yaml:"model" desc:"name of the model in the gateways' configuration; empty: none is changed"`
	When     string `yaml:"when" enum:"final,improved,every" desc:"the best at the end, each better one, or each round's"`
	Quantize string `yaml:"quantize" enum:"none,int8" desc:"by each gateway, on its own samples"`
}

// Job is what a participant trains in a round. All of it is plain data: it is
// run in a child process, in the gateway's own, or on a virtual clock, and gives
// the same bits.
type Job struct {
	Task     *Task
	Round    int
	Gateway  string
	Base     *Weights
	Samples  int       // of its Dataset: the first so many
	Seed     uint64    // of this gateway in this round
	Residual []float32 // what compression left over before; nil for none
}

// Result is what came of a Job.
type Result struct {
	Update   Update
	Residual []float32 // what compression leaves over now
}

// Weights are all trained arrays of a network, one after the other in the order
// of Network.Params.
type Weights struct {
	Layout Hash      // of the arrays' names and shapes
	Values []float32 // finite
}
