package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func TestAnswers(t *testing.T) {
	ran := 0
	c := newCommands(func(_ context.Context, name string, _ []byte) ([]byte, error) {
		ran++
		if name == "long" {
			return []byte(strings.Repeat("x", keptReply)), nil
		}
		return nil, errors.New("no")
	}, zerolog.Nop(), newMetrics(nil))
	ask := func(name, payload string) string { return string(c.answer(t.Context(), name, []byte(payload))) }

	if got := ask("long", `{"id":1}`); !strings.HasPrefix(got, `{"id":1,"ok":true,"result":"xxx`) {
		t.Errorf("%.60s", got)
	}
	if got := ask("long", `{"id":1}`); !strings.Contains(got, "executed already") || ran != 1 {
		t.Errorf("again: %.60s, ran %d", got, ran)
	}
	if ask("other", `{"id":1}`); ran != 2 {
		t.Error("another command with the same id did not run")
	}
	for i := range 1000 {
		ask("a", fmt.Sprintf(`{"id":"%d"}`, i))
	}
	if len(c.answered) != keptReplies || len(c.order) != keptReplies {
		t.Errorf("%d replies kept", len(c.answered))
	}
	// Without an id, with one that is too long, and with no JSON it runs each time.
	ran = 0
	for range 2 {
		for _, p := range []string{"", "{", `{"id":"` + strings.Repeat("i", 300) + `"}`} {
			if got := ask("a", p); !strings.Contains(got, `"ok":false,"error":"no"`) {
				t.Errorf("%q: %.80s", p, got)
			}
		}
	}
	if ran != 6 {
		t.Errorf("ran %d times, want 6", ran)
	}
}

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 29: time.Minute, 1000: time.Minute} {
		for range 100 {
			if d := backoff(time.Second, time.Minute, failures); d < want/2 || d > want {
				t.Fatalf("after %d failures %v, want %v to %v", failures, d, want/2, want)
			}
		}
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{window: 128, cfg: Config{Rate: 100}}
		sent := 0
		for start := time.Now(); time.Since(start) < 10*time.Second; {
			room := s.room()
			if room < 0 {
				time.Sleep(time.Until(s.next))
				continue
			}
			if sent += room; sent > 10_000 {
				t.Fatal("no rate holds it")
			}
			s.spend(room)
		}
		if sent < 990 || sent > 1010 {
			t.Errorf("%d sent in ten seconds at 100 a second", sent)
		}
	})
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.URL = "tcp://127.0.0.1:2883"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.URL = "" }, "url: is no address"},
		{func(c *Config) { c.URL = "tcp://cloud" }, "url: tcp://cloud has no port"},
		{func(c *Config) { c.URL = "http://cloud:80" }, "url: http:// is none of"},
		{func(c *Config) { c.URL = "tcp://me:s3cret@cloud:1883" }, "url: holds a user"},
		{func(c *Config) { c.URL = "tcp://me:s3cret@cloud:1883x" }, "url: is no address"},
		{func(c *Config) { c.Send = []string{"alerts", "all"} }, `send[1]: "all"`},
		{func(c *Config) { c.Password = "s3cret" }, "user: a password needs"},
		{func(c *Config) { c.User, c.PasswordFile = "u", "/no/such" }, "password_file: stat"},
		{func(c *Config) { c.TLS.CA = "/no/such" }, "tls.ca: the address"},
		{func(c *Config) { c.URL, c.TLS.CA = "ssl://cloud:8883", "/no/such" }, "tls.ca: stat"},
		{func(c *Config) { c.URL, c.TLS.Cert = "ssl://cloud:8883", "config.go" }, "tls.cert: a client certificate and its key"},
		{func(c *Config) { c.Prefix = "gateways/#" }, "prefix:"},
		{func(c *Config) { c.Prefix = "" }, "prefix:"},
		{func(c *Config) { c.KeepAlive = 0 }, "keep_alive: 0s"},
		{func(c *Config) { c.RetryMax = 0 }, "retry_max: 0s"},
		{func(c *Config) { c.Window = 0 }, "window: 0"},
		{func(c *Config) { c.Rate = -1 }, "rate: -1"},
		{func(c *Config) { c.MaxPayloadBytes = 9 << 20 }, "max_payload_bytes: "},
		{func(c *Config) { c.MaxTopicBytes = 0 }, "max_topic_bytes: 0"},
		{func(c *Config) { c.MaxTopicLevels = -1 }, "max_topic_levels: -1"},
		{func(c *Config) { c.MaxModelBytes = 0 }, "max_model_bytes: 0"},
		{func(c *Config) { c.Limits.AlertsBytes = 5 }, "limits.alerts_bytes: 5"},
		{func(c *Config) { c.Limits.ResultsBytes = 5 }, "limits.results_bytes: 5"},
		{func(c *Config) { c.Limits.ResultsBytes = 2 << 20 }, "limits.results_bytes: 2097152 is under 4"},
		{func(c *Config) { c.Limits.ResultsBytes, c.MaxPayloadBytes = 5, 1000 }, "limits.results_bytes: 5 is under 1048576"},
		{func(c *Config) { c.Limits.ResultsBytes, c.MaxPayloadBytes = 2<<20, 1<<19 }, "max_payload_bytes: 524288 is not in 1.."},
		{func(c *Config) { c.Limits.MaxAge = time.Second }, "limits.max_age: 1s"},
		{func(c *Config) { c.Limits.Share = 0 }, "limits.share: 0"},
	} {
		c := good
		tt.change(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("said %v, want %s", err, tt.want)
		}
	}
}
