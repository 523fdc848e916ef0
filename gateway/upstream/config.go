package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"edgegateway/internal/link"
)

// Config is one way up: a cloud broker, what goes there, and how much may
// wait for it.
type Config struct {
	URL          string    `yaml:"url" desc:"address of the cloud broker: mqtt:// or tcp://, with TLS mqtts:// or ssl://, over WebSocket ws:// or wss://, with host and port; unix:// with a path; host:port alone is tcp://"`
	Send         []string  `yaml:"send" enum:"alerts,results" desc:"what goes up"`
	ClientID     string    `yaml:"client_id" desc:"MQTT client id; empty for edgegateway-{gateway}-{link}"`
	User         string    `yaml:"user" desc:"user name at the cloud broker"`
	Password     string    `yaml:"password" desc:"password; better in password_file or an environment variable"`
	PasswordFile string    `yaml:"password_file" desc:"file with the password, read at each connect; nobody else may read it"`
	TLS          TLSConfig `yaml:"tls" desc:"certificates of an mqtts://, ssl:// or wss:// address"`
	Prefix       string    `yaml:"prefix" desc:"topic before all that goes up; {gateway} is replaced"`
	Commands     bool      `yaml:"commands" desc:"take commands from PREFIX/commands/#"`
	Models       bool      `yaml:"models" desc:"fetch versions of models that are offered at PREFIX/models/offers/#"`

	KeepAlive time.Duration `yaml:"keep_alive" desc:"how often an idle link is tried, 1s to 1200s; AWS IoT wants 30s or more"`
	Timeout   time.Duration `yaml:"timeout" desc:"how long the broker may take to connect and to acknowledge before the link counts as dead"`
	RetryMin  time.Duration `yaml:"retry_min" desc:"wait before the first reconnect; it doubles with each failure"`
	RetryMax  time.Duration `yaml:"retry_max" desc:"longest wait before a reconnect"`

	Window          int          `yaml:"window" desc:"messages in flight at most, 1 to 1024; AWS IoT takes 100"`
	Rate            int          `yaml:"rate" desc:"messages a second at most; 0 for no limit; AWS IoT takes 100 and discards more without a word"`
	MaxPayloadBytes int          `yaml:"max_payload_bytes" desc:"longest payload; longer ones are dropped and counted; AWS IoT takes 131072"`
	MaxTopicBytes   int          `yaml:"max_topic_bytes" desc:"longest topic, the prefix included; what has a longer one is dropped and counted; AWS IoT takes 256"`
	MaxTopicLevels  int          `yaml:"max_topic_levels" desc:"most levels of a topic, the prefix's included; what has more is dropped and counted; 0 for no limit; AWS IoT takes 8"`
	MaxModelBytes   int          `yaml:"max_model_bytes" desc:"longest file of a model that is fetched; a longer one is refused"`
	Limits          LimitsConfig `yaml:"limits" desc:"how much may wait on disk while the cloud is away"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	CA   string `yaml:"ca" desc:"certificate authority of the cloud broker; empty for the system's"`
	Cert string `yaml:"cert" desc:"client certificate"`
	Key  string `yaml:"key" desc:"key of the client certificate"`
}

// LimitsConfig bounds the outbox.
type LimitsConfig struct {
	AlertsBytes  int           `yaml:"alerts_bytes" desc:"disk for alerts; when full the oldest go"`
	ResultsBytes int           `yaml:"results_bytes" desc:"disk for results; when full the oldest go"`
	MaxAge       time.Duration `yaml:"max_age" desc:"what is older is given up; 0 for never"`
	Share        float64       `yaml:"share" desc:"part of results_bytes that one stream may take while others have results waiting too, over 0 up to 1"`
}

// DefaultConfig is a link with everything but the address.
func DefaultConfig() Config {
	return Config{
		Send:      []string{"alerts", "results"},
		Prefix:    "gateways/{gateway}",
		Commands:  true,
		Models:    true,
		KeepAlive: time.Minute, Timeout: 20 * time.Second,
		RetryMin: time.Second, RetryMax: time.Minute,
		Window: 128, MaxPayloadBytes: 1 << 20, MaxTopicBytes: maxTopic / 2, MaxModelBytes: 256 << 20,
		Limits: LimitsConfig{AlertsBytes: 32 << 20, ResultsBytes: 256 << 20, MaxAge: 72 * time.Hour, Share: 0.5},
	}
}

// UnmarshalYAML gives a link of the configuration its defaults.
func (c *Config) UnmarshalYAML(decode func(any) error) error {
	type plain Config
	p := plain(DefaultConfig())
	if err := decode(&p); err != nil {
		return err
	}
	*c = Config(p)
	return nil
}

// Validate checks one link by itself. No error shows the password.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	_, secure, err := link.Address(c.URL)
	if err != nil {
		bad("url: %w", err)
	}
	for i, s := range c.Send {
		if s != "alerts" && s != "results" {
			bad("send[%d]: %q is none of alerts, results", i, s)
		}
	}
	if c.Password != "" && c.PasswordFile != "" {
		bad("password_file: give the password or its file, not both")
	}
	if c.User == "" && (c.Password != "" || c.PasswordFile != "") {
		bad("user: a password needs a user")
	}
	if _, err := c.password(); err != nil {
		bad("password_file: %w", err)
	}
	for _, f := range []struct{ field, file string }{{"ca", c.TLS.CA}, {"cert", c.TLS.Cert}, {"key", c.TLS.Key}} {
		if f.file == "" {
			continue
		}
		if !secure && err == nil {
			bad("tls.%s: the address is none with TLS, such as mqtts://, ssl:// or wss://", f.field)
			continue
		}
		if _, err := os.Stat(f.file); err != nil {
			bad("tls.%s: %w", f.field, err)
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls.cert: a client certificate and its key go together")
	}
	if p := strings.ReplaceAll(c.Prefix, "{gateway}", "g"); checkTopic(p) != nil || strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") {
		bad("prefix: %q is no topic such as gateways/{gateway}", c.Prefix)
	}
	if p := placeholder.FindString(strings.ReplaceAll(c.Prefix, "{gateway}", "")); p != "" {
		bad("prefix: there is no %s; there is {gateway}", p)
	}
	between := func(field string, d, from, to time.Duration) {
		if d < from || d > to {
			bad("%s: %v is not in %v..%v", field, d, from, to)
		}
	}
	between("keep_alive", c.KeepAlive, time.Second, 1200*time.Second)
	between("timeout", c.Timeout, 100*time.Millisecond, 10*time.Minute)
	between("retry_min", c.RetryMin, 10*time.Millisecond, time.Hour)
	between("retry_max", c.RetryMax, c.RetryMin, 24*time.Hour)
	if c.Window < 1 || c.Window > 1024 {
		bad("window: %d is not in 1..1024", c.Window)
	}
	if c.Rate < 0 {
		bad("rate: %d is negative", c.Rate)
	}
	if c.MaxTopicBytes < 1 || c.MaxTopicBytes > maxTopic/2 {
		bad("max_topic_bytes: %d is not in 1..%d", c.MaxTopicBytes, maxTopic/2)
	}
	if c.MaxTopicLevels < 0 {
		bad("max_topic_levels: %d is negative", c.MaxTopicLevels)
	}
	if c.MaxModelBytes < 1 || c.MaxModelBytes > 1<<30 {
		bad("max_model_bytes: %d is not in 1..%d", c.MaxModelBytes, 1<<30)
	}
	// A quarter of the smaller log holds a record with its topic. Where nobody
	// chose the longest payload, it is the log that is too small for it.
	chosen := c.MaxPayloadBytes != DefaultConfig().MaxPayloadBytes
	least, hint := 1<<20, ""
	if !chosen {
		least = 4 * (c.MaxPayloadBytes + maxTopic)
		hint = fmt.Sprintf(", four times max_payload_bytes (%d where it is left out) and a topic; a smaller one takes less, down to %d", c.MaxPayloadBytes, 1<<20)
	}
	if c.Limits.AlertsBytes < least {
		bad("limits.alerts_bytes: %d is under %d%s", c.Limits.AlertsBytes, least, hint)
	}
	if c.Limits.ResultsBytes < least {
		bad("limits.results_bytes: %d is under %d%s", c.Limits.ResultsBytes, least, hint)
	}
	if most := min(c.Limits.AlertsBytes, c.Limits.ResultsBytes)/4 - maxTopic; c.MaxPayloadBytes < 1 || chosen && len(errs) == 0 && c.MaxPayloadBytes > most {
		bad("max_payload_bytes: %d is not in 1..%d, a quarter of the smaller of limits.alerts_bytes and limits.results_bytes", c.MaxPayloadBytes, most)
	}
	if c.Limits.MaxAge < 0 || c.Limits.MaxAge > 0 && c.Limits.MaxAge < time.Minute {
		bad("limits.max_age: %v is under a minute; 0 for never", c.Limits.MaxAge)
	}
	if c.Limits.Share <= 0 || c.Limits.Share > 1 {
		bad("limits.share: %v is not over 0 and up to 1", c.Limits.Share)
	}
	return errors.Join(errs...)
}

// address is the URL as it may be shown: a query can hold a token.
func (c *Config) address() string {
	full, _, err := link.Address(c.URL)
	if err != nil {
		return ""
	}
	u, err := url.Parse(full)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.Path
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

const maxTopic = 65535 // bytes, by MQTT

// checkTopic says why a topic cannot be published to. A broker cuts the
// connection for one, so it must never come into the outbox.
func checkTopic(topic string) error {
	switch {
	case topic == "":
		return errors.New("is empty")
	case strings.ContainsAny(topic, "+#"):
		return errors.New("holds a wildcard")
	case strings.ContainsRune(topic, 0) || !utf8.ValidString(topic):
		return errors.New("is not text")
	}
	return nil
}

func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	st, err := os.Stat(c.PasswordFile)
	if err != nil {
		return "", err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others (mode %04o): chmod 600 %s", c.PasswordFile, st.Mode().Perm(), c.PasswordFile)
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (c Config) sends(class Class) bool { return slices.Contains(c.Send, class.String()) }
