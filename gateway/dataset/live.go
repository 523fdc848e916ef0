package dataset

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/gateway/pipeline"
	"edgegateway/infer/train"
	"edgegateway/sensors"
)

// Live collects the inputs that a stream gives a model, in memory and without
// labels: what its messages hold, decoded, windowed and normalised.
type Live struct {
	cfg    pipeline.Config
	pipe   *pipeline.Pipeline
	most   int
	step   func(done, of int)
	full   chan struct{}
	images *sensors.ImageDecoder

	mu  sync.Mutex
	set *train.Dataset
	n   int
	err error
}

// NewLive collects so many inputs of shape, that of one input of the model.
// step is told of each; what is dropped is told in log.
func NewLive(name string, cfg pipeline.Config, shape train.Shape, most int, step func(done, of int), log zerolog.Logger) (*Live, error) {
	if cfg.Input.Raw == "tensor" {
		return nil, fmt.Errorf("stream %s: its bytes go into the model as they stand, and are no numbers; give their form, for example raw: f32le", name)
	}
	l := &Live{most: most, step: step, full: make(chan struct{}), set: &train.Dataset{Name: "stream " + name, Shape: shape}}
	if cfg.Input.Image != "" {
		if len(shape) != 3 || shape[2] != 1 && shape[2] != 3 {
			return nil, fmt.Errorf("stream %s has pictures, and the model takes %v", name, []int(shape))
		}
		l.images = sensors.NewImageDecoder()
	}
	// Only what comes before the model is wanted of it.
	cfg.Model, cfg.Record, cfg.Results.Topic = "", &pipeline.RecordConfig{Every: "1"}, "unheard/{stream}/{source}"
	l.cfg = cfg
	var err error
	epoch := func() (uint64, error) { return 1, nil }
	l.pipe, err = pipeline.New(map[string]pipeline.Config{name: cfg}, nil, unheard{}, nil, l, nil, epoch, log, prometheus.NewRegistry())
	return l, err
}

// unheard publishes to nobody.
type unheard struct{}

func (unheard) Publish(string, []byte, byte, bool) error { return nil }

// Run works until ctx is done.
func (l *Live) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, l.pipe.Cut)()
	return l.pipe.Run(ctx)
}

// Handle takes a message of one of the stream's topics.
func (l *Live) Handle(topic string, payload []byte, retain bool) {
	l.pipe.Handle(broker.Message{Topic: topic, Payload: payload, Retain: retain, Received: time.Now()})
}

// Full is closed when all inputs are there, or one did not fit.
func (l *Live) Full() <-chan struct{} { return l.full }

// Len is how many there are.
func (l *Live) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// Set is what came, once Full is closed.
func (l *Live) Set() (*train.Dataset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	return l.set, l.set.Check()
}

// Record is the pipeline's.
func (l *Live) Record(r *pipeline.Result, input []float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == l.most || l.err != nil {
		return
	}
	if err := l.add(r, input); err != nil {
		l.err = fmt.Errorf("%s: %w", l.set.Name, err)
		close(l.full)
		return
	}
	l.n++
	l.step(l.n, l.most)
	if l.n == l.most {
		close(l.full)
	}
}

func (l *Live) add(r *pipeline.Result, input []float64) error {
	size, d := 1, l.set
	for _, n := range d.Shape {
		size *= n
	}
	if l.images != nil {
		at := len(d.Pixels)
		d.Pixels = append(d.Pixels, make([]byte, size)...)
		_, err := l.images.Into(r.Picture, l.cfg.Picture, sensors.Target{W: d.Shape[1], H: d.Shape[0], C: d.Shape[2], Type: sensors.Uint8, Data: d.Pixels[at:]})
		return err
	}
	if len(input) != size {
		return fmt.Errorf("an input has %d numbers, the model takes %v", len(input), []int(d.Shape))
	}
	input = slices.Clone(input)
	if err := l.cfg.Normalise.Apply(input); err != nil {
		return err
	}
	for _, v := range input {
		d.Values = append(d.Values, float32(v))
	}
	return nil
}
