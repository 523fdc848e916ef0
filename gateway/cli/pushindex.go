package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/offer"
)

// atBroker is what a broker retains of pushes.
type atBroker struct {
	offers map[string]*offer.Offer // by topic
	pushes map[string]*offer.Offer // of one model, by id: what each said that it leaves
}

// ended are the pushes that no offer tells of, for they were ended between the
// chunks and the offers, or while they cleared; gone are offers that are not at
// the broker any more, by topic.
func (at *atBroker) ended(gone map[string]*offer.Offer) (list []*offer.Offer) {
	known := map[string]bool{}
	for _, offers := range []map[string]*offer.Offer{at.offers, gone} {
		for _, o := range offers {
			known[o.ID] = true
		}
	}
	for id, o := range at.pushes {
		if !known[id] {
			list = append(list, o)
		}
	}
	return list
}

// indexAt is between the topic of the chunks and the name of a model.
const indexAt = "/pushed/"

// indexTopic is where a push says what it leaves, before it does: chunks can only
// be found by who knows their exact topics. "" where an offer names no chunks.
func indexTopic(o *offer.Offer) string {
	if len(o.Files) == 0 {
		return ""
	}
	f := &o.Files[0]
	return strings.TrimSuffix(f.Topic, "/"+f.SHA256) + indexAt + o.Name + "/" + o.ID
}

// index says at the broker what a push leaves there. A broker that does not keep
// it is asked no more.
func (w *pusher) index(ctx context.Context, o *offer.Offer) error {
	if w.noIndex {
		return nil
	}
	if err := w.publish(ctx, []link.Msg{{Topic: indexTopic(o), Payload: offer.Encode(o), QoS: 1, Retain: true}}, func(int) {}); err != nil {
		return err
	}
	w.noIndex = !w.indexed(ctx, o)
	return nil
}

// indexed says whether the broker has it still, or is not asked.
func (w *pusher) indexed(ctx context.Context, o *offer.Offer) bool {
	if w.noIndex {
		return true
	}
	conn, err := w.connected(ctx)
	if err != nil {
		return true // who publishes next says what is wrong
	}
	own, cancel := context.WithTimeout(ctx, pushQuiet)
	defer cancel()
	text, err := conn.Get(own, indexTopic(o))
	return len(text) > 0 || err != nil && conn.Err() != nil
}

// there is what the broker retains of offers, and of pushes of a model. One that
// does not let us look into the index has none for us.
func (w *pusher) there(ctx context.Context, name string) (*atBroker, error) {
	at, err := w.look(ctx, name)
	if err != nil && !w.noIndex && ctx.Err() == nil && !errors.Is(err, link.ErrRefused) { // it may have ended the link at that
		w.noIndex = true
		at, err = w.look(ctx, name)
	}
	return at, err
}

// look reads it. A broker does not say which is the last: it is when none came
// for a while.
func (w *pusher) look(ctx context.Context, name string) (*atBroker, error) {
	conn, err := w.connected(ctx)
	if err != nil {
		return nil, err
	}
	came, read := make(chan link.Msg), make(chan struct{})
	defer close(read) // what comes later is passed over
	take := func(m link.Msg) {
		select {
		case came <- m:
		case <-read:
		case <-conn.Done():
		}
	}
	filter, index := w.topic("+", offer.OffersAt, "#"), w.at+indexAt+name+"/+"
	err = conn.Subscribe(ctx, []string{filter}, 1, take)
	if errors.Is(err, link.ErrRefused) {
		err = fmt.Errorf("%w: %s", err, w.mayNot("subscribe", filter))
	}
	if err == nil && !w.noIndex {
		if err = conn.Subscribe(ctx, []string{index}, 1, take); errors.Is(err, link.ErrRefused) {
			w.noIndex, err = true, nil
		}
	}
	if err != nil {
		return nil, err
	}
	at := &atBroker{map[string]*offer.Offer{}, map[string]*offer.Offer{}}
	for {
		select {
		case m := <-came:
			o, err := offer.Parse(m.Payload)
			switch id, pushed := strings.CutPrefix(m.Topic, strings.TrimSuffix(index, "+")); {
			case pushed:
				if err == nil && o.ID == id && o.Name == name && indexTopic(o) == m.Topic {
					at.pushes[id] = o
				}
			case err == nil:
				at.offers[m.Topic] = o
			case len(m.Payload) > 0:
				at.offers[m.Topic] = &offer.Offer{} // it can be taken away all the same
			}
		case <-time.After(pushQuiet):
			return at, nil
		case <-conn.Done():
			return nil, conn.Err()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
