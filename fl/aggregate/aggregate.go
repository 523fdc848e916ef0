package aggregate

import "encoding"

// Update is what one participant would have the weights move by.
type Update struct {
	From    string
	Samples int64     // that it was trained on; its weight
	Delta   []float32 // weights after its training minus those before; finite; not kept after Add unless Keeps
	Age     int       // rounds that have passed since its base; 0: none
}

// Strategy makes new weights of a round's updates. Sums do not depend on the
// order of the updates to the last bit, but those of FedBuff. What it remembers
// from round to round goes through MarshalBinary.
type Strategy interface {
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
	// Begin starts a round over n weights; what was added before is forgotten.
	Begin(n int) error
	// Add takes an update; an error names what is wrong with it, and nothing of
	// it is counted.
	Add(u Update) error
	// Finish moves the weights in place and says what was set aside. Without
	// updates the weights stay as they are.
	Finish(weights []float32) (*Report, error)
	// Keeps says whether it holds the whole cohort in memory, as rank methods do.
	Keeps() bool
}

// Report is what became of a round's updates.
type Report struct {
	Counted  int     `json:"counted"`
	Samples  int64   `json:"samples"`
	Norm     float64 `json:"norm"` // length of the step that the weights took
	SetAside []Aside `json:"set_aside,omitempty"`
	// Outliers were counted but stand out by their length or direction; for
	// information only. Of fewer than five updates none does.
	Outliers []Aside `json:"outliers,omitempty"`
	// Waiting is how many of fedbuff's updates are kept for the next step.
	Waiting int `json:"waiting,omitempty"`
}

// Aside is an update that was not counted, or counted for less.
type Aside struct {
	From  string  `json:"from"`
	Why   string  `json:"why"`
	Score float64 `json:"score"` // what it was judged by: a distance, a length
	// Counted says that it was counted all the same, for less than it wanted:
	// shortened, late, or with many of its weights cut off.
	Counted bool `json:"counted,omitempty"`
}

// Config says how updates become the next model. A field of 0 is the method's
// own value; fields that a kind has no use for are refused.
type Config struct {
	Kind      string  `yaml:"kind" enum:"fedavg,fedavgm,fedadam,fedyogi,fedadagrad,fedbuff,median,trimmed-mean,krum,multi-krum" desc:"the method"`
	Rate      float64 `yaml:"rate" desc:"server's learning rate; 0: the method's own"`
	Momentum  float64 `yaml:"momentum" desc:"fedavgm: share of the last step that is kept"`
	Beta1     float64 `yaml:"beta1" desc:"fedadam, fedyogi: decay of the mean of steps"`
	Beta2     float64 `yaml:"beta2" desc:"fedadam, fedyogi: decay of the mean of their squares"`
	Tau       float64 `yaml:"tau" desc:"fedadam, fedyogi, fedadagrad: degree of adaptivity"`
	Trim      float64 `yaml:"trim" desc:"trimmed-mean: share that is cut at each end"`
	Attackers int     `yaml:"attackers" desc:"krum, multi-krum: so many of a cohort may be hostile"`
	Keep      int     `yaml:"keep" desc:"multi-krum: so many are averaged, at most all but the attackers; 0: these"`
	Buffer    int     `yaml:"buffer" desc:"fedbuff: so many updates make a step"`
	Clip      float64 `yaml:"clip" desc:"an update longer than this is shortened to it; 0: none is; any kind"`
	ClipTimes float64 `yaml:"clip_times" desc:"an update longer than so many times the median length of the round before is shortened to it; 0: none is; any kind"`
}

// Compression says how updates travel.
type Compression struct {
	Kind  string  `yaml:"kind" enum:"none,int8,int4,topk,topk-int8" desc:"whole, stochastically rounded, or the largest alone with what is left over kept for the next round"`
	Share float64 `yaml:"share" desc:"topk, topk-int8: share of the weights that travels; 0: a hundredth"`
}

// Fate is what became of it in a word or two.
func (a Aside) Fate() string {
	if a.Counted {
		return "counted for less"
	}
	return "set aside"
}
