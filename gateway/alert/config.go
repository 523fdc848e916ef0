package alert

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
	"time"

	"github.com/expr-lang/expr/vm"

	"edgegateway/gateway/pipeline"
)

// Fields are what a stream's results hold.
type Fields = pipeline.Fields

// Config is one rule.
type Config struct {
	Stream   string          `yaml:"stream" desc:"the stream whose results it looks at"`
	When     string          `yaml:"when" desc:"condition over a result, for example: any(objects, .label == \"face\")"`
	For      string          `yaml:"for" desc:"how many of the last results must fulfil it: 3 of 5"`
	Hold     time.Duration   `yaml:"hold" desc:"the shortest time the alert stays raised"`
	Repeat   time.Duration   `yaml:"repeat" desc:"say it again after this time while it stays raised; 0 for never"`
	Clear    string          `yaml:"clear" desc:"clears when the condition was false for this long (5s), or when an expression of its own is true; at once where it is empty"`
	Severity string          `yaml:"severity" enum:"info,warning,critical" desc:"how bad it is"`
	Message  string          `yaml:"message" desc:"text of the alert, a template over the event: {{.Source}}, {{.Result.score}}"`
	Over     string          `yaml:"clear_message" desc:"text when it clears, a template too; 'cleared: ' and the message where it is empty"`
	Publish  []PublishConfig `yaml:"publish" desc:"messages to local topics, for appliances"`
	Webhook  []WebhookConfig `yaml:"webhook" desc:"HTTP requests"`
	Command  []CommandConfig `yaml:"command" desc:"programs to run, never through a shell"`
}

// PublishConfig is a message to a local topic.
type PublishConfig struct {
	Topic   string   `yaml:"topic" desc:"local topic, a template over the event"`
	Payload string   `yaml:"payload" desc:"a template over the event; the event as JSON where it is empty"`
	Retain  bool     `yaml:"retain" desc:"the broker keeps it for later subscribers"`
	On      []string `yaml:"on" desc:"states that send it: raised, repeated, cleared; raised where it is empty"`
}

// WebhookConfig is an HTTP request.
type WebhookConfig struct {
	URL     string            `yaml:"url" desc:"http:// or https://"`
	Method  string            `yaml:"method" desc:"POST where it is empty"`
	Headers map[string]string `yaml:"headers" desc:"further headers; ${NAME} takes secrets from the environment"`
	Body    string            `yaml:"body" desc:"a template over the event; the event as JSON where it is empty"`
	Timeout time.Duration     `yaml:"timeout" desc:"10s where it is empty"`
	On      []string          `yaml:"on" desc:"states that send it"`
}

// CommandConfig is a program to run: the event comes as JSON on its standard
// input and in the environment as EDGEGATEWAY_ALERT, _SOURCE and _STATE.
type CommandConfig struct {
	Run     []string      `yaml:"run" desc:"program and arguments, each a template over the event"`
	Timeout time.Duration `yaml:"timeout" desc:"it and all it started are ended after this time; 10s where it is empty"`
	On      []string      `yaml:"on" desc:"states that run it"`
}

// DefaultConfig is a rule without a condition.
func DefaultConfig() Config { return Config{For: "1 of 1", Severity: "warning"} }

// UnmarshalYAML gives a rule its defaults.
func (c *Config) UnmarshalYAML(decode func(any) error) error {
	type plain Config
	p := plain(DefaultConfig())
	if err := decode(&p); err != nil {
		return err
	}
	*c = Config(p)
	return nil
}

// States of an alert as its events say them.
const (
	Raised   = "raised"
	Repeated = "repeated"
	Cleared  = "cleared"
)

// Validate checks all but the expressions, which need the stream's fields.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Stream == "" {
		bad("stream: the rule needs the name of a stream")
	}
	if c.When == "" {
		bad(`when: the rule needs a condition, for example: any(objects, .label == "face")`)
	}
	if _, _, err := parseFor(c.For); err != nil {
		bad("for: %w", err)
	}
	if c.Hold < 0 || c.Repeat < 0 {
		bad("hold: times are not negative")
	}
	if c.Repeat > 0 && c.Repeat < time.Second {
		bad("repeat: %v is less than a second", c.Repeat)
	}
	if !slices.Contains([]string{"info", "warning", "critical"}, c.Severity) {
		bad("severity: %q is none of info, warning, critical", c.Severity)
	}
	text := func(path, s string) {
		errs = append(errs, checkTemplate(path, s)...)
	}
	on := func(path string, states []string) {
		for i, s := range states {
			if s != Raised && s != Repeated && s != Cleared {
				bad("%s[%d]: %q is none of raised, repeated, cleared", path, i, s)
			}
		}
	}
	limit := func(path string, d time.Duration) {
		if d < 0 {
			bad("%s.timeout: %v is negative", path, d)
		}
	}
	text("message", c.Message)
	text("clear_message", c.Over)
	for i, p := range c.Publish {
		path := fmt.Sprintf("publish[%d]", i)
		if p.Topic == "" {
			bad("%s.topic: is missing", path)
		}
		text(path+".topic", p.Topic)
		if plain := plainParts(p.Topic); strings.ContainsAny(plain, "+#") || strings.HasPrefix(p.Topic, "$") {
			bad("%s.topic: %q is no topic to publish to: it has a wildcard (+ or #), or begins with $", path, p.Topic)
		}
		text(path+".payload", p.Payload)
		on(path+".on", p.On)
	}
	for i, w := range c.Webhook {
		path := fmt.Sprintf("webhook[%d]", i)
		if u, err := url.Parse(w.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("%s.url: is no http:// or https:// address", path)
		}
		plain := func(path, s string) {
			if strings.Contains(s, "{{") {
				bad("%s: is no template; what changes goes into the body", path)
			}
		}
		plain(path+".url", w.URL)
		for name, value := range w.Headers {
			plain(path+".headers."+name, value)
		}
		if !methodForm.MatchString(w.Method) {
			bad("%s.method: %q is none such as POST", path, w.Method)
		}
		text(path+".body", w.Body)
		limit(path, w.Timeout)
		on(path+".on", w.On)
	}
	for i, r := range c.Command {
		path := fmt.Sprintf("command[%d]", i)
		if len(r.Run) == 0 {
			bad("%s.run: is missing", path)
		}
		for k, a := range r.Run {
			text(fmt.Sprintf("%s.run[%d]", path, k), a)
		}
		limit(path, r.Timeout)
		on(path+".on", r.On)
	}
	return errors.Join(errs...)
}

var methodForm = regexp.MustCompile(`^[A-Za-z]*$`)

var ofForm = regexp.MustCompile(`^\s*(\d+)\s+of\s+(\d+)\s*$`)

// parseFor reads "3 of 5".
func parseFor(s string) (n, of int, err error) {
	m := ofForm.FindStringSubmatch(s)
	if m != nil {
		fmt.Sscan(m[1], &n)
		fmt.Sscan(m[2], &of)
	}
	if n < 1 || of < n || of > 64 {
		hint := ""
		if _, err := time.ParseDuration(s); err == nil {
			hint = "; it counts results, hold and clear are times"
		}
		return 0, 0, fmt.Errorf("%q is not of the form \"3 of 5\", with at most 64%s", s, hint)
	}
	return n, of, nil
}

// Check compiles the rule's expressions against what its stream's results
// hold: a name that is not there, or a wrong type, is an error.
func (c Config) Check(f Fields) error {
	_, _, _, err := c.compile(f)
	return err
}

// compile gives the condition, and either the expression that clears or, with
// nil, the time.
func (c Config) compile(f Fields) (when, clear *vm.Program, after time.Duration, err error) {
	if when, err = pipeline.Condition(c.When, f); err != nil {
		return nil, nil, 0, fmt.Errorf("when: %w", err)
	}
	if c.Clear == "" {
		return when, nil, 0, nil
	}
	if d, e := time.ParseDuration(c.Clear); e == nil && d >= 0 {
		return when, nil, d, nil
	}
	if _, e := strconv.ParseFloat(c.Clear, 64); e == nil {
		return nil, nil, 0, fmt.Errorf("clear: %q has no unit: a time is written %[1]ss", c.Clear)
	}
	if clear, err = pipeline.Condition(c.Clear, f); err != nil {
		return nil, nil, 0, fmt.Errorf("clear: neither a time such as 5s nor a condition: %w", err)
	}
	return when, clear, 0, nil
}

// Topics are filters that cover all local topics the rule publishes to.
// What a template gives may hold slashes: from its level on, all.
func (c Config) Topics() []string {
	var list []string
	for _, p := range c.Publish {
		t, err := parseTemplate(p.Topic)
		if err != nil || t.Tree == nil {
			continue // Validate says so
		}
		text := ""
		for _, n := range t.Tree.Root.Nodes {
			plain, ok := n.(*parse.TextNode)
			if !ok {
				text = text[:strings.LastIndexByte(text, '/')+1] + "#"
				break
			}
			text += string(plain.Text)
		}
		list = append(list, text)
	}
	return list
}
