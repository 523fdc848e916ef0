package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/infer/store"
	"edgegateway/internal/offer"
)

// pushFlags are those of the command `model push`.
type pushFlags struct {
	clientFlags
	gateways             []string
	prefix, at           string
	name, version, base  string
	chunks, until, clear string
	activate, rollout    bool
	detach, asJSON       bool
	rate                 int
}

func modelPushCommand() *cobra.Command {
	var p pushFlags
	cmd := &cobra.Command{
		Use:   "push FILE",
		Short: "Bring a version of a model to gateways through the cloud's broker, over thin links too",
		Long: `Leave a version of a model at the broker to which gateways send their results, for
each gateway that is named to fetch: in chunks that the broker retains, so that a
gateway which is away, or whose link breaks every few seconds, gets it later, with
nobody awake. FILE is a bundle, a .tflite or a packed model. With --base it is sent
as what changed since an older version, to gateways that have that one, and whole
to the others.

It waits until each gateway has reported, says what they report, and takes what it
left at the broker away. Ctrl-C, or --detach, leaves it there; the same command
again waits on, and --clear NAME takes it away.`,
		Example: `  edgegateway model push --broker mqtts://cloud.example:8883 --gateway hall-7 --gateway hall-8 --activate digits-2.bundle
  edgegateway model push --broker cloud.example:1883 --gateway van-12 --base digits.tflite --until 14d --detach digits-2.tflite
  edgegateway model push --broker cloud.example:1883 --clear digits`,
		Args: func(cmd *cobra.Command, args []string) error {
			if p.clear != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.check(); err != nil {
				return &exitError{exitUsage, err}
			}
			w := &pusher{pushFlags: &p, out: cmd.OutOrStdout()}
			defer w.close()
			if p.clear != "" {
				return w.clearAll(cmd.Context(), p.clear)
			}
			return w.push(cmd.Context(), args[0])
		},
	}
	p.add(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&p.gateways, "gateway", "g", nil, "a gateway that shall have it; several times for several")
	f.StringVar(&p.prefix, "prefix", "gateways/{gateway}", "upstream.prefix of the gateways")
	f.StringVar(&p.at, "chunks-at", "models", "topic below which the chunks are left")
	f.StringVar(&p.name, "name", "", "the model's name; a bundle says it, of a model it is the file's name by default")
	f.StringVar(&p.version, "version", "", "of a model without a bundle; by default each gateway gives it the next number")
	f.StringVar(&p.base, "base", "", "an older version: send what changed since to gateways that have it")
	f.StringVar(&p.chunks, "chunks", "96k,32k,8k", "sizes of chunks, largest first, each a multiple of the next; a gateway takes smaller ones where its link breaks early")
	f.StringVar(&p.until, "until", "", "how long it counts: 14d, 36h, 2027-01-31 or 2027-01-31T12:00:00Z; by default for ever")
	f.BoolVar(&p.activate, "activate", false, "have it tried and made live where it comes")
	f.BoolVar(&p.rollout, "rollout", false, "have it tried and rolled out as the gateway's configuration says")
	f.IntVar(&p.rate, "rate", 0, "messages a second at most; 0 for no limit; AWS IoT takes 100")
	f.BoolVar(&p.detach, "detach", false, "do not wait for reports")
	f.StringVar(&p.clear, "clear", "", "take away what is left at the broker of the model of this name, for --gateway or for all")
	f.BoolVar(&p.asJSON, "json", false, "print reports as JSON, a line each")
	cmd.MarkFlagsMutuallyExclusive("activate", "rollout")
	for _, name := range []string{"base", "detach", "activate", "rollout", "until", "version"} {
		cmd.MarkFlagsMutuallyExclusive("clear", name)
	}
	completeFiles(cmd, "base", "tflite", "pack", "bundle")
	return cmd
}

func (p *pushFlags) check() error {
	if len(p.gateways) == 0 && p.clear == "" {
		return errors.New("--gateway names who shall have it; no gateway is named")
	}
	if !strings.Contains(p.prefix, "{gateway}") {
		return fmt.Errorf("--prefix %q does not say where the gateway's name stands: {gateway}", p.prefix)
	}
	for _, s := range append(slices.Clone(p.gateways), p.prefix, p.at) {
		if s == "" || strings.ContainsAny(s, "+#\x00") {
			return fmt.Errorf("%q is no topic, nor part of one", s)
		}
	}
	if p.clear != "" {
		if err := store.CheckName(p.clear); err != nil {
			return fmt.Errorf("--clear: %w", err)
		}
	}
	slices.Sort(p.gateways)
	p.gateways = slices.Compact(p.gateways)
	if p.rate < 0 {
		return fmt.Errorf("--rate %d is negative", p.rate)
	}
	return nil
}

// topic is where something of a gateway stands.
func (p *pushFlags) topic(gateway, kind, name string) string {
	return strings.ReplaceAll(p.prefix, "{gateway}", gateway) + kind + name
}

// sizes reads --chunks: "96k,32k,8k".
func (p *pushFlags) sizes() ([]int, error) {
	var list []int
	for _, word := range strings.Split(p.chunks, ",") {
		word, factor := strings.ToLower(strings.TrimSpace(word)), 1
		if short, ok := strings.CutSuffix(word, "k"); ok {
			word, factor = short, 1<<10
		}
		n, err := strconv.Atoi(word)
		if err != nil || n > offer.MaxMessage {
			return nil, fmt.Errorf("--chunks: %q is no size such as 32k", word)
		}
		list = append(list, n*factor)
	}
	if err := offer.Sizes(list); err != nil {
		return nil, fmt.Errorf("--chunks: %w", err)
	}
	return list, nil
}

// untilTime reads --until.
func untilTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.ParseInLocation(time.DateOnly, s, now.Location())
	}
	if days, ok := strings.CutSuffix(s, "d"); ok && err != nil {
		var n int
		if n, err = strconv.Atoi(days); err == nil {
			t = now.AddDate(0, 0, min(n, 100_000))
		}
	} else if err != nil {
		var d time.Duration
		if d, err = time.ParseDuration(s); err == nil {
			t = now.Add(d)
		}
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("--until: %q is none of 14d, 36h, 2027-01-31, 2027-01-31T12:00:00Z", s)
	}
	if !t.After(now) {
		return time.Time{}, fmt.Errorf("--until: %s is over already", t.Format(time.RFC3339))
	}
	return t.UTC().Truncate(time.Second), nil
}

// push leaves a version at the broker, and waits.
func (w *pusher) push(ctx context.Context, path string) error {
	sizes, err := w.sizes()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	until, err := untilTime(w.until, time.Now())
	if err != nil {
		return &exitError{exitUsage, err}
	}
	o, files, err := w.parcels(path, sizes)
	if err != nil {
		return err
	}
	o.ID, o.Until = pushID(), until
	switch {
	case w.activate:
		o.Then = offer.Activate
	case w.rollout:
		o.Then = offer.Rollout
	}
	for i := range files {
		o.Files = append(o.Files, files[i].File)
	}
	if err := o.Validate(); err != nil {
		return &exitError{exitUsage, fmt.Errorf("what is given makes no offer: %w", err)}
	}
	if err := w.leave(ctx, o, files); err != nil {
		return err
	}
	if w.detach {
		return w.left(o, "")
	}
	return w.wait(ctx, o)
}

// left says what stays at the broker, and how to go on.
func (w *pusher) left(o *offer.Offer, why string) error {
	if w.asJSON {
		return json.NewEncoder(w.out).Encode(o)
	}
	_, err := fmt.Fprintf(w.out, "%s%s waits at the broker for %s; to take it away: edgegateway model push --broker %s --clear %s\n",
		why, ref(o), strings.Join(w.gateways, ", "), w.broker, o.Name)
	return err
}

// ref names a version.
func ref(o *offer.Offer) string {
	if o.Version == "" {
		return o.Name
	}
	return o.Name + "@" + o.Version
}
