package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"edgegateway/infer"
	"edgegateway/infer/model"
	"edgegateway/infer/store"
	"edgegateway/internal/keyfile"
)

// atOnce begins the line of configs/demo.yaml that counts once the key is made that
// it names.
const atOnce = "# now: "

// Whose word the gateway of the demonstration takes, beside its configuration.
const (
	demoPrivate = "demo.pem"
	demoPublic  = "demo.pub"
)

// demoKeys makes the pair of keys that versions are signed with.
func demoKeys(folder string) error {
	private, public, _, err := keyfile.New()
	if err == nil {
		err = newFile(filepath.Join(folder, demoPublic), public, 0o644)
	}
	if err == nil {
		err = newFile(filepath.Join(folder, demoPrivate), private, 0o600)
	}
	return err
}

// The versions that are brought to the gateway beside the float model of its
// configuration.
const (
	digitsGood   = "digits-2" + store.Ext
	digitsBroken = "digits-3" + store.Ext
)

// rollout brings two versions to the gateway through the cloud: the int8 model,
// and one that its maker broke. What the gateway does with them, it says itself.
func (s *digits) rollout(ctx context.Context) error {
	select { // the float model is seen to answer before
	case <-ctx.Done():
		return nil
	case <-s.demo.answered:
	}
	test := filepath.Join(s.mnist, "t10k-images-idx3-ubyte")
	if _, err := s.command(ctx, "", "model", "bundle", "--name", "digits", "--version", "2", "--golden", "5", "--data", test,
		"--key", demoPrivate, "--out", digitsGood, digitsInt8); err != nil {
		return err
	}
	s.demo.say("push", "%s to the cloud: int8, signed, golden answers", digitsGood)
	if err := s.push(ctx, digitsGood); err != nil {
		return err
	}
	if err := s.spoil(digitsGood, digitsBroken); err != nil {
		return err
	}
	s.demo.say("push", "%s, signed too; its weights are backwards", digitsBroken)
	// That it is refused is said by the gateway, and makes the command fail.
	var failed *exec.ExitError
	if err := s.push(ctx, digitsBroken); !errors.As(err, &failed) {
		return err
	}
	return nil
}

// push brings a bundle to the gateway and waits for what becomes of it.
func (s *digits) push(ctx context.Context, bundle string) error {
	_, err := s.command(ctx, "", "model", "push", "--broker", s.cloud, "--gateway", "demo", "--rollout", bundle)
	return err
}

// spoil makes a bundle of another one whose largest weights are in the wrong
// order, signed all the same: only the golden answers can tell.
func (s *digits) spoil(from, to string) error {
	key, err := keyfile.ReadPrivate(filepath.Join(s.data, demoPrivate))
	if err != nil {
		return err
	}
	b, done, err := openBundle(filepath.Join(s.data, from))
	if err != nil {
		return err
	}
	defer done()
	man, parts := b.Manifest, map[string][]byte{}
	for name := range man.Files {
		if parts[name], err = b.Part(name, nil); err != nil {
			return err
		}
	}
	m, err := model.Read(parts[man.Model])
	if err != nil {
		return err
	}
	slices.Reverse(slices.MaxFunc(m.Main().Tensors, func(a, b model.Tensor) int { return len(a.Buffer) - len(b.Buffer) }).Buffer)
	if parts[man.Model], err = m.Write(); err != nil {
		return err
	}
	man.Version, man.Files[man.Model] = "3", store.PartOf(parts[man.Model])
	var spoiled bytes.Buffer
	if err := store.WriteBundle(&spoiled, man, parts, key); err != nil {
		return err
	}
	return writeWhole(filepath.Join(s.data, to), spoiled.Bytes())
}

// refusedLine is in what the gateway's log says of a version that is refused.
const refusedLine = " WRN failed model=digits "

// version prints a line for what the gateway says of a model's versions. topic
// is below models/, and of offers and what is fetched of them nothing is said.
func (d *demo) version(topic string, payload []byte) {
	name, kind, _ := strings.Cut(topic, "/")
	say := func(who, format string, args ...any) {
		d.say(who, "%s", shorten(printable(fmt.Sprintf(format, args...)), d.width-len("15:04:05  gateway  ")))
	}
	switch kind {
	case "report":
		var r infer.PreflightReport
		if json.Unmarshal(payload, &r) != nil || !r.OK {
			return // the status says why not
		}
		golden := ""
		for _, c := range r.Checks {
			if c.Name == infer.CheckGolden {
				golden, _, _ = strings.Cut(c.Why, ",")
			}
		}
		say("tried", "%s: p50 %s, live %s; %.1f MB; golden: %s", d.trying, shortTime(r.P50), shortTime(r.LiveP50), float64(r.PeakMemoryBytes)/1e6, golden)
	case "rollout":
		var s struct {
			Version, Stage, Over string
			Samples              int
			Agreement            float64
		}
		if json.Unmarshal(payload, &s) == nil && s.Over != "" {
			say(s.Stage, "%s@%s agrees with the live one on %.1f %% of %d %s", name, s.Version, 100*s.Agreement, s.Samples, name)
		}
	case "status":
		var s struct{ Version, Step, Of, Why string }
		if json.Unmarshal(payload, &s) != nil {
			return
		}
		ref := name + "@" + s.Of
		switch s.Step {
		case "trying":
			d.trying = ref
		case "live":
			why, _, _ := strings.Cut(strings.TrimPrefix(s.Why, "promoted by its rule "), ": ")
			say("live", "%s, promoted: %s", ref, why)
		case "failed", "withdrawn":
			// Which check, and by how much; the log of the gateway has all of it.
			list := strings.Split(s.Why, ": ")
			why, _, _ := strings.Cut(list[len(list)-1], ", ")
			if len(list) > 1 {
				why = list[0] + ": " + why
			}
			say("refused", "%s: %s; %s@%s serves", ref, why, name, s.Version)
		}
	}
}

// shortTime is a time in milliseconds as a person says it.
func shortTime(ms float64) string {
	if ms < 0.1 {
		return fmt.Sprintf("%.1f µs", 1000*ms)
	}
	return fmt.Sprintf("%.2f ms", ms)
}
