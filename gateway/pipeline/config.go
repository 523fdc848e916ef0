package pipeline

import (
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"edgegateway/broker"
	"edgegateway/sensors"
)

// Config is one stream: what it listens to and what becomes of it.
type Config struct {
	Topics     []string                `yaml:"topics" desc:"MQTT filters whose messages this stream takes"`
	Source     string                  `yaml:"source" desc:"what tells sources apart: empty for what the filter's wildcards matched, client for the MQTT client id, else a JSON path in the payload"`
	Input      sensors.InputConfig     `yaml:"input" desc:"how a payload is decoded"`
	Picture    sensors.ImageConfig     `yaml:"picture" desc:"how a picture is fitted to the model's input"`
	Window     *sensors.WindowConfig   `yaml:"window" desc:"readings gathered into windows, by count or time"`
	Features   []string                `yaml:"features" desc:"what is computed of each value of a window: mean, std, min, max, rms, ..."`
	Normalise  sensors.NormaliseConfig `yaml:"normalise" desc:"scales what the model takes; results keep the numbers as they are"`
	Full       string                  `yaml:"full" enum:"block,drop-oldest,latest" desc:"what happens when the queue is full"`
	Queue      int                     `yaml:"queue" desc:"messages that may wait for one worker"`
	Workers    int                     `yaml:"workers" desc:"workers that share the sources of this stream; 0 for one a core"`
	Model      string                  `yaml:"model" desc:"name of a model; empty for rules over values alone"`
	Version    string                  `yaml:"version" desc:"keeps to this version of the model, whichever is live; empty for the live one"`
	Results    ResultsConfig           `yaml:"results" desc:"where results go"`
	MaxSources int                     `yaml:"max_sources" desc:"sources kept at once; the longest silent leaves"`
	Record     *RecordConfig           `yaml:"record" desc:"keeps samples on the disk, with their labels, for training"`
	Drift      *DriftConfig            `yaml:"drift" desc:"says when the data is no longer of the kind that the model was made for"`
}

// ResultsConfig says where a stream's results are published and which of them
// go up to the cloud.
type ResultsConfig struct {
	Topic  string `yaml:"topic" desc:"local topic; {stream} and {source} are replaced"`
	QoS    int    `yaml:"qos" desc:"0 or 1"`
	Retain bool   `yaml:"retain" desc:"keep the last result of each source for new subscribers"`
	Send   string `yaml:"send" desc:"what goes up: all, change (of the label), every N, or none"`
}

// DefaultConfig is a stream with everything but topics, input and model.
func DefaultConfig() Config {
	return Config{
		Input:      sensors.DefaultInputConfig(),
		Picture:    sensors.DefaultImageConfig(),
		Full:       "block",
		Queue:      256,
		Results:    ResultsConfig{Topic: "results/{stream}/{source}", QoS: 1, Send: "all"},
		MaxSources: 10000,
	}
}

// UnmarshalYAML gives a stream of the configuration its defaults.
func (c *Config) UnmarshalYAML(decode func(any) error) error {
	type plain Config
	p := plain(DefaultConfig())
	if err := decode(&p); err != nil {
		return err
	}
	*c = Config(p)
	return nil
}

// Validate checks one stream by itself; names of models are checked by who
// knows them.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Topics) == 0 {
		bad("topics: a stream needs at least one topic, for example [factory/+/vibration]")
	}
	for i, f := range c.Topics {
		if err := broker.ValidFilter(f); err != nil {
			bad("topics[%d]: %w", i, err)
		}
	}
	if c.pathSource() {
		if _, err := sensors.NewNamePath(c.Source); err != nil {
			bad("source: %w", err)
		} else if len(c.Input.JSON) == 0 && c.Input.Image == "" {
			bad("source: %q is a path in a JSON payload, and the input is none; leave it empty, or client", c.Source)
		}
	}
	if err := c.Input.Validate(); err != nil {
		errs = append(errs, prefix("input", err))
	}
	if err := c.Picture.Validate(); err != nil {
		errs = append(errs, prefix("picture", err))
	}
	if c.Window != nil {
		if err := c.Window.Validate(); err != nil {
			errs = append(errs, prefix("window", err))
		}
		if c.Input.Image != "" {
			bad("window: pictures are not windowed")
		}
		if c.Input.Raw == "tensor" {
			bad("window: bytes that go into the model as they stand are not windowed; give their form, for example raw: f32le")
		}
	}
	if len(c.Features) > 0 && c.Window == nil {
		bad("features: need a window, for example window: {size: 10s, every: 1s}")
	} else if c.Input.Image == "" && c.Input.Validate() == nil {
		names, err := c.Fields()
		if err != nil {
			errs = append(errs, err)
		}
		seen := map[string]bool{}
		for _, n := range names {
			if seen[n] {
				bad("%s: %q is there twice", map[bool]string{true: "features", false: "input"}[len(c.Features) > 0], n)
				break
			}
			seen[n] = true
		}
	}
	if err := c.Normalise.Validate(); err != nil {
		errs = append(errs, prefix("normalise", err))
	}
	if c.Window != nil && len(c.Features) == 0 && c.Model == "" && c.Record == nil {
		bad("features: a window without a model needs some, for example features: [mean, max]")
	}
	if _, err := parsePolicy(c.Full); err != nil {
		bad("full: %w", err)
	}
	if c.Queue < 1 || c.Queue > 1_000_000 {
		bad("queue: %d is not in 1..1000000", c.Queue)
	}
	if c.Workers < 0 || c.Workers > 256 {
		bad("workers: %d is not in 0..256", c.Workers)
	}
	if c.MaxSources < 1 {
		bad("max_sources: %d is not positive", c.MaxSources)
	}
	if c.Input.Image != "" && c.Model == "" && c.Record == nil {
		bad("model: a stream of pictures needs a model, or record: to keep them for training one")
	}
	if c.Version != "" && c.Model == "" {
		bad("version: is of a model, and there is none")
	}
	errs = append(errs, c.record()...)
	errs = append(errs, c.drifts()...)
	if c.Results.QoS != 0 && c.Results.QoS != 1 {
		bad("results.qos: %d is not 0 or 1", c.Results.QoS)
	}
	if s, err := parseSend(c.Results.Send); err != nil {
		bad("results.send: %w", err)
	} else if s.change && c.Model == "" {
		bad("results.send: change is of the label, and without a model there is none")
	}
	out := strings.NewReplacer("{stream}", "s", "{source}", "s").Replace(c.Results.Topic)
	if err := broker.ValidTopic(out); err != nil {
		bad("results.topic: %w", err)
	} else if p := placeholder.FindString(out); p != "" {
		bad("results.topic: there is no %s; there are {stream} and {source}", p)
	}
	return errors.Join(errs...)
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// Fields are the names of the features in the stream's results, in order.
func (c Config) Fields() ([]string, error) {
	d, err := sensors.NewDecoder(c.Input)
	if err != nil {
		return nil, prefix("input", err)
	}
	_, names, err := c.features(d.Names())
	return names, err
}

// features makes what is computed of each window over values of these names,
// nil for nothing, and gives the names that a result's features have.
func (c Config) features(values []string) (*sensors.Features, []string, error) {
	switch {
	case len(c.Features) > 0:
		f, err := sensors.NewFeatures(c.Features, values)
		if err != nil {
			return nil, nil, fmt.Errorf("features: %w", err)
		}
		return f, f.Names(), nil
	case c.Window != nil, c.Input.Image != "":
		return nil, nil, nil // the window itself is for the model, not for a result
	}
	return nil, values, nil
}

// OutputFilter is the filter that all topics of the stream's results match.
func (c Config) OutputFilter(stream string) string {
	t := strings.ReplaceAll(c.Results.Topic, "{stream}", stream)
	if i := strings.Index(t, "{source}"); i >= 0 {
		// A source may hold slashes: everything from its level on.
		if j := strings.LastIndexByte(t[:i], '/'); j >= 0 {
			return t[:j] + "/#"
		}
		return "#"
	}
	return t
}

// ModelName is the model by the name that Models knows: of a pinned version
// NAME@VERSION; "" without one.
func (c Config) ModelName() string {
	if c.Version == "" {
		return c.Model
	}
	return c.Model + "@" + c.Version
}

// pathSource says whether the source is a path in the payload.
func (c Config) pathSource() bool { return c.Source != "" && c.Source != "client" }

func (c Config) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return runtime.GOMAXPROCS(0)
}

func parsePolicy(s string) (policy, error) {
	switch s {
	case "block":
		return block, nil
	case "drop-oldest":
		return dropOldest, nil
	case "latest":
		return latest, nil
	}
	return 0, fmt.Errorf("%q is none of block, drop-oldest, latest", s)
}

// send is which results go up to the cloud: every n-th, with n = 0 for none,
// or those whose label is another than the one before.
type send struct {
	every  uint64
	change bool
}

func parseSend(s string) (send, error) {
	switch s {
	case "all":
		return send{every: 1}, nil
	case "none":
		return send{}, nil
	case "change":
		return send{change: true}, nil
	}
	if n, ok := strings.CutPrefix(s, "every "); ok {
		if v, err := strconv.ParseUint(n, 10, 32); err == nil && v > 0 {
			return send{every: v}, nil
		}
	}
	return send{}, fmt.Errorf("%q is none of all, change, none, every N", s)
}

// prefix puts the path of a part in front of each of its errors.
func prefix(path string, err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range many.Unwrap() {
			errs = append(errs, prefix(path, e))
		}
		return errors.Join(errs...)
	}
	return fmt.Errorf("%s.%w", path, err)
}
