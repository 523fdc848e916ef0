package app

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"edgegateway/broker"
	"edgegateway/configs"
	"edgegateway/fl"
	"edgegateway/gateway/alert"
	"edgegateway/gateway/dashboard"
	"edgegateway/gateway/learn"
	"edgegateway/gateway/pipeline"
	"edgegateway/gateway/rollout"
	"edgegateway/gateway/upstream"
	"edgegateway/infer"
	"edgegateway/infer/store"
)

// Config is the whole configuration: the only place that knows every section.
type Config struct {
	Gateway   string                       `yaml:"gateway" desc:"the name of this gateway, part of every topic at the cloud"`
	Data      string                       `yaml:"data" desc:"folder for all that the gateway writes; default $STATE_DIRECTORY, else ./data"`
	Log       LogConfig                    `yaml:"log" desc:"what is logged, and how"`
	Broker    broker.Config                `yaml:"broker" desc:"the MQTT broker inside"`
	Infer     infer.Config                 `yaml:"infer" desc:"how models are run"`
	Models    map[string]infer.ModelConfig `yaml:"models" desc:"models by name"`
	Store     store.Config                 `yaml:"store" desc:"versions of models that are kept"`
	Rollout   rollout.Config               `yaml:"rollout" desc:"how a new version is brought in and watched"`
	Streams   map[string]pipeline.Config   `yaml:"streams" desc:"streams by name"`
	Alerts    map[string]alert.Config      `yaml:"alerts" desc:"alert rules by name"`
	Upstream  map[string]upstream.Config   `yaml:"upstream" desc:"links to cloud brokers by name"`
	FL        learn.Config                 `yaml:"fl" desc:"federated learning: what this gateway takes part in, and what that may take"`
	Dashboard dashboard.Config             `yaml:"dashboard" desc:"metrics, health and status by HTTP"`

	File string        `yaml:"-"` // where it was read from, absolute
	read *configs.File // that file with the places of its keys; nil without
}

// LogConfig says what is logged.
type LogConfig struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" desc:"the least severe lines that are written"`
	Format string `yaml:"format" enum:"console,json" desc:"console for people, json for machines"`
}

// DefaultConfig is a gateway that is a broker on loopback and no more.
func DefaultConfig() Config {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "gateway"
	}
	data := os.Getenv("STATE_DIRECTORY") // systemd: several are joined by colons
	if data, _, _ = strings.Cut(data, ":"); data == "" {
		data = "data"
	}
	return Config{
		Gateway:   topicLevel(host),
		Data:      data,
		Log:       LogConfig{Level: "info", Format: "console"},
		Broker:    broker.DefaultConfig(),
		Infer:     infer.DefaultConfig(),
		Store:     store.DefaultConfig(),
		Rollout:   rollout.DefaultConfig(),
		FL:        learn.DefaultConfig(),
		Dashboard: dashboard.DefaultConfig(),
	}
}

// topicLevel makes a name fit to be one level of a topic.
func topicLevel(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("/+#$", r) || r < ' ' {
			return '-'
		}
		return r
	}, s)
}

// LoadConfig reads and checks a configuration; errors name file, line and
// column. Relative paths of files are taken from the configuration's folder,
// that of data from the working directory.
func LoadConfig(path string) (Config, error) {
	cfg := DefaultConfig()
	f, err := configs.Load(path, &cfg)
	if gone := (*fs.PathError)(nil); errors.As(err, &gone) {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	if err != nil {
		return Config{}, err
	}
	cfg.read = f
	cfg.resolve(f.Dir())
	if err := cfg.Validate(); err != nil {
		return Config{}, f.Locate(err)
	}
	if cfg.File, err = filepath.Abs(path); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// resolve makes the paths of files absolute.
func (c *Config) resolve(dir string) {
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	for name, u := range c.Broker.Users {
		abs(&u.PasswordFile)
		c.Broker.Users[name] = u
	}
	for i := range c.Broker.Listeners {
		if t := c.Broker.Listeners[i].TLS; t != nil {
			abs(&t.Cert)
			abs(&t.Key)
			abs(&t.ClientCA)
		}
	}
	abs(&c.Infer.Library)
	for i := range c.Store.Keys {
		abs(&c.Store.Keys[i])
	}
	abs(&c.Store.Inbox)
	for name, m := range c.Models {
		abs(&m.File)
		abs(&m.Accelerated)
		abs(&m.Labels)
		c.Models[name] = m
	}
	for _, s := range c.Streams {
		if s.Drift != nil {
			abs(&s.Drift.Reference)
		}
	}
	abs(&c.FL.Key)
	for i := range c.FL.Keys {
		abs(&c.FL.Keys[i])
	}
	for name, u := range c.Upstream {
		abs(&u.PasswordFile)
		abs(&u.TLS.CA)
		abs(&u.TLS.Cert)
		abs(&u.TLS.Key)
		c.Upstream[name] = u
	}
}

// Validate checks each section and what one says of another.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Gateway == "" || topicLevel(c.Gateway) != c.Gateway {
		bad("gateway: %q is no name: it becomes one level of a topic, without / + # and $", c.Gateway)
	}
	if c.Data == "" {
		bad("data: names no folder; without it the gateway takes ./data")
	}
	if _, err := zerolog.ParseLevel(c.Log.Level); err != nil || c.Log.Level == "" {
		bad("log.level: %q is none of debug, info, warn, error", c.Log.Level)
	}
	if c.Log.Format != "console" && c.Log.Format != "json" {
		bad("log.format: %q is neither console nor json", c.Log.Format)
	}
	// Names become levels of topics, and folders.
	named := func(section, name string) {
		if name == "" || name == "." || name == ".." || topicLevel(name) != name {
			bad("%s.%s: %q is no name here: it becomes one level of a topic, without / + # and $", section, name, name)
		}
	}
	section := func(path string, err error) {
		for _, e := range flatten(err) {
			e = fmt.Errorf("%s.%w", path, e)
			var unknown *alert.UnknownName
			if errors.As(e, &unknown) {
				e = fmt.Errorf("%w%s", e, didYouMean(unknown.Name, unknown.Known))
			}
			errs = append(errs, e)
		}
	}
	section("broker", c.Broker.Validate())
	section("infer", c.Infer.Validate())
	section("store", c.Store.Validate())
	section("rollout", c.Rollout.Validate())
	section("dashboard", c.Dashboard.Validate())
	section("fl", c.FL.Validate())
	if c.FL.Key != "" {
		links := slices.Sorted(maps.Keys(c.Upstream))
		if _, ok := c.Upstream[c.FL.Upstream]; c.FL.Upstream != "" && !ok {
			bad("fl.upstream: there is no link %q%s", c.FL.Upstream, didYouMean(c.FL.Upstream, links))
		} else if len(links) == 0 {
			bad("fl: it needs a link to the cloud: put one under upstream")
		} else if c.FL.Upstream == "" && len(links) > 1 {
			bad("fl.upstream: say over which link, of the %d under upstream", len(links))
		}
		if err := fl.CheckName(c.Gateway); err != nil {
			bad("gateway: %w: in federated learning it is the name of this gateway", err)
		}
	}
	for i, l := range c.Broker.Listeners {
		if broker.SameAddr(l.TCP+l.WebSocket, c.Dashboard.Listen) {
			bad("dashboard.listen: %s is where broker.listeners[%d] listens", c.Dashboard.Listen, i)
		}
	}
	names := slices.Sorted(maps.Keys(c.Streams))
	models := slices.Sorted(maps.Keys(c.Models))
	for _, name := range models {
		section("models."+name, c.Models[name].Validate())
		if strings.Contains(name, "@") {
			bad("models.%s: what is behind an @ is a version; leave it out of the name", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Rollout.Models)) {
		if _, ok := c.Models[name]; !ok {
			bad("rollout.models.%s: there is no model %q%s", name, name, didYouMean(name, models))
		}
	}
	for _, name := range names {
		s := c.Streams[name]
		section("streams."+name, s.Validate())
		named("streams", name)
		if _, ok := c.Models[s.Model]; s.Model != "" && !ok {
			bad("streams.%s.model: there is no model %q%s", name, s.Model, didYouMean(s.Model, models))
		}
		if s.Version != "" && s.Model != "" {
			if _, _, err := store.ParseRef(s.ModelName()); err != nil {
				bad("streams.%s.version: %w", name, err)
			}
		}
		c.loops("streams."+name+".results.topic", s.OutputFilter(name), &errs)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Alerts)) {
		named("alerts", name)
		if name == alert.DriftRule && c.watched() {
			bad("alerts.drift: streams that are watched for drift raise the alert of that name; give this one another")
		}
		a := c.Alerts[name]
		section("alerts."+name, a.Validate())
		if f, err := c.fields(a.Stream); a.Stream == "" {
			// Validate said so.
		} else if s, ok := c.Streams[a.Stream]; !ok {
			bad("alerts.%s.stream: %w%s", name, err, didYouMean(a.Stream, names))
		} else if s.Validate() == nil && a.When != "" { // what is wrong with the stream was said
			section("alerts."+name, a.Check(f))
		}
		for i, f := range a.Topics() {
			c.loops(fmt.Sprintf("alerts.%s.publish[%d].topic", name, i), f, &errs)
		}
		c.loops("alerts."+name, "alerts/"+name+"/#", &errs)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstream)) {
		named("upstream", name)
		section("upstream."+name, c.Upstream[name].Validate())
	}
	return errors.Join(errs...)
}

// fields tells what the results of a stream hold.
func (c Config) fields(stream string) (alert.Fields, error) {
	s, ok := c.Streams[stream]
	if !ok {
		return alert.Fields{}, fmt.Errorf("there is no stream %q", stream)
	}
	names, err := s.Fields()
	return alert.Fields{Features: names, Model: s.Model != ""}, err
}

// loops refuses an output that could come back in as a stream's input.
func (c Config) loops(path, output string, errs *[]error) {
	for _, name := range slices.Sorted(maps.Keys(c.Streams)) {
		for i, f := range c.Streams[name].Topics {
			if broker.Overlap(output, f) {
				*errs = append(*errs, fmt.Errorf("%s: what is published to %s would come in again by streams.%s.topics[%d] (%s)", path, output, name, i, f))
			}
		}
	}
}

func didYouMean(name string, known []string) string {
	if n := configs.Nearest(name, known); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	if len(known) == 0 {
		return "; none is configured"
	}
	return "; there are " + strings.Join(known, ", ")
}

// flatten gives the single errors of a joined one.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, e := range many.Unwrap() {
			list = append(list, flatten(e)...)
		}
		return list
	}
	return []error{err}
}

// Pinned are the versions that streams keep to, NAME@VERSION each.
func (c Config) Pinned() []string {
	var refs []string
	for _, s := range c.Streams {
		if s.Version != "" {
			refs = append(refs, s.ModelName())
		}
	}
	return refs
}
