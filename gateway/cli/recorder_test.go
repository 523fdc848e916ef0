package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"edgegateway/broker"
)

// recorderCommand makes the test binary a cloud: our broker, and a file with
// a line for each message, written before the message is acknowledged. So it
// can be killed at any time, and what it acknowledged is known.
const recorderCommand = "recorder"

// recorder serves on args[0] and appends to the file args[1].
func recorder(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := record(ctx, args[0], args[1]); err != nil {
		fmt.Println("recorder:", err)
		return 1
	}
	return 0
}

func record(ctx context.Context, addr, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	cfg := broker.DefaultConfig()
	cfg.Listeners = []broker.ListenerConfig{{TCP: addr}}
	s, err := broker.New(cfg, zerolog.New(os.Stdout).Level(zerolog.WarnLevel), nil)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	n := 0
	if _, err := s.Tap([]string{"gateways/#"}, func(m broker.Message) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Fprintf(file, "%s %s\n", m.Topic, m.Payload); err != nil {
			fmt.Println("recorder:", err)
			os.Exit(1)
		}
		if n++; n%1000 == 0 {
			fmt.Println("recorded", n)
		}
	}); err != nil {
		return err
	}
	go func() {
		<-s.Ready()
		fmt.Println("recording")
	}()
	return s.Run(ctx)
}

// account is what arrived at a cloud, held against what was sent.
type account struct {
	ids        map[string]string // payload by id
	last       map[string]int    // seq by topic
	duplicates int
}

// add takes a result in the order of its arrival. It may come again, but only
// the same under the same id; what is new follows the last one of its source.
func (a *account) add(t *testing.T, topic, payload string) {
	t.Helper()
	var r struct {
		ID  string `json:"id"`
		Seq int    `json:"seq"`
	}
	if err := json.Unmarshal([]byte(payload), &r); err != nil || r.ID == "" {
		t.Errorf("%s: no result: %s", topic, payload)
		return
	}
	if before, ok := a.ids[r.ID]; ok {
		a.duplicates++
		if before != payload {
			t.Errorf("%s came again with another payload", r.ID)
		}
		return
	}
	a.ids[r.ID] = payload
	if r.Seq != a.last[topic]+1 {
		t.Errorf("%s: %d after %d", topic, r.Seq, a.last[topic])
	}
	a.last[topic] = r.Seq
}

// takeStock reads a recorder's file.
func takeStock(t *testing.T, path string) *account {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := &account{ids: map[string]string{}, last: map[string]int{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if topic, payload, ok := strings.Cut(lines.Text(), " "); ok && strings.Contains(topic, "/results/") {
			a.add(t, topic, payload)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return a
}
