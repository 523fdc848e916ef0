package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/gateway/app"
	"edgegateway/infer/store"
)

// wishFlags are common to what makes another version answer.
type wishFlags struct {
	dataFlags
	noWait bool
}

func (f *wishFlags) add(cmd *cobra.Command) {
	f.dataFlags.add(cmd)
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "do not wait for what becomes of it")
}

func modelActivateCommand() *cobra.Command {
	var f wishFlags
	want := store.Want{Do: store.DoActivate}
	var rollout bool
	cmd := &cobra.Command{
		Use:   "activate NAME@VERSION",
		Short: "Make a version answer: it is tried on this box first, and the old one stays if it fails",
		Long: `Make a version of a model answer in place of the one that does. A gateway that
runs on the data folder tries it and changes over, and this command waits for what
becomes of it; Ctrl-C ends the waiting alone. Where no gateway runs the command tries
it, and the next gateway starts with it. A version that fails its trial stays
inactive, and why is said.`,
		Example: `  edgegateway model activate --config hall.yaml digits@2
  edgegateway model activate --data /var/lib/edgegateway --rollout digits@2`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, err := refOf(cmd, args[0])
			if err != nil {
				return err
			}
			want.Version = version
			if rollout {
				want.Do = store.DoRollout
			}
			return f.wish(cmd, name, want)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&want.Force, "force", false, "without a trial")
	cmd.Flags().BoolVar(&rollout, "rollout", false, "as the model's rollout says: beside the live version first")
	return cmd
}

func modelRollbackCommand() *cobra.Command {
	var f wishFlags
	cmd := &cobra.Command{
		Use:     "rollback NAME",
		Short:   "Go back to the version before the live one",
		Example: "  edgegateway model rollback --config hall.yaml digits",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, version, err := store.ParseRef(args[0])
			if err == nil && version != "" {
				err = fmt.Errorf("it goes back to the version before; `model activate %s` takes a version", args[0])
			}
			if err != nil {
				return usage(cmd, err)
			}
			return f.wish(cmd, name, store.Want{Do: store.DoRollback})
		},
	}
	f.add(cmd)
	return cmd
}

// wish writes down what is wanted, and waits for the gateway that does it, or
// does it where none runs.
func (f *wishFlags) wish(cmd *cobra.Command, name string, want store.Want) error {
	s, err := f.versionsThere()
	if err != nil {
		return err
	}
	defer s.Close()
	want.By, want.At = "command", time.Now().UTC()
	if err := s.Want(name, want); err != nil {
		return ofModel(err)
	}
	st, err := s.State()
	if err != nil {
		return err
	}
	if m := st.Models[name]; m != nil && m.Want != nil {
		want = *m.Want // a rollback knows its version now
	}
	out := cmd.OutOrStdout()
	g, err := app.Holder(s.data)
	switch {
	case err != nil:
		return err
	case g == nil:
		if done, err := s.later(out, name, want); done || err != nil {
			return err
		}
		return s.fulfil(cmd.Context(), out, cmd.ErrOrStderr(), name, want)
	case f.noWait:
		fmt.Fprintf(out, "gateway %s is to %s %s@%s; model show says how far it is\n", g.Gateway, want.Do, name, want.Version)
		return nil
	}
	return s.await(cmd.Context(), out, g, name, want)
}

// fulfil does what is wanted where no gateway runs, as one would: the version is
// tried, and the next gateway serves it.
func (s *versions) fulfil(ctx context.Context, out, say io.Writer, name string, want store.Want) error {
	if _, err := s.Files(name, want.Version); err != nil { // each held against its hash
		return ofModel(err)
	}
	err := s.keepConfigured(ctx, say, name)
	s.noteEvicted(say)
	if err != nil {
		return ofModel(fmt.Errorf("%s@%s is wanted still, and not live: %w; the same command does it then, or the next gateway on %s", name, want.Version, err, s.data))
	}
	if err := s.preflight(ctx, name, want); err != nil {
		return err
	}
	// One that was started meanwhile does what is wanted itself, and would not
	// see that it is done.
	if g, err := app.Holder(s.data); err != nil || g != nil {
		if err == nil {
			err = s.await(ctx, out, g, name, want)
		}
		return err
	}
	noted, err := app.Activate(s.Store, s.data, name, want)
	if err != nil {
		return ofModel(err)
	}
	note(say, noted)
	if none := s.unserved(name); none != "" {
		fmt.Fprintf(out, "%s@%s is live; %s", name, want.Version, none)
		return nil
	}
	fmt.Fprintf(out, "%s@%s is live; the next gateway on %s serves it\n", name, want.Version, s.data)
	return nil
}

// preflight tries a version on this box before it goes live without a gateway:
// an error says why it may not.
func (s *versions) preflight(ctx context.Context, name string, want store.Want) error {
	run, err := childPreflight()
	if err != nil {
		return err
	}
	ref := name + "@" + want.Version
	done := waiting("pre-flight of " + ref)
	err = s.config.Try(ctx, s.Store, run, name, want)
	done()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("stopped: %s is not tried yet; the next gateway on %s does it, or the same command", ref, s.data)
	}
	live := ""
	if st, err := s.State(); err == nil && st.Models[name] != nil {
		live = st.Models[name].Live
	}
	return invalid(fmt.Errorf("%s failed: %w; %s answers as before", ref, err, orConfigured(live)))
}

// keepConfigured keeps the model file that the configuration names as a version,
// before another one is live in its place, so that there is a way back to it.
func (s *versions) keepConfigured(ctx context.Context, say io.Writer, name string) error {
	st, err := s.State()
	if err != nil {
		return err
	}
	file := s.config.Models[name].File
	if m := st.Models[name]; file == "" || m != nil && m.Live != "" {
		return nil
	}
	v, noted, err := app.KeepFile(ctx, s.Store, s.data, name, file)
	if err != nil {
		return fmt.Errorf("models.%s.file is not kept to go back to: %w", name, err)
	}
	note(say, noted)
	return s.Activate(name, v, "the file of the configuration")
}

// pollEvery is how often the state is looked at while a gateway works.
const pollEvery = 100 * time.Millisecond

// await says how far a version has come until it is live, has failed, or runs
// beside the live one.
func (s *versions) await(ctx context.Context, out io.Writer, g *app.Running, name string, want store.Want) error {
	done := waiting("waiting for gateway " + g.Gateway)
	defer func() { done() }()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	ref, said := name+"@"+want.Version, store.Stage("")
	for looks := 1; ; looks++ {
		st, err := s.State()
		if err != nil {
			return err
		}
		m := st.Models[name]
		v := m.Find(want.Version)
		switch {
		case v == nil:
			return invalid(fmt.Errorf("%s was removed meanwhile", ref))
		case m.Want == nil && m.Live == want.Version && v.Broken != "":
			return invalid(fmt.Errorf("%s is to be live, and cannot be served: %s", ref, v.Broken))
		case m.Want == nil && m.Live == want.Version:
			done()
			done = func() {}
			fmt.Fprintf(out, "%s is live: %s\n%s", ref, v.Why, s.unserved(name))
			return nil
		case m.Want == nil && want.Do == store.DoWithdraw && v.Stage == store.Withdrawn:
			done()
			done = func() {}
			fmt.Fprintf(out, "%s is withdrawn; %s answers as before\n", ref, orConfigured(m.Live))
			return nil
		case m.Want == nil:
			return invalid(fmt.Errorf("%s %s: %s; %s answers as before", ref, v.Stage, v.Why, orConfigured(m.Live)))
		case !m.Want.At.Equal(want.At):
			return fmt.Errorf("somebody wants something else meanwhile: %s of version %s, by %s", m.Want.Do, m.Want.Version, orNobody(m.Want.By))
		case want.Do == store.DoRollout && (v.Stage == store.Shadow || v.Stage == store.Canary):
			done()
			done = func() {}
			fmt.Fprintf(out, "%s runs beside %s (%s); model show says how it does\n", ref, orConfigured(m.Live), v.Stage)
			return nil
		case v.Stage != said && v.Stage == store.Trying:
			done()
			fmt.Fprintf(out, "%s: %s %s\n", ref, v.Stage, v.Why)
			done = waiting("waiting for gateway " + g.Gateway)
		}
		said = v.Stage
		if looks%10 == 0 {
			if now, err := app.Holder(s.data); err == nil && now == nil {
				return errors.New("the gateway ended before it was done; the next one does it")
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped waiting: gateway %s still does it; model show says how far it is", g.Gateway)
		case <-tick.C:
		}
	}
}

// orConfigured names a live version, where there is none that of the
// configuration.
func orConfigured(version string) string {
	if version == "" {
		return "the version of the configuration"
	}
	return "version " + version
}

// unserved says that nothing asks a model, "" where something does or nobody
// knows.
func (s *versions) unserved(name string) string {
	if _, ok := s.config.Models[name]; ok || !s.known {
		return ""
	}
	return fmt.Sprintf("the configuration names no model %s, so nothing serves it: models.%s brings it in, without file\n", name, name)
}
