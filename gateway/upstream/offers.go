package upstream

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/offer"
)

// offers are what one cloud offers over one connection, and who fetches it.
type offers struct {
	*Incoming
	conn    *link.Conn
	prefix  string
	cfg     *Config
	metrics *metrics
	passed  said

	mu      sync.Mutex
	list    []*offered    // in the order in which they came
	changed chan struct{} // holds a value when list changed
}

// offered is one offer as it stands at the broker.
type offered struct {
	name    string
	payload []byte
	offer   *offer.Offer // nil until it is read
	stop    context.CancelCauseFunc
	said    string // the last report, without its time
	state   string // in it
	retry   time.Time
}

const (
	mostOffers = 64
	lookEvery  = time.Second      // at what became of a version
	retryAfter = 10 * time.Minute // what may pass is tried again
)

var (
	errWithdrawn = errors.New("the offer was withdrawn")
	errReplaced  = errors.New("another offer took its place")
)

// listen subscribes to offers and fetches what they name until ctx ends or the
// connection does; wait returns when that is over. A cloud that does not let us
// subscribe offers none.
func (in *Incoming) listen(ctx context.Context, conn *link.Conn, prefix string, cfg *Config, m *metrics) (wait func(), err error) {
	s := &offers{Incoming: in, conn: conn, prefix: prefix, cfg: cfg, metrics: m, changed: make(chan struct{}, 1)}
	err = conn.Subscribe(ctx, []string{prefix + offer.OffersAt + "#"}, 1, s.take)
	if errors.Is(err, link.ErrRefused) {
		in.log.Warn().Err(err).Msg("there will be no models from the cloud; models: false says so at once")
		return func() {}, nil
	}
	if err != nil {
		return func() {}, err
	}
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	return running.Wait, nil
}

// take notes an offer, a new one in its place, or that it is withdrawn.
func (s *offers) take(m link.Msg) {
	name, ok := strings.CutPrefix(m.Topic, s.prefix+offer.OffersAt)
	if !ok || len(m.Payload) > offer.MaxBytes {
		if n, ok := s.passed.count("bytes", 1); ok {
			s.log.Warn().Str("topic", m.Topic).Int("bytes", len(m.Payload)).Int("count", n).Msg("no offer of a model, passed over")
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var old *offered
	for i, o := range s.list {
		if o.name != name {
			continue
		}
		if string(o.payload) == string(m.Payload) {
			return
		}
		old = o
		s.list = append(s.list[:i:i], s.list[i+1:]...)
		break
	}
	if old != nil && old.stop != nil {
		if len(m.Payload) == 0 {
			old.stop(errWithdrawn)
		} else {
			old.stop(errReplaced)
		}
	}
	switch {
	case len(m.Payload) == 0:
		if old != nil {
			s.conn.Send(link.Msg{Topic: s.prefix + offer.ReportsAt + name, QoS: 1, Retain: true}) // it is of no offer now
		}
	case len(s.list) >= mostOffers:
		if n, ok := s.passed.count("", 1); ok {
			s.log.Warn().Str("model", name).Int("count", n).Msgf("more than %d offers of models at a time, the rest is passed over", mostOffers)
		}
	default:
		s.list = append(s.list, &offered{name: name, payload: m.Payload})
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// run looks at one offer after the other, and again at those that are not done.
func (s *offers) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for o := s.next(time.Now()); o != nil; o = s.next(time.Now()) {
			if !s.look(ctx, o) {
				return
			}
		}
		select {
		case <-s.changed:
		case <-tick.C:
			s.follow(ctx)
		case <-s.conn.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// next is the first offer that waits to be looked at, nil where none does.
func (s *offers) next(now time.Time) *offered {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.list {
		if o.offer == nil || !o.retry.IsZero() && now.After(o.retry) {
			return o
		}
	}
	return nil
}

// look does what an offer asks for; false says that the connection or the
// gateway ends.
func (s *offers) look(ctx context.Context, o *offered) bool {
	own, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.mu.Lock()
	o.stop = stop
	s.mu.Unlock()
	parsed, err := offer.Parse(o.payload)
	if err == nil && parsed.Name != o.name {
		err = fmt.Errorf("offer: it names the model %q and stands at %q", parsed.Name, o.name)
	}
	if err != nil {
		parsed = &offer.Offer{Name: o.name} // so that the report says of which
	}
	if err == nil {
		err = s.get(own, o, parsed)
	} else {
		s.report(own, o, parsed, offer.Report{State: offer.Refused, Why: err.Error()})
		err = nil
	}
	gone := context.Cause(own)
	s.mu.Lock()
	defer s.mu.Unlock()
	o.stop, o.offer, o.retry = nil, parsed, time.Time{}
	switch {
	case errors.Is(gone, errWithdrawn), errors.Is(gone, errReplaced):
		s.log.Info().Str("model", o.name).AnErr("why", gone).Msg("an offer of a model is not fetched to its end")
	case ctx.Err() != nil, errors.Is(err, errLinkLost):
		return false
	case err != nil:
		o.retry = time.Now().Add(retryAfter)
	}
	return true
}

// get brings a version into the store and reports it. The error is of what may
// pass.
func (s *offers) get(ctx context.Context, at *offered, o *offer.Offer) error {
	if d := s.outcome(o.ID); d != nil {
		s.report(ctx, at, o, s.standing(o, offer.Report{State: d.State, Why: d.Why}))
		return nil
	}
	if o.Over(time.Now()) {
		s.report(ctx, at, o, offer.Report{State: offer.Refused, Why: fmt.Sprintf("it counted until %s", o.Until.UTC().Format(time.RFC3339))})
		return nil
	}
	r, err := s.receive(ctx, at, o)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		s.settle(o, offer.Got, "")
		r.State = offer.Got
		s.metrics.models.WithLabelValues(offer.Got).Inc()
		s.log.Info().Str("model", o.Name).Str("version", o.Version).Msg("a model came from the cloud")
		r = s.standing(o, r)
	case errors.Is(err, errLinkLost):
		return err
	case errors.As(err, new(forGood)):
		s.settle(o, offer.Refused, err.Error())
		r.State, r.Why, err = offer.Refused, err.Error(), nil
		s.metrics.models.WithLabelValues(offer.Refused).Inc()
		s.log.Warn().Str("model", o.Name).Str("version", o.Version).Str("why", r.Why).Msg("a model from the cloud is refused")
	default:
		r.State, r.Why = offer.Waiting, err.Error()
		s.log.Warn().Str("model", o.Name).Str("version", o.Version).Str("why", r.Why).Msg("a model from the cloud has to wait")
	}
	s.report(ctx, at, o, r)
	return err
}

// receive fetches the file of an offer, where the version is not here, and
// hands it over. The report says how far it came.
func (s *offers) receive(ctx context.Context, at *offered, o *offer.Offer) (r offer.Report, err error) {
	if state, _ := s.models.Standing(o.Name, o.Version, o.Model); state != "" {
		return r, s.handOver(ctx, o, "")
	}
	if err := stays(s.models.Refuses(o)); err != nil {
		return r, err
	}
	f, err := s.choose(o, int64(s.cfg.MaxModelBytes))
	if err != nil {
		return r, err
	}
	select {
	case s.busy <- struct{}{}:
	default:
		s.report(ctx, at, o, offer.Report{State: offer.Waiting, Why: "another link fetches a model", Of: f.Bytes})
		select {
		case s.busy <- struct{}{}:
		case <-s.conn.Done():
			return r, errLinkLost
		case <-ctx.Done():
			return r, context.Cause(ctx)
		}
	}
	defer func() { <-s.busy }()
	defer s.sweep(s.isOffered, time.Now())
	t, err := openIncoming(filepath.Join(s.dir, f.SHA256), *f)
	if err != nil {
		return r, err
	}
	defer t.close()
	s.links[f.SHA256]++
	if len(s.links) > keptOutcomes { // of offers that were never fetched whole
		s.links = map[string]int{f.SHA256: 1}
	}
	fill := func() {
		r.Bytes, r.Of, r.Links, r.Chunk = t.bytes(), f.Bytes, s.links[f.SHA256], f.Chunks[t.level]
	}
	fill()
	r.State = offer.Fetching
	if t.left > 0 {
		s.report(ctx, at, o, r)
	}
	told, before := r.Bytes, r.Bytes
	s.ahead.timeout = s.cfg.Timeout
	err = t.fetch(ctx, s.conn, &s.ahead, func() {
		fill()
		s.metrics.modelBytes.Add(float64(r.Bytes - before))
		before = r.Bytes
		if r.Bytes-told >= max(f.Bytes/4, progressEvery) && t.left > 0 {
			told = r.Bytes
			s.report(ctx, at, o, r)
		}
	})
	s.log.Debug().Str("model", o.Name).Int64("bytes", r.Bytes).Int64("of", r.Of).Int("link", r.Links).
		Int("chunk", f.Chunks[t.level]).Err(err).Msg("fetched of a model")
	fill()
	if err == nil {
		err = t.check()
	}
	if err == nil {
		err = s.handOver(ctx, o, t.path())
	}
	if err == nil || errors.As(err, new(forGood)) {
		delete(s.links, f.SHA256)
		if err := t.remove(); err != nil {
			s.log.Warn().Err(err).Msg("the file of a model that came is not removed")
		}
	}
	return r, err
}

// handOver gives a version to the models.
func (s *offers) handOver(ctx context.Context, o *offer.Offer, path string) error {
	err := s.models.Receive(ctx, o, path)
	if ctx.Err() != nil {
		return err
	}
	return stays(err)
}

// stays makes an error of the models one for good, but for one that may pass.
func stays(err error) error {
	if err != nil && !errors.Is(err, ErrNotNow) {
		return forGood{err}
	}
	return err
}

// progressEvery is how many bytes lie between two reports at least: a report
// takes some 300.
const progressEvery = 256 << 10

// isOffered says whether a file is one of an offer that stands.
func (s *offers) isOffered(sum string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.list {
		if o.offer == nil { // not read yet
			return true
		}
		for _, f := range o.offer.Files {
			if f.SHA256 == sum {
				return true
			}
		}
	}
	return false
}

// standing is the report r with what became of the version since, where more was
// asked for than to have it.
func (s *offers) standing(o *offer.Offer, r offer.Report) offer.Report {
	if r.State != offer.Got || o.Then == offer.Keep {
		return r
	}
	if state, why := s.models.Standing(o.Name, o.Version, o.Model); state != "" {
		r.State, r.Why = state, why
	}
	return r
}

// follow reports what became of versions that are here.
func (s *offers) follow(ctx context.Context) {
	s.mu.Lock()
	var here []*offered
	for _, o := range s.list {
		if o.offer != nil && o.state != "" && o.state != offer.Refused && o.state != offer.Waiting && o.offer.Then != offer.Keep {
			here = append(here, o)
		}
	}
	s.mu.Unlock()
	for _, o := range here {
		if d := s.outcome(o.offer.ID); d != nil {
			s.report(ctx, o, o.offer, s.standing(o.offer, offer.Report{State: d.State, Why: d.Why}))
		}
	}
}

// report publishes what there is to say of an offer, where it is new. A report
// that does not arrive is made again on the next connection.
func (s *offers) report(ctx context.Context, at *offered, o *offer.Offer, r offer.Report) {
	r.ID, r.Gateway, r.Name, r.Version = o.ID, s.gateway, at.name, o.Version
	said := string(offer.Encode(r))
	s.mu.Lock()
	same := said == at.said
	at.said, at.state = said, r.State
	s.mu.Unlock()
	if same || ctx.Err() != nil {
		return
	}
	r.At = time.Now().UTC()
	s.conn.Send(link.Msg{Topic: s.prefix + offer.ReportsAt + at.name, Payload: offer.Encode(r), QoS: 1, Retain: true})
}
