package app

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/gateway/alert"
	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/upstream"
)

// uplink is one way up: its outbox, its bridge, and the feeder between the
// streams and the disk.
type uplink struct {
	name    string
	alerts  atomic.Bool // they go up
	results atomic.Bool // they go up
	outbox  *upstream.Outbox
	bridge  *upstream.Bridge
	queue   chan upstream.Record
	failing atomic.Pointer[string] // why the disk took nothing at last; nil while it does
	log     zerolog.Logger
	cut     context.Context
}

const (
	feedQueue = 4096 // records that may wait for the disk
	feedBatch = 512  // records that share one fsync
)

func (l *uplink) configure(cfg upstream.Config) {
	l.alerts.Store(slices.Contains(cfg.Send, "alerts"))
	l.results.Store(slices.Contains(cfg.Send, "results"))
}

// offer queues a record for the disk; where the disk cannot follow the caller
// waits, and with it the stream, by its own policy.
func (l *uplink) offer(r upstream.Record) {
	select {
	case l.queue <- r:
	case <-l.cut.Done():
	}
}

// feed brings what is queued to the disk, many records a write. When ctx ends
// it writes what is there and returns.
func (l *uplink) feed(ctx context.Context) error {
	batch := make([]upstream.Record, 0, feedBatch)
	for {
		batch = batch[:0]
		select {
		case r := <-l.queue:
			batch = append(batch, r)
		case <-ctx.Done():
			select {
			case r := <-l.queue:
				batch = append(batch, r)
			default:
				return nil
			}
		}
	more:
		for len(batch) < feedBatch {
			select {
			case r := <-l.queue:
				batch = append(batch, r)
			default:
				break more
			}
		}
		l.write(ctx, batch)
		clear(batch)
	}
}

// write brings records to the disk. One that takes nothing is tried again for
// some seconds, then the records are lost and counted, and what follows is
// tried once: the streams go on without it, and health tells.
func (l *uplink) write(ctx context.Context, batch []upstream.Record) {
	err := l.outbox.Append(batch...)
	for wait := 50 * time.Millisecond; err != nil && wait < 2*time.Second && l.failing.Load() == nil; wait *= 2 {
		l.log.Warn().Err(err).Int("records", len(batch)).Msg("outbox: not written, trying again")
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		err = l.outbox.Append(batch...)
	}
	switch before := l.failing.Load(); {
	case err != nil:
		l.outbox.GiveUp(batch...)
		text := err.Error()
		if l.failing.Store(&text); before == nil {
			l.log.Error().Err(err).Int("records", len(batch)).Msg("outbox: lost, the disk takes nothing; what follows is lost too, until it does")
		}
	case before != nil:
		l.failing.Store(nil)
		l.log.Info().Msg("outbox: the disk takes records again")
	}
}

// outputs joins what streams and alerts found to the local broker and to the
// links.
type outputs struct {
	broker *broker.Server
	links  []*uplink
}

// Result is a pipeline.Sink: results go up where the link sends results.
func (o *outputs) Result(r *pipeline.Result, json []byte, up bool) {
	if !up {
		return
	}
	for _, l := range o.links {
		if l.results.Load() {
			l.offer(upstream.Record{Class: upstream.Results, Stream: r.Stream, Topic: "results/" + r.Stream + "/" + topicPart(r.Source), Payload: json})
		}
	}
}

// PublishEvent is the alert engine's way out: retained on the local broker
// and at the cloud, for cameras with the picture beside it.
func (o *outputs) PublishEvent(e *alert.Event) {
	topic := "alerts/" + e.Alert + "/" + topicPart(e.Source)
	json := e.JSON()
	// The broker refuses nothing here but a topic that is none, and topicPart
	// made it one.
	_ = o.broker.Publish(topic, json, 1, true)
	if e.Picture != nil {
		_ = o.broker.Publish(topic+"/picture", e.Picture, 1, true)
	}
	for _, l := range o.links {
		if !l.alerts.Load() {
			continue
		}
		l.offer(upstream.Record{Class: upstream.Alerts, Stream: e.Stream, Topic: topic, Payload: json, Retain: true})
		if e.Picture != nil {
			l.offer(upstream.Record{Class: upstream.Alerts, Stream: e.Stream, Topic: topic + "/picture", Payload: e.Picture, Retain: true})
		}
	}
}

// Say publishes how a model is doing, here and to the clouds that anything goes
// to: they want to know what became of the versions that they sent.
func (o *outputs) Say(topic string, payload []byte) {
	_ = o.broker.Publish(topic, payload, 1, true) // a model's name is one level of a topic
	for _, l := range o.links {
		class := upstream.Alerts
		if !l.alerts.Load() {
			class = upstream.Results // a link leaves out the class that it does not send
		}
		if l.alerts.Load() || l.results.Load() {
			l.offer(upstream.Record{Class: class, Topic: topic, Payload: payload, Retain: true})
		}
	}
}

// PublishLocal publishes for an appliance.
func (o *outputs) PublishLocal(topic string, payload []byte, retain bool) error {
	return o.broker.Publish(topic, payload, 1, retain)
}

// topicPart makes a source fit for a topic: it may be several levels.
func topicPart(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '+' || r == '#' || r < ' ' {
			return '-'
		}
		return r
	}, s)
}
