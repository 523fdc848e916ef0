package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/offer"
)

// clearAll is --clear.
func (w *pusher) clearAll(ctx context.Context, name string) error {
	n, ended, err := w.takeAway(ctx, name, w.gateways, true)
	if err != nil {
		return err
	}
	if ended {
		_, err = fmt.Fprintf(w.out, "%s: what was left by a push that was ended before it was done is cleared\n", name)
	}
	if err != nil || n == 0 && ended {
		return err
	}
	if n == 0 {
		return fmt.Errorf("nothing of %s is offered at %s", name, w.topic(cmp.Or(strings.Join(w.gateways, ","), "+"), offer.OffersAt, name))
	}
	_, err = fmt.Fprintf(w.out, "%s is offered no more to %s\n", name, count(n, "gateway"))
	return err
}

// takeAway clears offers and reports of a model for some gateways, or for all,
// those of any model whose date has passed, and the chunks that no other offer
// needs; with sweep also what pushes of the model left that were ended before they
// were done. It gives the number of offers of the model, and whether there was
// such a push.
func (w *pusher) takeAway(ctx context.Context, name string, gateways []string, sweep bool) (n int, ended bool, err error) {
	at, err := w.there(ctx, name)
	if err != nil {
		return 0, false, err
	}
	all := at.offers
	mine := map[string]bool{}
	for _, g := range gateways {
		mine[w.topic(g, offer.OffersAt, name)] = true
	}
	gone := map[string]*offer.Offer{}
	for topic, o := range all {
		named := strings.HasSuffix(topic, offer.OffersAt+name) && (len(mine) == 0 || mine[topic])
		if named {
			n++
		}
		if named || o.Over(time.Now()) {
			gone[topic] = o
			delete(all, topic)
		}
	}
	var left []*offer.Offer
	if sweep {
		left = at.ended(gone)
	}
	return n, len(left) > 0, w.clearOffers(ctx, gone, all, left)
}

// takePlace clears what was offered before and is no more, now that o is
// offered in its place: the chunks that only the older offers named, and offers
// whose date has passed.
func (w *pusher) takePlace(ctx context.Context, o *offer.Offer, then *atBroker) error {
	if then == nil {
		return nil
	}
	before := then.offers
	gone, replaced := map[string]*offer.Offer{}, []*offer.Offer{}
	for _, g := range w.gateways {
		topic := w.topic(g, offer.OffersAt, o.Name)
		if old := before[topic]; old != nil {
			replaced = append(replaced, old)
			delete(before, topic)
		}
	}
	for topic, old := range before {
		if old.Over(time.Now()) {
			gone[topic] = old
		}
	}
	if len(gone)+len(replaced)+len(then.pushes) == 0 {
		return nil
	}
	at, err := w.there(ctx, o.Name) // somebody else may have offered the same chunks meanwhile
	if err != nil {
		return err
	}
	all := at.offers
	for topic, old := range gone {
		if now := all[topic]; now == nil || now.ID != old.ID {
			delete(gone, topic)
			continue
		}
		delete(all, topic)
	}
	all[""] = o // whatever the broker says
	for id := range at.pushes {
		if then.pushes[id] == nil { // it began since, and its offers may be on their way
			delete(at.pushes, id)
		}
	}
	return w.clearOffers(ctx, gone, all, append(replaced, at.ended(nil)...))
}

// clearOffers clears offers by topic with their reports, and the chunks of these
// and of replaced ones that none which stays needs; last what the index says of
// them, so that who is killed before finds them again.
func (w *pusher) clearOffers(ctx context.Context, gone, stay map[string]*offer.Offer, replaced []*offer.Offer) error {
	var msgs []link.Msg
	for _, topic := range slices.Sorted(maps.Keys(gone)) {
		at := strings.LastIndex(topic, offer.OffersAt)
		report := topic[:at] + offer.ReportsAt + topic[at+len(offer.OffersAt):]
		msgs = append(msgs, link.Msg{Topic: topic, QoS: 1, Retain: true}, link.Msg{Topic: report, QoS: 1, Retain: true})
		replaced = append(replaced, gone[topic])
	}
	chunks := map[string]bool{}
	for _, o := range replaced {
		for topic := range o.Chunks() {
			chunks[topic] = true
		}
	}
	for _, o := range stay {
		for topic := range o.Chunks() {
			delete(chunks, topic)
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(chunks)) {
		msgs = append(msgs, link.Msg{Topic: topic, QoS: 1, Retain: true})
	}
	pushed := map[string]bool{}
	for _, o := range replaced {
		pushed[indexTopic(o)] = true
	}
	for _, o := range stay {
		delete(pushed, indexTopic(o))
	}
	delete(pushed, "")
	if w.noIndex {
		clear(pushed)
	}
	for _, topic := range slices.Sorted(maps.Keys(pushed)) {
		msgs = append(msgs, link.Msg{Topic: topic, QoS: 1, Retain: true})
	}
	bar := progress(len(msgs), "clearing", w.asJSON)
	defer bar.Finish()
	return w.publish(ctx, msgs, func(n int) { _ = bar.Add(n) })
}
