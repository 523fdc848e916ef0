package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/offer"
)

// pusher is the command `model push` at work. It connects anew where the link
// breaks.
type pusher struct {
	*pushFlags
	out     io.Writer
	conn    *link.Conn
	noIndex bool // the broker does not let us keep one
}

const (
	pushWindow = 16               // messages in flight
	pushTries  = 5                // links in a row that carried nothing
	pushRetry  = 10 * time.Second // between links while it waits
	pushQuiet  = time.Second      // after the last of what a broker retains
)

func (w *pusher) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// connected is the present connection, or a new one.
func (w *pusher) connected(ctx context.Context) (*link.Conn, error) {
	if w.conn != nil && w.conn.Err() == nil {
		return w.conn, nil
	}
	w.close()
	conn, err := w.connect(ctx)
	if err == nil {
		w.conn = conn
	}
	return conn, err
}

// publish publishes messages in order, over several links where one breaks.
func (w *pusher) publish(ctx context.Context, msgs []link.Msg, moved func(n int)) error {
	for tries := 0; len(msgs) > 0; {
		conn, err := w.connected(ctx)
		if err != nil {
			return err
		}
		batch := msgs[:min(len(msgs), pushWindow)]
		if w.rate > 0 {
			batch = batch[:min(len(batch), max(1, w.rate/10))]
		}
		start := time.Now()
		n, err := conn.Window(ctx, batch)
		moved(n)
		msgs = msgs[n:]
		if err == nil && w.rate > 0 {
			sleep(ctx, time.Until(start.Add(time.Duration(n)*time.Second/time.Duration(w.rate))))
		}
		if err == nil {
			tries = 0
			continue
		}
		if tries++; n > 0 {
			tries = 1
		}
		if ctx.Err() != nil || tries == pushTries {
			return w.refused(ctx, msgs[0].Topic, len(msgs[0].Payload), err)
		}
		w.close()
	}
	return nil
}

// leave publishes the chunks and then, when all of them are there, the offers;
// last it clears what those left that were there before.
func (w *pusher) leave(ctx context.Context, o *offer.Offer, files []parcel) error {
	before, err := w.there(ctx, o.Name)
	if err != nil && !errors.Is(err, link.ErrRefused) { // who may not look clears nothing
		return err
	}
	if err := w.index(ctx, o); err != nil {
		return err
	}
	var msgs []link.Msg
	bytes := int64(0)
	for i := range files {
		f := &files[i]
		for _, size := range f.Chunks {
			for n := range f.Count(size) {
				at := n * size
				msgs = append(msgs, link.Msg{Topic: f.ChunkTopic(size, n), Payload: f.data[at : at+f.Length(size, n)], QoS: 1, Retain: true})
			}
		}
		bytes += f.Bytes
	}
	leave := func() error {
		bar := progress(len(msgs), "leaving chunks at the broker", w.asJSON)
		defer bar.Finish()
		return w.publish(ctx, msgs, func(n int) { _ = bar.Add(n) })
	}
	if err = leave(); err == nil && !w.indexed(ctx, o) { // somebody took it for one that was ended, and cleared
		if err = w.index(ctx, o); err == nil {
			err = leave()
		}
	}
	if ctx.Err() != nil {
		return errors.New("stopped before all was at the broker: nothing is offered; the same command again goes on")
	}
	if err != nil {
		return fmt.Errorf("nothing is offered yet, the same command again goes on: %w", err)
	}
	var offers []link.Msg
	for _, g := range w.gateways {
		offers = append(offers, link.Msg{Topic: w.topic(g, offer.OffersAt, o.Name), Payload: offer.Encode(o), QoS: 1, Retain: true})
	}
	if err := w.publish(ctx, offers, func(int) {}); err != nil {
		return err
	}
	if err := w.takePlace(ctx, o, before); err != nil {
		return fmt.Errorf("%s is offered, but what older offers left at the broker is not cleared: %w", ref(o), err)
	}
	if w.asJSON {
		return nil
	}
	for i := range files {
		kind := "whole"
		if files[i].Base != "" {
			kind = "what changed since " + cmp.Or(w.base, "the model with SHA-256 "+files[i].Base)
		}
		fmt.Fprintf(w.out, "%s, %s: %d bytes, in %s\n", ref(o), kind, files[i].Bytes, chunkText(&files[i].File))
	}
	return nil
}

func chunkText(f *offer.File) string {
	var words []string
	for _, size := range f.Chunks {
		words = append(words, fmt.Sprintf("%s of %d", count(f.Count(size), "chunk"), size))
	}
	return strings.Join(words, ", or ")
}

// wait follows the reports until each gateway has said its last word or the
// date has passed, and clears up.
func (w *pusher) wait(ctx context.Context, o *offer.Offer) error {
	last := map[string]*offer.Report{}
	var over <-chan time.Time
	if !o.Until.IsZero() {
		timer := time.NewTimer(time.Until(o.Until))
		defer timer.Stop()
		over = timer.C
	}
	for first := true; ; first = false {
		done, err := w.follow(ctx, o, last, over)
		switch {
		case ctx.Err() != nil:
			return w.left(o, "stopped waiting: ")
		case done:
			return w.finish(ctx, o, last)
		case first && errors.Is(err, link.ErrRefused):
			return fmt.Errorf("%w: %s", err, w.mayNot("subscribe", w.topic(w.gateways[0], offer.ReportsAt, o.Name)))
		}
		sleep(ctx, pushRetry) // the link is gone, and what is left at the broker stays
	}
}

// follow reads reports over one connection. done says that there is nothing
// more to wait for.
func (w *pusher) follow(ctx context.Context, o *offer.Offer, last map[string]*offer.Report, over <-chan time.Time) (done bool, err error) {
	conn, err := w.connected(ctx)
	if err != nil {
		return false, err
	}
	came := make(chan link.Msg)
	topics := map[string]string{}
	for _, g := range w.gateways {
		topics[w.topic(g, offer.ReportsAt, o.Name)] = g
	}
	// A few at a time: AWS IoT takes 8 in one packet.
	for part := range slices.Chunk(slices.Sorted(maps.Keys(topics)), 8) {
		if err := conn.Subscribe(ctx, part, 1, func(m link.Msg) {
			select {
			case came <- m:
			case <-conn.Done():
			}
		}); err != nil {
			return false, err
		}
	}
	for {
		if w.allDone(o, last) {
			return true, nil
		}
		select {
		case m := <-came:
			g := topics[m.Topic]
			r, err := offer.ParseReport(m.Payload)
			if err != nil || r.ID != o.ID {
				continue // of an earlier push, or cleared
			}
			if err := w.tell(g, r, last[g]); err != nil {
				return false, err
			}
			last[g] = r
		case <-over:
			return true, nil
		case <-conn.Done():
			return false, conn.Err()
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (w *pusher) allDone(o *offer.Offer, last map[string]*offer.Report) bool {
	for _, g := range w.gateways {
		if r := last[g]; r == nil || !r.Done(o.Then) {
			return false
		}
	}
	return true
}

// tell prints a report where it says something new.
func (w *pusher) tell(gateway string, r, before *offer.Report) error {
	if before != nil && reportText(before) == reportText(r) {
		return nil
	}
	if w.asJSON {
		return json.NewEncoder(w.out).Encode(r)
	}
	_, err := fmt.Fprintf(w.out, "%s: %s\n", gateway, reportText(r))
	return err
}

func reportText(r *offer.Report) string {
	text := printable(r.State)
	if r.State == offer.Fetching || r.State == offer.Waiting && r.Of > 0 {
		text += fmt.Sprintf(", %d of %d bytes are there; chunks of %d; %s so far", r.Bytes, r.Of, r.Chunk, count(r.Links, "connection"))
	}
	if r.State == offer.Got && r.Of > 0 {
		text += fmt.Sprintf(", %d bytes over %s, chunks of %d at last", r.Of, count(r.Links, "connection"), r.Chunk)
	}
	if r.Why != "" {
		text += ": " + printable(r.Why)
	}
	return text
}

// finish clears up and says how it ended.
func (w *pusher) finish(ctx context.Context, o *offer.Offer, last map[string]*offer.Report) error {
	if _, _, err := w.takeAway(ctx, o.Name, w.gateways, false); err != nil {
		return fmt.Errorf("what is left at the broker is not cleared: %w", err)
	}
	var bad []string
	for _, g := range w.gateways {
		switch r := last[g]; {
		case r == nil:
			bad = append(bad, g+" did not report until "+o.Until.Format(time.RFC3339))
		case !r.Done(o.Then):
			bad = append(bad, fmt.Sprintf("%s reported %s until %s", g, r.State, o.Until.Format(time.RFC3339)))
		case r.State == offer.Refused:
			bad = append(bad, g+" refused it")
		case r.State != offer.Got && r.State != offer.Live:
			bad = append(bad, fmt.Sprintf("%s says %s", g, printable(r.State)))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s: %s", ref(o), strings.Join(bad, "; "))
	}
	return nil
}
