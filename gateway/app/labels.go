package app

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"edgegateway/broker"
	"edgegateway/gateway/dataset"
)

// labelTaps are where the labels of recorded samples come in, and the answers
// to those who set one.
type labelTaps struct {
	mu      sync.Mutex
	remove  []func()
	answers chan answer
}

type answer struct {
	topic   string
	payload []byte
}

// labelTopic is where clients of the local broker label what a stream records;
// the gateway answers on it with /reply.
func labelTopic(stream string) string { return "datasets/" + stream + "/label" }

// tapLabels listens to what labels the streams that record now, and to what says
// later which answers were right.
func (a *App) tapLabels() error {
	t := &a.labels
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers == nil {
		t.answers = make(chan answer, 64)
	}
	old := t.remove
	t.remove = nil
	tap := func(filter string, take func(broker.Message)) error {
		remove, err := a.broker.Tap([]string{filter}, take)
		if err == nil {
			t.remove = append(t.remove, remove)
		}
		return err
	}
	for _, name := range a.sets.Streams() {
		if filter := a.sets.LabelTopic(name); filter != "" {
			if err := tap(filter, func(m broker.Message) {
				source, _ := broker.Wildcards(filter, m.Topic)
				a.sets.Hear(name, strings.Clone(source), m.Payload, m.Received)
			}); err != nil {
				return err
			}
		}
		if err := tap(labelTopic(name), func(m broker.Message) {
			reply, err := a.label(name, m.Payload, m.Received)
			if err != nil {
				reply, _ = json.Marshal(map[string]string{"error": err.Error()}) // texts
			}
			select { // the broker cannot publish while it hands on
			case t.answers <- answer{labelTopic(name) + "/reply", reply}:
			default:
			}
		}); err != nil {
			return err
		}
	}
	for model, filter := range a.roll.LabelTopics() {
		if err := tap(filter, func(m broker.Message) { a.roll.Hear(model, m.Payload) }); err != nil {
			return err
		}
	}
	for _, remove := range old {
		remove()
	}
	return nil
}

// label executes the command to label what a stream records; stream is "" where
// the payload names it.
func (a *App) label(stream string, payload []byte, received time.Time) ([]byte, error) {
	c, err := dataset.ParseCommand(payload)
	if err != nil {
		return nil, err
	}
	if stream != "" {
		c.Stream = stream
	}
	if err := a.sets.Label(c, received); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// answerLabels tells those who set a label what became of it.
func (a *App) answerLabels(ctx context.Context) error {
	for {
		select {
		case m := <-a.labels.answers:
			_ = a.broker.Publish(m.topic, m.payload, 1, false) // a stream's name is one level of a topic
		case <-ctx.Done():
			return nil
		}
	}
}
