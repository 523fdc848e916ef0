package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"edgegateway/infer/store"
)

func modelPromoteCommand() *cobra.Command {
	var f wishFlags
	cmd := &cobra.Command{
		Use:   "promote NAME[@VERSION]",
		Short: "Make the version live that is beside the live one, whatever its rules say yet",
		Long: `Make the version of a model live that is in the shadow of the live one or answers
for some of the sources, without waiting for its rules. It passed its trial before.`,
		Example: "  edgegateway model promote --config hall.yaml digits",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.decide(cmd, args[0], store.DoActivate)
		},
	}
	f.add(cmd)
	return cmd
}

func modelWithdrawCommand() *cobra.Command {
	var f wishFlags
	cmd := &cobra.Command{
		Use:   "withdraw NAME[@VERSION]",
		Short: "End the trial, shadow or canary of a version; the live one answers as before",
		Long: `End what a version that is not live is about: the trial that it is in or waits for,
its shadow, its canary. The live version answers as before, and the one that was
withdrawn can be removed.`,
		Example: `  edgegateway model withdraw --config hall.yaml digits
  edgegateway model withdraw --data /var/lib/edgegateway digits@3`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.decide(cmd, args[0], store.DoWithdraw)
		},
	}
	f.add(cmd)
	return cmd
}

// decide wishes something of the version that is beside the live one.
func (f *wishFlags) decide(cmd *cobra.Command, ref, do string) error {
	name, version, err := store.ParseRef(ref)
	if err != nil {
		return usage(cmd, err)
	}
	s, err := f.versionsToRead()
	if err != nil {
		return err
	}
	st, err := s.State()
	s.Close()
	if err != nil {
		return err
	}
	of := st.Beside
	if do == store.DoWithdraw {
		of = st.Withdrawable
	}
	if version, err = of(name, version); err != nil {
		return invalid(err)
	}
	return f.wish(cmd, name, store.Want{Do: do, Version: version})
}

// later does what needs no gateway, or leaves to the next one what does: it says
// whether that was all.
func (s *versions) later(out io.Writer, name string, want store.Want) (done bool, err error) {
	switch want.Do {
	case store.DoRollout:
		fmt.Fprintf(out, "the next gateway on %s brings %s@%s in\n", s.data, name, want.Version)
	case store.DoWithdraw:
		if err := s.Mark(name, want.Version, store.Withdrawn, "withdrawn by command, no gateway was running", nil); err != nil {
			return true, ofModel(err)
		}
		fmt.Fprintf(out, "%s@%s is withdrawn\n", name, want.Version)
	default:
		return false, nil
	}
	return true, nil
}
