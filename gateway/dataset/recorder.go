package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/gateway/pipeline"
	"edgegateway/sensors"
)

// What may wait for the disk. What comes on top is dropped and counted: a
// stream never waits for it.
const (
	queueSamples = 1024
	queueBytes   = 32 << 20
	maxLabel     = 256 // bytes
	syncEvery    = time.Second
)

// Recorder keeps the samples of the streams that say so: it is their
// pipeline.Recorder.
type Recorder struct {
	data    string
	log     zerolog.Logger
	queue   chan work
	waiting atomic.Int64 // bytes in it
	streams atomic.Pointer[map[string]*stream]

	recorded, dropped, evicted *prometheus.CounterVec
	samples, bytes             *prometheus.GaugeVec

	mu     sync.Mutex
	status map[string]*Status
}

// stream is one that records, by one configuration.
type stream struct {
	name   string
	header Header
	most   limits
	cfg    pipeline.RecordConfig
	path   *sensors.NamePath // of the label in the topic's messages
	rule   *vm.Program       // nil without
	labels *labels
}

// work is one sample on its way to the disk.
type work struct {
	stream *stream
	sample Sample
	bytes  int64
}

// Status is what one stream recorded.
type Status struct {
	Stream   string `json:"stream"`
	Samples  int    `json:"samples"`  // on the disk
	Bytes    int64  `json:"bytes"`    // that they take
	Recorded uint64 `json:"recorded"` // since the start
	Dropped  uint64 `json:"dropped"`  // since the start: unlabelled or not written
	Evicted  uint64 `json:"evicted"`  // since the start: left for newer ones
	Error    string `json:"error,omitempty"`
}

// NewRecorder makes one for the streams of a checked configuration, below the
// gateway's data folder. Run writes.
func NewRecorder(data string, streams map[string]pipeline.Config, log zerolog.Logger, reg prometheus.Registerer) (*Recorder, error) {
	r := &Recorder{data: data, log: log, queue: make(chan work, queueSamples), status: map[string]*Status{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "edgegateway_dataset_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "edgegateway_dataset_" + name, Help: help}, []string{"stream"})
	}
	r.recorded = counter("recorded_total", "Samples that were kept.", "stream")
	r.dropped = counter("dropped_total", "Samples that were due to be kept and were not, by reason.", "stream", "reason")
	r.evicted = counter("evicted_total", "Samples that left for newer ones.", "stream")
	r.samples = gauge("samples", "Samples on the disk.")
	r.bytes = gauge("bytes", "Bytes that they take.")
	for _, c := range []prometheus.Collector{r.recorded, r.dropped, r.evicted, r.samples, r.bytes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("dataset: metrics: %w", err)
		}
	}
	apply, err := r.Prepare(streams)
	if err != nil {
		return nil, err
	}
	apply()
	return r, nil
}

// Prepare builds what records the streams of a new configuration and touches
// nothing; apply puts it in force. Labels that were set stay.
func (r *Recorder) Prepare(streams map[string]pipeline.Config) (apply func(), err error) {
	next := map[string]*stream{}
	old := r.streams.Load()
	recording := map[string]pipeline.Config{}
	for name, cfg := range streams {
		if cfg.Record != nil {
			recording[name] = cfg
		}
	}
	for name, cfg := range streams {
		if !cfg.Reviews() {
			continue
		}
		set := pipeline.ReviewSet(name)
		if _, ok := recording[set]; ok {
			return nil, fmt.Errorf("streams.%s.drift: what it keeps for labelling goes to the data set %s, to which the stream of that name records; name that another", name, set)
		}
		cfg.Record = &pipeline.RecordConfig{MaxSamples: cfg.Drift.MaxSamples, MaxBytes: cfg.Drift.MaxBytes}
		recording[set] = cfg
	}
	for name, cfg := range recording {
		s, err := newStream(name, cfg)
		if err != nil {
			return nil, fmt.Errorf("streams.%s.record: %w", name, err)
		}
		if old != nil && (*old)[name] != nil {
			s.labels = (*old)[name].labels
		}
		next[name] = s
	}
	return func() {
		for name := range next {
			r.show(name)
		}
		r.streams.Store(&next)
	}, nil
}

// show lets a stream's metrics be there before its first sample.
func (r *Recorder) show(name string) {
	for _, reason := range []string{"unlabelled", "queue_full", "not_a_number", "too_large", "disk"} {
		r.dropped.WithLabelValues(name, reason)
	}
	for _, c := range []*prometheus.CounterVec{r.recorded, r.evicted} {
		c.WithLabelValues(name)
	}
	for _, g := range []*prometheus.GaugeVec{r.samples, r.bytes} {
		g.WithLabelValues(name)
	}
}

func newStream(name string, cfg pipeline.Config) (*stream, error) {
	s := &stream{
		name: name, cfg: *cfg.Record, labels: newLabels(cfg.MaxSources),
		most:   limits{cfg.Record.MaxSamples, cfg.Record.MaxBytes},
		header: Header{Pictures: cfg.Input.Image != ""},
	}
	var err error
	if s.header.Features, s.header.Readings, err = cfg.Inputs(); err != nil {
		return nil, err
	}
	l := s.cfg.Label
	if l == nil {
		s.cfg.Label = &pipeline.LabelConfig{Unlabelled: true}
		return s, nil
	}
	if l.Path != "" {
		p, err := sensors.NewNamePath(l.Path)
		if err != nil {
			return nil, fmt.Errorf("label.path: %w", err)
		}
		s.path = &p
	}
	if l.Rule != "" {
		names, err := cfg.Fields()
		if err != nil {
			return nil, err
		}
		if s.rule, err = pipeline.Text(l.Rule, pipeline.Fields{Features: names, Model: cfg.Model != ""}); err != nil {
			return nil, fmt.Errorf("label.rule: %w", err)
		}
	}
	return s, nil
}

// stream gives a stream that records, nil where it does not.
func (r *Recorder) stream(name string) *stream { return (*r.streams.Load())[name] }

// Record is the pipeline's.
func (r *Recorder) Record(res *pipeline.Result, input []float64) {
	s := r.stream(res.Stream)
	if s == nil {
		return // it left the configuration, and finishes
	}
	label := s.label(res)
	if label == "" && !s.cfg.Label.Unlabelled {
		r.drop(s.name, "unlabelled", nil)
		return
	}
	for _, v := range input {
		if v-v != 0 {
			r.drop(s.name, "not_a_number", nil)
			return
		}
	}
	w := work{stream: s, bytes: int64(len(res.Picture) + 8*len(input)), sample: Sample{
		Time: res.Time, Begin: res.Begin, Source: res.Source, ID: res.ID, Label: label, Picture: res.Picture,
	}}
	if r.waiting.Add(w.bytes) > queueBytes {
		r.waiting.Add(-w.bytes)
		r.drop(s.name, "queue_full", nil)
		return
	}
	if res.Picture == nil {
		w.sample.Values = slices.Clone(input)
	}
	select {
	case r.queue <- w:
	default:
		r.waiting.Add(-w.bytes)
		r.drop(s.name, "queue_full", nil)
	}
}

// label is that of a result: what was said, else what the rule says.
func (s *stream) label(r *pipeline.Result) string {
	if l := s.labels.at(r.Source, r.Received); l != "" || s.rule == nil {
		return l
	}
	out, err := expr.Run(s.rule, pipeline.Environment(r))
	if err != nil {
		return "" // as of top[3] where there are two
	}
	text, _ := out.(string)
	return clean(text)
}

// clean makes a label of a text from outside.
func clean(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "\ufffd")
	for len(text) > maxLabel {
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	return strings.Clone(text)
}

// LabelTopic is the filter that labels a stream, "" where none does.
func (r *Recorder) LabelTopic(name string) string {
	if s := r.stream(name); s != nil {
		return s.cfg.Label.Topic
	}
	return ""
}

// Streams are the names of those that record.
func (r *Recorder) Streams() []string { return slices.Sorted(maps.Keys(*r.streams.Load())) }

// Hear takes a message of a stream's label topic; source is what the topic's
// wildcards matched, "" for all sources.
func (r *Recorder) Hear(name, source string, payload []byte, received time.Time) {
	s := r.stream(name)
	if s == nil {
		return
	}
	text := string(payload)
	if s.path != nil {
		var err error
		if text, err = s.path.Name(payload); err != nil {
			text = "" // a message without a label ends the one before
		}
	}
	s.labels.set(s.labels.topics, source, s.heard(clean(text), s.cfg.Label.For, received))
}

func (s *stream) heard(label string, hold time.Duration, from time.Time) heard {
	h := heard{label: label, from: from}
	if hold > 0 {
		h.until = from.Add(hold)
	}
	return h
}

// Command is a label as a person or the cloud sets it: for one source or, with
// none, all; for a time such as 10m, or until the next.
type Command struct {
	Stream string `json:"stream,omitempty"`
	Source string `json:"source,omitempty"`
	Label  string `json:"label"` // "" ends the one before
	For    string `json:"for,omitempty"`
}

// Label executes a command that came at a time.
func (r *Recorder) Label(c Command, received time.Time) error {
	s := r.stream(c.Stream)
	if s == nil {
		names := strings.Join(r.Streams(), ", ")
		if names == "" {
			names = "none"
		}
		return fmt.Errorf("stream %q does not record; those that do: %s", c.Stream, names)
	}
	hold := s.cfg.Label.For
	if c.For != "" {
		var err error
		if hold, err = time.ParseDuration(c.For); err != nil || hold <= 0 {
			return fmt.Errorf("for: %q is no time such as 10m", c.For)
		}
	}
	s.labels.set(s.labels.commands, strings.Clone(c.Source), s.heard(clean(c.Label), hold, received))
	r.log.Info().Str("stream", c.Stream).Str("source", c.Source).Str("label", c.Label).Dur("for", hold).Msg("label set by command")
	return nil
}

// ParseCommand reads the payload of a command: a JSON object, or the label as
// plain text.
func ParseCommand(payload []byte) (c Command, err error) {
	if len(payload) == 0 || payload[0] != '{' {
		c.Label = string(payload)
		return c, nil
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return c, fmt.Errorf(`no command such as {"label": "ok", "for": "10m"}: %w`, err)
	}
	return c, nil
}

// drop counts a sample that is not kept. A disk that takes nothing is said
// once, until it does again.
func (r *Recorder) drop(name, reason string, err error) {
	r.dropped.WithLabelValues(name, reason).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.of(name)
	st.Dropped++
	if err == nil {
		return
	}
	if st.Error == "" {
		r.log.Error().Err(err).Str("stream", name).Msg("samples are not kept")
	}
	st.Error = err.Error()
}

// of is the status of a stream; the caller holds the lock.
func (r *Recorder) of(name string) *Status {
	st := r.status[name]
	if st == nil {
		st = &Status{Stream: name}
		r.status[name] = st
	}
	return st
}

// Status lists the streams that record.
func (r *Recorder) Status() (list []Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.Streams() {
		list = append(list, *r.of(name))
	}
	return list
}

// Run writes until ctx ends, then what is queued yet.
func (r *Recorder) Run(ctx context.Context) error {
	open := map[string]*writer{}
	for _, name := range r.Streams() {
		if w, err := openWriter(Dir(r.data, name)); err != nil {
			r.fail(name, err)
		} else {
			open[name] = w
			r.wrote(name, w, 0, 0)
		}
	}
	var tick <-chan time.Time
	for ctx.Err() == nil {
		select {
		case w := <-r.queue:
			r.write(open, w)
			if tick == nil {
				tick = time.After(syncEvery)
			}
		case <-tick:
			tick = nil
			for name, w := range open {
				if err := w.sync(); err != nil {
					r.fail(name, err)
				}
			}
		case <-ctx.Done():
		}
	}
	for {
		select {
		case w := <-r.queue:
			r.write(open, w)
			continue
		default:
		}
		break
	}
	var errs []error
	for _, w := range open {
		errs = append(errs, w.close())
	}
	if err := errors.Join(errs...); err != nil {
		r.log.Error().Err(err).Msg("data sets: not closed well")
	}
	return nil
}

// write brings one sample to the disk.
func (r *Recorder) write(open map[string]*writer, job work) {
	r.waiting.Add(-job.bytes)
	name := job.stream.name
	w := open[name]
	if w == nil {
		var err error
		if w, err = openWriter(Dir(r.data, name)); err != nil {
			r.drop(name, "disk", err)
			return
		}
		open[name] = w
	}
	evicted, err := w.append(job.stream.header, job.stream.most, &job.sample)
	switch {
	case errors.Is(err, errTooLarge):
		r.drop(name, "too_large", nil)
		r.wrote(name, w, 0, evicted)
	case err != nil:
		r.drop(name, "disk", err)
		// What is there is looked at again: the folder may be another one.
		_ = w.close()
		delete(open, name)
	default:
		r.wrote(name, w, 1, evicted)
	}
}

// fail notes that a set's disk is ill.
func (r *Recorder) fail(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(name).Error = err.Error()
	r.log.Error().Err(err).Str("stream", name).Msg("data set")
}

// wrote notes what a set holds now.
func (r *Recorder) wrote(name string, w *writer, recorded, evicted int) {
	r.recorded.WithLabelValues(name).Add(float64(recorded))
	r.evicted.WithLabelValues(name).Add(float64(evicted))
	r.samples.WithLabelValues(name).Set(float64(w.samples))
	r.bytes.WithLabelValues(name).Set(float64(w.bytes))
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.of(name)
	st.Samples, st.Bytes = w.samples, w.bytes
	st.Recorded += uint64(recorded)
	st.Evicted += uint64(evicted)
	st.Error = ""
}
