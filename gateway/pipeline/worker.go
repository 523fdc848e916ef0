package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"edgegateway/infer"
	"edgegateway/infer/drift"
	"edgegateway/sensors"
)

// worker turns the messages of its share of a stream's sources into results,
// one at a time. All its buffers are reused.
type worker struct {
	s        *Stream
	decoder  sensors.Decoder
	images   *sensors.ImageDecoder // nil on a stream without pictures
	features *sensors.Features     // nil without windows or without features
	names    []string              // of the result's features

	sample sensors.Sample
	place  sensors.Placement
	slots  []slot // what waits for the model; one until it takes several at once
	used   int
	slot   *slot // the one that fill writes
	order  []int // of slots that go to the live version
	errs   []error
	fill   func([]infer.Tensor) error
	many   func(int, []infer.Tensor) error
	answer func(int) *infer.Result
	pixels sensors.Target // the picture that is looked at
	pixel  func(int) float64
	arena  []byte // JSON of results is cut from it
	id     []byte
}

// slot is one sample or window on its way through the model.
type slot struct {
	result Result
	src    *source
	topic  string    // of the message
	part   int       // counts the windows that one message filled
	input  []float64 // what the model takes, before it is quantized, or
	bytes  []byte    // as it stands
	keep   bool      // it is for the recorder
	kept   []float64 // then, and of what the shadow is asked or drift looks at: the input before it is normalised
	beside *Beside   // mostly nil; decided once, when the sample goes into the line:
	shadow bool      // it is asked too
	canary bool      // it answers

	watched bool      // it is looked at for drift
	looked  []float64 // by these numbers
	picture bool      // and, of a picture, by this:
	look    drift.Look
}

// maxSlots is how many samples go through a model at once, where it can.
const maxSlots = 16

func newWorker(s *Stream) (*worker, error) {
	w := &worker{s: s}
	var err error
	if w.decoder, err = sensors.NewDecoder(s.cfg.Input); err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	w.fill = w.fillNumbers
	if s.cfg.Input.Image != "" {
		w.images = sensors.NewImageDecoder()
		w.fill, w.pixel = w.fillPicture, w.pixelOf
	}
	if w.features, w.names, err = s.cfg.features(w.decoder.Names()); err != nil {
		return nil, err
	}
	w.line(1)
	w.slot = &w.slots[0]
	w.widen()
	w.many = func(i int, in []infer.Tensor) error {
		w.slot = &w.slots[w.order[i]]
		return w.fillNumbers(in)
	}
	w.answer = func(i int) *infer.Result { return &w.slots[w.order[i]].result.Infer }
	return w, nil
}

// line makes room for n samples.
func (w *worker) line(n int) {
	w.slots, w.order, w.errs = make([]slot, n), make([]int, 0, n), make([]error, n)
}

// widen makes room for several samples where the version of the model that is
// at work now takes several at once. Nothing waits then.
func (w *worker) widen() {
	if w.s.model != nil && len(w.slots) == 1 && w.images == nil && w.s.model.Batches() {
		w.line(maxSlots)
	}
}

// handle takes one message through decode and window; flush takes what waits
// through the model and out.
func (w *worker) handle(ctx context.Context, it *item) {
	s := w.s
	if err := w.decoder.Decode(it.msg.Payload, &w.sample); err != nil {
		s.drops.add(s.log, sensors.Reason(err), 1, fmt.Errorf("topic %s, %d bytes: %w", it.msg.Topic, len(it.msg.Payload), err))
		return
	}
	src, seq, evicted := s.sources.get(it.source, &w.sample)
	if evicted {
		s.drops.add(s.log, "source_evicted", 1, nil)
	}
	w.slot = &w.slots[w.used]
	r := &w.slot.result
	r.Stream, r.Source = s.name, src.name
	r.Received = it.msg.Received
	if r.Time = w.sample.Time; r.Time.IsZero() {
		r.Time = it.msg.Received
	}
	r.Seq = seq
	r.Picture = w.sample.Picture
	if src.window == nil {
		w.finish(ctx, src, it, 0)
		return
	}
	w.readings(ctx, src, it)
}

// readings pushes the readings of a payload into the window: there may be many
// in it, and with them many windows.
func (w *worker) readings(ctx context.Context, src *source, it *item) {
	s, r := w.s, &w.slot.result
	width := len(w.sample.Values)
	if n := len(s.values); n > 0 {
		width = n
	}
	if width == 0 {
		s.drops.add(s.log, "wrong_length", 1, fmt.Errorf("topic %s: no values for the window", it.msg.Topic))
		return
	}
	step := time.Duration(0)
	if s.cfg.Input.Rate > 0 {
		step = time.Duration(float64(time.Second) / s.cfg.Input.Rate)
	}
	at := r.Time
	arrived := w.sample.Time.IsZero()
	if arrived { // with its last reading
		at = at.Add(-step * time.Duration(len(w.sample.Values)/width-1))
	}
	// A payload that came a little early, or whose time is a rounded one,
	// begins before the last one ended: no jump back in time.
	var floor time.Time
	if arrived || step > 0 && !at.Before(src.begun) {
		floor = src.last
	}
	src.begun = at
	part := 0
	for v := w.sample.Values; len(v) > 0; v = v[width:] {
		if next := &w.slots[w.used]; next != w.slot { // a window of this payload waits there
			next.result.Stream, next.result.Source, next.result.Received = r.Stream, r.Source, r.Received
			next.result.Seq, next.result.Picture = r.Seq, r.Picture
			w.slot, r = next, &next.result
		}
		if r.Time = at; at.Before(floor) {
			r.Time = floor
		}
		src.last = r.Time
		at = at.Add(step)
		full := src.window.Push(r.Time, v[:width])
		if n := src.window.Resets(); n != src.resets {
			s.drops.add(s.log, "window_reset", int(n-src.resets), fmt.Errorf("source %s: %s", src.name, resetTexts[src.window.ResetReason()]))
			src.resets = n
		}
		if full {
			w.finish(ctx, src, it, part)
			part++
		}
	}
}

// resetTexts say why a window began anew.
var resetTexts = map[string]string{
	"gap":      "there is a gap between its readings, longer than the window allows",
	"back":     "the time of a reading is before that of the one before it",
	"width":    "a reading has another number of values than the one before it",
	"too_many": "more readings than the window may hold",
}

// finish puts a sample or a full window into line for the model; part counts
// the windows that one message filled. What waits goes on when the line is
// full, and when no message is left.
func (w *worker) finish(ctx context.Context, src *source, it *item, part int) {
	w.slot.src, w.slot.topic, w.slot.part = src, it.msg.Topic, part
	if err := w.prepare(src); err != nil {
		w.fail(ctx, w.slot, err)
		return
	}
	if w.used++; w.used == len(w.slots) {
		w.flush(ctx)
	}
}

// fail counts a sample that gave no result.
func (w *worker) fail(ctx context.Context, at *slot, err error) {
	reason := sensors.Reason(err)
	switch {
	case ctx.Err() != nil:
		reason = "stopping"
	case errors.Is(err, infer.ErrOutOfRange):
		reason = "out_of_range"
	}
	w.s.drops.add(w.s.log, reason, 1, fmt.Errorf("topic %s: %w", at.topic, err))
}

// prepare computes the features, and what the model takes.
func (w *worker) prepare(src *source) error {
	at := w.slot
	r := &at.result
	if src.window != nil {
		r.Begin = src.window.Begin()
	}
	at.input, at.bytes = at.input[:0], w.sample.Bytes
	switch {
	case w.images != nil:
	case w.features != nil:
		at.input = w.features.Compute(src.window, w.s.cfg.Input.Rate, at.input)
	case src.window != nil:
		at.input = src.window.Flatten(at.input)
	default:
		at.input = append(at.input, w.sample.Values...)
	}
	r.Features = r.Features[:0]
	if len(w.names) == len(at.input) {
		for i, name := range w.names {
			r.Features = append(r.Features, Feature{Name: name, Value: at.input[i]})
		}
	}
	if at.beside = w.s.beside.Load(); at.beside != nil {
		at.shadow, at.canary = at.beside.picks(at)
	}
	at.keep = w.s.rec != nil && src.record.due(w.s.every, r.Received)
	if at.watched = w.s.watch != nil && src.drift.due(w.s.watch.every, r.Received); at.watched {
		at.looked, at.picture = drift.Inputs(at.looked[:0], at.input, w.readingsOf(src)), false
	}
	if at.keep || at.watched || at.beside != nil && at.shadow {
		at.kept = append(at.kept[:0], at.input...)
	}
	r.Infer.Reset()
	if w.s.model == nil {
		return nil
	}
	return w.s.cfg.Normalise.Apply(at.input)
}

// flush takes what waits through the model and out, in order.
func (w *worker) flush(ctx context.Context) {
	n := w.used
	w.used = 0
	w.order = w.order[:0]
	for i := range n {
		if at := &w.slots[i]; at.beside == nil || !at.canary {
			w.order = append(w.order, i)
		}
	}
	taken := 0
	if w.s.model != nil && len(w.slots) > 1 {
		taken = w.s.model.RunMany(ctx, len(w.order), w.many, w.answer, w.errs)
	}
	live := 0 // how many of those in order are done
	for i := range n {
		at := &w.slots[i]
		var err error
		if at.beside != nil && at.canary {
			if w.canary(ctx, at) != nil {
				err = w.alone(ctx, at)
			}
		} else {
			if err = w.errs[live]; live >= taken {
				err = w.alone(ctx, at)
			}
			live++
		}
		if err != nil {
			w.fail(ctx, at, fmt.Errorf("model %s: %w", w.s.cfg.Model, err))
		} else {
			w.emit(at)
			if at.beside != nil && at.shadow {
				at.beside.offer(w.s, at)
			}
		}
		at.bytes, at.beside = nil, nil // the payload is not kept
	}
	if len(w.slots) == 1 {
		w.widen()
	}
}

// alone runs the model for one sample.
func (w *worker) alone(ctx context.Context, at *slot) error {
	if w.s.model == nil {
		return nil
	}
	return w.run(ctx, w.s.model, at)
}

// run runs a version of the model for one sample.
func (w *worker) run(ctx context.Context, m *infer.Model, at *slot) error {
	w.slot = at
	r := &at.result
	if err := m.Run(ctx, w.fill, &r.Infer); err != nil {
		return err
	}
	for i := range r.Infer.Objects {
		w.toPicture(&r.Infer.Objects[i])
	}
	return nil
}

func (w *worker) fillNumbers(in []infer.Tensor) error {
	t := &in[0]
	if w.slot.bytes == nil {
		if len(w.slot.input) != t.Len() {
			return &sensors.Error{Why: "wrong_length", Text: fmt.Sprintf("its input is %v %v, %d numbers are given", t.Shape, t.Type, len(w.slot.input))}
		}
		// As a float32 it may be infinite, though the payload's number was not.
		for i, v := range w.slot.input {
			if f := float32(v); f-f != 0 {
				return &sensors.Error{Why: "not_a_number", Text: fmt.Sprintf("number %d for its input is %v", i, v)}
			}
		}
		return t.SetFloats(w.slot.input)
	}
	if len(w.slot.bytes) != len(t.Data) {
		return &sensors.Error{Why: "wrong_length", Text: fmt.Sprintf("its input is %v %v, %d bytes; %d are given", t.Shape, t.Type, len(t.Data), len(w.slot.bytes))}
	}
	if t.Type == infer.Float32 {
		for b, i := w.slot.bytes, 0; len(b) >= 4; b, i = b[4:], i+1 {
			if binary.LittleEndian.Uint32(b)&infinite == infinite {
				return &sensors.Error{Why: "not_a_number", Text: fmt.Sprintf("number %d is not finite", i)}
			}
		}
	}
	return t.SetBytes(w.slot.bytes)
}

// infinite are the bits of a float32 that all stand in Inf and NaN alone.
const infinite = 0x7f80_0000

func (w *worker) fillPicture(in []infer.Tensor) error {
	dst, err := target(in)
	if err != nil {
		return err
	}
	w.place, err = w.images.Into(w.slot.result.Picture, fitted(w.s.cfg.Picture, in[0].Picture), dst)
	if at := w.slot; err == nil && at.watched {
		w.pixels = dst
		at.look.From(dst.W, dst.H, dst.C, w.pixel)
		at.picture = true
	}
	return err
}

// fitted is how a stream's pictures become the input of a version: what the
// stream leaves at its default is as the version says.
func fitted(cfg sensors.ImageConfig, says *infer.PictureInput) sensors.ImageConfig {
	if says == nil {
		return cfg
	}
	if says.Fit != "" && cfg.Fit == defaultPicture.Fit {
		cfg.Fit = says.Fit
	}
	if says.Channels != "" && cfg.Channels == defaultPicture.Channels {
		cfg.Channels = says.Channels
	}
	if len(cfg.Mean)+len(cfg.Std) == 0 {
		cfg.Mean, cfg.Std = says.Mean, says.Std
	}
	return cfg
}

var defaultPicture = sensors.DefaultImageConfig()

// target is the model's first input as sensors wants it: a picture of one.
func target(in []infer.Tensor) (sensors.Target, error) {
	t := in[0]
	if len(t.Shape) != 4 || t.Shape[0] != 1 {
		return sensors.Target{}, fmt.Errorf("its input has the shape %v, a picture needs [1, height, width, channels]", t.Shape)
	}
	var kind sensors.ElemType
	switch t.Type {
	case infer.Float32:
		kind = sensors.Float32
	case infer.Int8:
		kind = sensors.Int8
	case infer.Uint8:
		kind = sensors.Uint8
	default:
		return sensors.Target{}, fmt.Errorf("its input is %v, a picture needs float32, int8 or uint8", t.Type)
	}
	return sensors.Target{
		W: t.Shape[2], H: t.Shape[1], C: t.Shape[3],
		Type: kind, Scale: t.Scale, ZeroPoint: t.ZeroPoint, Data: t.Data,
	}, nil
}

// toPicture turns fractions of the model's input into fractions of the
// picture that came in.
func (w *worker) toPicture(o *infer.Object) {
	o.Box[0], o.Box[1] = w.place.ToPicture(o.Box[0], o.Box[1])
	o.Box[2], o.Box[3] = w.place.ToPicture(o.Box[2], o.Box[3])
	for i := range o.Box {
		o.Box[i] = min(max(o.Box[i], 0), 1)
	}
	for i := range o.Points {
		o.Points[i][0], o.Points[i][1] = w.place.ToPicture(o.Points[i][0], o.Points[i][1])
	}
}

const arenaSize = 64 << 10

// emit publishes the result and hands it to the sinks.
func (w *worker) emit(at *slot) {
	s, r, src := w.s, &at.result, at.src
	w.id = src.appendID(w.id[:0], r.Seq, at.part)
	r.ID = string(w.id)
	// The broker keeps the payload until its slowest subscriber has it, so
	// each result has memory of its own, cut from a block that is dropped
	// when full.
	if cap(w.arena)-len(w.arena) < arenaSize/16 {
		w.arena = make([]byte, 0, arenaSize)
	}
	from := len(w.arena)
	w.arena = r.AppendJSON(w.arena)
	json := w.arena[from:len(w.arena):len(w.arena)]
	s.results.Add(1)
	if err := s.pub.Publish(src.topic, json, byte(s.cfg.Results.QoS), s.cfg.Results.Retain); err != nil {
		s.drops.add(s.log, "publish", 1, fmt.Errorf("topic %s: %w", src.topic, err))
	}
	if s.model != nil {
		s.model.Published(r.Age())
	}
	up := src.offer(s.send, r.Infer.Label)
	for _, sink := range s.sinks {
		sink.Result(r, json, up)
	}
	if at.keep {
		s.rec.Record(r, at.kept)
	}
	if at.watched {
		s.watch.add(w, at)
	}
}

// Age is how long ago the broker had the message.
func (r *Result) Age() time.Duration { return time.Since(r.Received) }
