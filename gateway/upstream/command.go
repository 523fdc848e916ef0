package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
	metrics *metrics
	busy    chan struct{} // holds one value while a command runs

	// Guarded by busy.
	answered map[string][]byte
	order    []string // keys of answered, oldest first
}

const (
	commandTime  = time.Minute
	commandQueue = 16 // commands that may wait
	keptReplies  = 256
	keptReply    = 16 << 10 // longer replies are not kept, only that there was one
	maxID        = 256      // bytes; a longer id counts as none
)

func newCommands(handle Handler, log zerolog.Logger, metrics *metrics) *commands {
	return &commands{handle: handle, log: log, metrics: metrics, busy: make(chan struct{}, 1), answered: map[string][]byte{}}
}

// listen subscribes on a new connection. Replies over most bytes are replaced
// by an error. A cloud that does not let us subscribe gives no commands.
func (c *commands) listen(ctx context.Context, conn *link.Conn, prefix string, most int) error {
	if c.handle == nil {
		return nil
	}
	queue := make(chan link.Msg, commandQueue)
	name := func(m link.Msg) string { return strings.TrimPrefix(m.Topic, prefix+"/commands/") }
	go func() {
		for {
			select {
			case m := <-queue:
				c.execute(ctx, conn, name(m), m.Payload, prefix+"/replies/"+name(m), most)
			case <-conn.Done():
				return
			}
		}
	}()
	err := conn.Subscribe(ctx, []string{prefix + "/commands/#"}, 1, func(m link.Msg) {
		if m.Topic == prefix+"/commands" { // the level above, which # matches too
			return
		}
		if m.Retain { // it would be executed again at each connect
			c.log.Warn().Str("command", name(m)).Msg("a retained command is not executed")
			return
		}
		select {
		case queue <- m:
		default: // waiting here would hold up the results
			c.metrics.busy.Inc()
			conn.Send(link.Msg{Topic: prefix + "/replies/" + name(m), QoS: 1, Payload: encode(reply{
				ID: requestID(m.Payload), Error: fmt.Sprintf("not executed, %d commands wait already; ask again", commandQueue)})})
		}
	})
	if errors.Is(err, link.ErrRefused) {
		c.log.Warn().Err(err).Msg("there will be no commands from the cloud; commands: false says so at once")
		return nil
	}
	return err
}

func (c *commands) execute(ctx context.Context, conn *link.Conn, name string, payload []byte, topic string, most int) {
	select {
	case c.busy <- struct{}{}: // one of an earlier connection may run yet
	case <-conn.Done():
		return
	}
	defer func() { <-c.busy }()
	b := c.answer(ctx, name, payload)
	if len(b) > most {
		b = encode(reply{ID: requestID(payload), Error: fmt.Sprintf("the reply of %d bytes is over max_payload_bytes (%d)", len(b), most)})
	}
	if err := conn.Publish(ctx, link.Msg{Topic: topic, Payload: b, QoS: 1}); err != nil {
		c.log.Warn().Err(err).Str("command", name).Msg("the reply did not reach the cloud")
	}
}

// requestID is the id in a command's payload, nil where there is none.
func requestID(payload []byte) json.RawMessage {
	var request struct {
		ID json.RawMessage `json:"id"`
	}
	if json.Unmarshal(payload, &request) != nil || len(request.ID) > maxID || string(request.ID) == "null" {
		return nil // a payload without an id is fine
	}
	return request.ID
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
	id := requestID(payload)
	key := name + "\x00" + string(id)
	known := len(id) > 0
	if known {
		if kept, ok := c.answered[key]; ok {
			if kept == nil {
				kept = encode(reply{ID: id, Error: "it was executed already; the reply was too long to be kept"})
			}
			return kept
		}
	}
	c.metrics.commands.Inc()
	c.log.Info().Str("command", name).Msg("command from the cloud")
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	r := reply{ID: id}
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
