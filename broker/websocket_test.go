package broker

import (
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

func TestWebSocketConnects(t *testing.T) {
	_, addr := start(t, Config{Listeners: []ListenerConfig{{WebSocket: "127.0.0.1:0"}}})
	d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
	c, _, err := d.Dial("ws://"+strings.TrimPrefix(addr, "ws://"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteMessage(websocket.BinaryMessage, []byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01z")); err != nil {
		t.Fatal(err)
	}
	if _, p, err := c.ReadMessage(); err != nil || string(p) != "\x20\x02\x00\x00" {
		t.Errorf("%x, %v", p, err)
	}
}
