package upstream

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"edgegateway/internal/link"
)

// commands executes what the cloud sends to PREFIX/commands/NAME, one after
// the other, and answers on PREFIX/replies/NAME with
//
//	{"id": ..., "ok": true, "result": ...} or {"id": ..., "ok": false, "error": "..."}
//
// where id is the request's, if its payload is JSON and has one. A request
// with an id that was answered is answered again and not executed twice.
type commands struct {
	handle  Handler
	log     zerolog.Logger
	counter prometheus.Counter
	busy    chan struct{} // holds one value while a command runs

	// Guarded by busy.
	answered map[string][]byte
	order    []string // keys of answered, oldest first
}

const (
	commandTime = time.Minute
	keptReplies = 256
	keptReply   = 16 << 10 // longer replies are not kept, only that there was one
)

func newCommands(handle Handler, log zerolog.Logger, counter prometheus.Counter) *commands {
	return &commands{handle: handle, log: log, counter: counter, busy: make(chan struct{}, 1), answered: map[string][]byte{}}
}

// listen subscribes on a new connection.
func (c *commands) listen(ctx context.Context, conn *link.Conn, prefix string) error {
	if c.handle == nil {
		return nil
	}
	return conn.Subscribe(ctx, []string{prefix + "/commands/#"}, 1, func(m link.Msg) {
		name, ok := strings.CutPrefix(m.Topic, prefix+"/commands/")
		if !ok {
			return
		}
		if m.Retain { // it would be executed again at each connect
			c.log.Warn().Str("command", name).Msg("a retained command is not executed")
			return
		}
		select {
		case c.busy <- struct{}{}:
		case <-conn.Done():
			return
		}
		defer func() { <-c.busy }()
		reply := c.answer(ctx, name, m.Payload)
		if err := conn.Publish(ctx, link.Msg{Topic: prefix + "/replies/" + name, Payload: reply, QoS: 1}); err != nil {
			c.log.Warn().Err(err).Str("command", name).Msg("the reply did not reach the cloud")
		}
	})
}

// idle waits until no command runs or ctx ends.
func (c *commands) idle(ctx context.Context) {
	select {
	case c.busy <- struct{}{}:
		<-c.busy
	case <-ctx.Done():
	}
}

type reply struct {
	ID     json.RawMessage `json:"id,omitempty"`
	OK     bool            `json:"ok"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

func (c *commands) answer(ctx context.Context, name string, payload []byte) []byte {
	var request struct {
		ID json.RawMessage `json:"id"`
	}
	_ = json.Unmarshal(payload, &request) // a payload without an id is fine
	key := name + "\x00" + string(request.ID)
	known := len(request.ID) > 0 && len(request.ID) <= 256
	if known {
		if kept, ok := c.answered[key]; ok {
			if kept == nil {
				kept = encode(reply{ID: request.ID, Error: "it was executed already; the reply was too long to be kept"})
			}
			return kept
		}
	}
	c.counter.Inc()
	c.log.Info().Str("command", name).Msg("command from the cloud")
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	r := reply{ID: request.ID}
	result, err := c.handle(ctx, name, payload)
	switch {
	case err != nil:
		r.Error = err.Error()
	case json.Valid(result):
		r.OK, r.Result = true, result
	default:
		r.OK = true
		r.Result = encode(string(result))
	}
	b := encode(r)
	if known {
		c.keep(key, b)
	}
	return b
}

func (c *commands) keep(key string, b []byte) {
	if len(b) > keptReply {
		b = nil
	}
	if len(c.order) == keptReplies {
		delete(c.answered, c.order[0])
		c.order = c.order[1:]
	}
	c.answered[key] = b
	c.order = append(c.order, key)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and checked JSON
	}
	return b
}
