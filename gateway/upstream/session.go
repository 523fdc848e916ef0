package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"edgegateway/internal/link"
	"edgegateway/internal/spool"
)

// session is the bridge at work on one connection after the other. Records
// are sent ahead of their acknowledgements, as many as the window allows, and
// leave the outbox in order as these come.
type session struct {
	*Bridge
	readers [classes]*spool.Reader
	window  int           // 1 after a link broke, grows with what is acknowledged
	suspect suspect       // what it broke at
	passed  [classes]bool // the cloud acknowledged some since the start
	offers  asking        // for offers of models
	lending asking        // for what other parts listen to
	sending asking        // the same of what they send: the cloud may not take it

	// Of the present connection.
	conn    *link.Conn
	cfg     Config
	prefix  string
	flight  []sent      // oldest first
	moved   time.Time   // when the oldest became the oldest
	next    time.Time   // when the rate allows the next message
	arrived bool        // something was acknowledged
	fetched func()      // returns when no model is fetched any more
	lent    *link.Token // of another part's message; nil: none is under way

	done [classes][]spool.Record
}

// sent is a record on its way.
type sent struct {
	class Class
	rec   spool.Record
	size  int // of the payload
	token *link.Token
}

// suspect is the record that a link broke at. It is sent alone until it is
// acknowledged, so that it is known which one a cloud does not take.
type suspect struct {
	class Class
	seq   uint64 // 0: there is none
	tries int    // links in a row that broke at it alone
}

// A record that breaks the link each time it is sent alone, though the
// message before it on the same link was acknowledged, is over some limit of
// the cloud and would block all behind it. It is given up after so many
// tries; after many more where the cloud took none of its kind before, since
// then it is rather the user's rights that are wrong.
const (
	triesPassed = 5
	triesNone   = 20
)

// replyTime is how long a link that is about to close may take for what is
// under way.
const replyTime = time.Second

// run is one connection; good says that something was acknowledged.
func (s *session) run(ctx context.Context, cfg Config) (good bool, err error) {
	if s.conn, err = s.connect(ctx, cfg); err != nil {
		return false, err
	}
	defer s.conn.Close()
	s.cfg, s.prefix = cfg, topicPrefix(cfg, s.gateway)
	s.flight, s.arrived, s.next = s.flight[:0], false, time.Time{}
	s.window = max(1, min(s.window, cfg.Window))
	for class := range classes {
		s.readers[class].Rewind()
	}
	fetching, stop := context.WithCancel(ctx)
	defer stop()
	s.fetched, s.lent = func() {}, nil
	defer s.lender.end()
	err = s.work(ctx, fetching)
	if err == errReload {
		stop() // the fetching: its link does not break, it ends
	} else if ctx.Err() == nil {
		s.conn.Close()
	}
	s.fetched()
	if ctx.Err() != nil || err == errReload {
		s.finish()
	} else if s.lent != nil {
		if s.sending.answer(err) {
			s.log.Warn().Msgf("the cloud ends the link when another part of the gateway sends to it: it does not for %v", endedPause)
		}
	} else if len(s.flight) > 0 {
		s.blame(err)
	}
	return s.arrived, err
}

// blame notes at which record the link broke, and gives up one at which it
// does again and again.
func (s *session) blame(why error) {
	f := s.flight[0]
	if s.suspect.class != f.class || s.suspect.seq != f.rec.Seq {
		s.suspect = suspect{class: f.class, seq: f.rec.Seq}
	}
	s.window = 1
	if len(s.flight) > 1 {
		return
	}
	s.suspect.tries++
	most := triesNone
	if s.passed[f.class] {
		most = triesPassed
	}
	if s.suspect.tries < most {
		return
	}
	r, _ := parseRecord(f.rec.Data) // send looked at it
	s.log.Error().Err(why).Str("topic", s.prefix+"/"+string(r.topic)).Int("bytes", f.size).Int("tries", s.suspect.tries).
		Msg("given up: the cloud ends the link whenever this record is sent; is the topic allowed, and the payload not too long?")
	s.outbox.refuse(f.class, f.rec)
	s.suspect = suspect{}
}

func (s *session) work(ctx, fetching context.Context) (err error) {
	if s.cfg.Commands { // before it says that it is there: who hears that may ask at once
		if err := s.commands.listen(ctx, s.conn, s.prefix, s.cfg.MaxPayloadBytes); err != nil {
			return err
		}
	}
	if err := s.takeModels(fetching); err != nil {
		return err
	}
	if err := s.conn.Publish(ctx, s.statusMsg(s.prefix, true, "")); err != nil {
		return err
	}
	if err := s.lend(ctx); err != nil {
		return err
	}
	s.up(s.cfg)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		alerts, results := s.outbox.logs[Alerts].Wait(), s.outbox.logs[Results].Wait()
		wait := s.fill()
		var oldest <-chan struct{}
		if len(s.flight) > 0 {
			oldest = s.flight[0].token.Done()
			wait = min(wait, s.cfg.Timeout-time.Since(s.moved))
		}
		if len(s.flight) >= s.window {
			alerts, results = nil, nil // they wait for room
		}
		requests, lent := s.lendable()
		timer.Reset(max(wait, 0))
		select {
		case r := <-requests:
			s.lent = s.conn.Send(r.msg)
			r.token <- s.lent
			s.spend(1)
		case <-lent:
			s.sending.answer(s.lent.Err())
			s.lent = nil
		case <-oldest:
		case <-alerts:
		case <-results:
		case <-timer.C:
		case <-s.changed:
			return errReload
		case <-ctx.Done():
			return ctx.Err()
		case <-s.conn.Done():
			_ = s.harvest() // what was acknowledged before
			return s.conn.Err()
		}
		if err := s.harvest(); err != nil {
			return err
		}
		if len(s.flight) > 0 && time.Since(s.moved) >= s.cfg.Timeout {
			return fmt.Errorf("no acknowledgement within %v, the oldest of %d in flight is a record of %d bytes", s.cfg.Timeout, len(s.flight), s.flight[0].size)
		}
	}
}

// After so many links in a row that ended at the same it is left out for a while: it is how some clouds answer to what their policy does not allow, and
// results must go up all the same.
const (
	endedTries = 2
	endedPause = time.Hour
)

// asking is something at which links may end.
type asking struct {
	ended int       // links in a row that did
	not   time.Time // it is not tried before that
}

// answer notes what came of it; pause says that it is left out from now on.
func (a *asking) answer(err error) (pause bool) {
	switch {
	case err == nil:
		a.ended = 0
	case errors.Is(err, link.ErrEnded):
		if a.ended++; a.ended%endedTries == 0 {
			a.not = time.Now().Add(endedPause)
			return true
		}
	}
	return false
}

// takeModels begins to fetch models that the cloud offers.
func (s *session) takeModels(ctx context.Context) (err error) {
	if !s.cfg.Models || s.incoming == nil || time.Now().Before(s.offers.not) {
		return nil
	}
	s.fetched, err = s.incoming.listen(ctx, s.conn, s.prefix, &s.cfg, s.outbox.metrics)
	if s.offers.answer(err) {
		s.log.Warn().Msgf("the cloud ends the link when it is asked for offers of models: it is not asked for %v; models: false says so at once", endedPause)
	}
	return err
}

// lend gives other parts the connection.
func (s *session) lend(ctx context.Context) error {
	if now := time.Now(); now.Before(s.lending.not) || now.Before(s.sending.not) {
		return nil
	}
	err := s.lender.begin(ctx, s.conn, func(err error) {
		s.log.Warn().Err(err).Msg("another part of the gateway does not hear what it listens to at the cloud")
	})
	if s.lending.answer(err) {
		s.log.Warn().Msgf("the cloud ends the link when another part of the gateway listens to its topics: it does not for %v", endedPause)
	}
	return err
}

// lendable is where another part's message may come from now, and what is
// closed when the one that is under way is done.
func (s *session) lendable() (requests chan *lending, done <-chan struct{}) {
	if s.lent != nil {
		return nil, s.lent.Done()
	}
	if s.room() <= 0 {
		return nil, nil // fill says when there is room again
	}
	return s.lender.requests, nil
}

// fill sends what waits, alerts before results, until the window is full or
// the rate is reached. It returns after what time it should be called again
// at the latest.
func (s *session) fill() time.Duration {
	const idle = time.Hour
	for class := range classes {
		for room := s.room(); room != 0; room = s.room() {
			if room < 0 {
				return time.Until(s.next)
			}
			recs, err := s.readers[class].Try(room)
			if err != nil {
				if s.outbox.said.now("read") {
					s.log.Error().Err(err).Msg("outbox: not readable, trying again")
				}
				return time.Second
			}
			if len(recs) == 0 {
				if s.suspect.class == class { // it left at a bound
					s.suspect = suspect{}
				}
				break
			}
			s.send(class, recs)
		}
	}
	return idle
}

// room is how many records may be sent now; -1 when the rate forbids any.
func (s *session) room() int {
	room := s.window - len(s.flight)
	if s.cfg.Rate == 0 || room <= 0 {
		return max(room, 0)
	}
	if time.Now().Before(s.next) {
		return -1
	}
	return min(room, max(1, s.cfg.Rate/10))
}

// spend notes that n records are sent now.
func (s *session) spend(n int) {
	if s.cfg.Rate > 0 {
		s.next = time.Now().Add(time.Duration(n) * time.Second / time.Duration(s.cfg.Rate))
	}
}

func (s *session) send(class Class, recs []spool.Record) {
	if len(s.flight) == 0 {
		s.moved = time.Now()
	}
	s.spend(len(recs))
	size := 0
	for _, rec := range recs {
		size += len(rec.Data)
	}
	buf := make([]byte, 0, size) // the reader's is reused before they are acknowledged
	for _, rec := range recs {
		start := len(buf)
		buf = append(buf, rec.Data...)
		rec.Data = buf[start:len(buf):len(buf)]
		r, err := parseRecord(rec.Data)
		if err != nil { // its checksum was right: another program wrote it
			s.outbox.drop(class, "", dropBad, 1)
			continue
		}
		token := s.conn.Send(link.Msg{Topic: s.prefix + "/" + string(r.topic), Payload: r.payload, QoS: 1, Retain: r.retain})
		s.flight = append(s.flight, sent{class: class, rec: rec, size: len(r.payload), token: token})
	}
}

// harvest removes what was acknowledged from the outbox.
func (s *session) harvest() (err error) {
	n, bytes := 0, 0
	for class := range s.done {
		s.done[class] = s.done[class][:0]
	}
arrived:
	for ; n < len(s.flight); n++ {
		f := &s.flight[n]
		select {
		case <-f.token.Done():
		default:
			break arrived
		}
		if err = f.token.Err(); err != nil {
			break
		}
		s.done[f.class] = append(s.done[f.class], f.rec)
		s.passed[f.class] = true
		if s.suspect.class == f.class && f.rec.Seq >= s.suspect.seq {
			s.suspect = suspect{}
		}
		bytes += f.size
	}
	if n == 0 {
		return err
	}
	for class, recs := range s.done {
		s.outbox.ack(Class(class), recs)
	}
	rest := copy(s.flight, s.flight[n:])
	clear(s.flight[rest:])
	s.flight = s.flight[:rest]
	s.moved, s.arrived = time.Now(), true
	if s.suspect.seq == 0 {
		s.window = min(s.window*2, s.cfg.Window)
	}
	s.outbox.metrics.bytes.Add(float64(bytes))
	s.mu.Lock()
	s.status.Acked += uint64(n)
	s.mu.Unlock()
	return err
}

// finish waits a moment for what is under way, which would be sent twice
// else, and says good-bye where the will would, but with the true reason.
func (s *session) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), replyTime)
	defer cancel()
	s.commands.idle(ctx)
	for len(s.flight) > 0 {
		if s.flight[0].token.Wait(ctx) != nil || s.harvest() != nil {
			break
		}
	}
	if err := s.conn.Publish(ctx, s.statusMsg(s.prefix, false, "stopped")); err != nil {
		s.log.Debug().Err(err).Msg("the cloud was not told that the gateway stops")
	}
}

func (s *session) connect(ctx context.Context, cfg Config) (*link.Conn, error) {
	password, err := cfg.password()
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	id := cfg.ClientID
	if id == "" {
		id = "edgegateway-" + s.gateway + "-" + s.name
	}
	will := s.statusMsg(topicPrefix(cfg, s.gateway), false, "the connection was lost")
	return link.Connect(ctx, link.Config{
		URL: cfg.URL, ClientID: id, User: cfg.User, Password: password,
		CA: cfg.TLS.CA, Cert: cfg.TLS.Cert, Key: cfg.TLS.Key,
		KeepAlive: cfg.KeepAlive, Timeout: cfg.Timeout, Will: &will,
	})
}

// statusMsg is the retained message by which the cloud sees who is there.
func (s *session) statusMsg(prefix string, online bool, reason string) link.Msg {
	payload, err := json.Marshal(struct {
		Gateway string    `json:"gateway"`
		Online  bool      `json:"online"`
		Reason  string    `json:"reason,omitempty"`
		Since   time.Time `json:"since"`
	}{s.gateway, online, reason, time.Now().UTC()})
	if err != nil {
		panic(err) // plain fields
	}
	return link.Msg{Topic: prefix + "/status", Payload: payload, QoS: 1, Retain: true}
}
