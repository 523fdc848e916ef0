package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edgegateway/internal/keyfile"

	"github.com/spf13/cobra"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", Short: "Make the keys that sign versions of models, and messages of federated learning",
		Example: "  edgegateway keys new factory",
	}
	cmd.AddCommand(keysNewCommand())
	return cmd
}

func keysNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new NAME",
		Short: "Make a pair of Ed25519 keys: NAME.pem signs, NAME.pub checks",
		Long: `Make a pair of Ed25519 keys. NAME.pem is private, nobody else can read it, and
signs bundles, or what a coordinator or a participant of federated learning says;
NAME.pub is public and goes to whoever checks: to every gateway under store.keys
or fl.keys, to a coordinator by fl enroll. Both are PEM files as openssl knows them
(PKCS #8, SubjectPublicKeyInfo). Files that are there are never replaced.`,
		Example: "  edgegateway keys new factory",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			base := strings.TrimSuffix(args[0], ".pem")
			if name := filepath.Base(base); base == "" || strings.HasSuffix(base, "/") || name == "." || name == ".." {
				return usage(cmd, fmt.Errorf("%q is no name of a file", args[0]))
			}
			private, public, id, err := keyfile.New()
			if err != nil {
				return err
			}
			if err := newFile(base+".pub", public, 0o644); err != nil {
				return err
			}
			if err := newFile(base+".pem", private, 0o600); err != nil {
				return errors.Join(err, os.Remove(base+".pub"))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "key %s: %s.pem signs and stays secret, %s.pub checks\n", id, base, base)
			return nil
		},
	}
}

// newFile writes a file that must not be there yet.
func newFile(path string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return &exitError{exitUsage, fmt.Errorf("%s is there already, and a key that signed something is not replaced; take another name", path)}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
