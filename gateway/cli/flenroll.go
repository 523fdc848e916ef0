package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"edgegateway/fl"
	"edgegateway/internal/keyfile"
)

func flEnrollCommand() *cobra.Command {
	var dir string
	var remove, replace bool
	cmd := &cobra.Command{
		Use:   "enroll [NAME [KEY.pub]]",
		Short: "Let a gateway take part in what a coordinator leads, send one away, or list them",
		Long: `Put the public key of a gateway into the folder of those that may take part. NAME
is the gateway's name (gateway: in its configuration); KEY.pub is what keys new
made there: the private half never leaves it. A coordinator that runs sees it at
once. --remove sends the gateway away: an update of it that was not counted yet is
set aside. Without a name it lists who is enrolled.`,
		Example: `  edgegateway fl enroll --enrolled enrolled hall-7 hall-7.pub
  edgegateway fl enroll --enrolled enrolled --remove hall-7
  edgegateway fl enroll --enrolled enrolled`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if remove || replace {
					return usage(cmd, errors.New("which gateway? --remove and --replace need its name"))
				}
				return listEnrolled(cmd, dir)
			}
			name := args[0]
			if err := fl.CheckName(name); err != nil {
				return usage(cmd, fmt.Errorf("NAME: %w", err))
			}
			path := filepath.Join(dir, name+".pub")
			switch {
			case remove && len(args) > 1:
				return usage(cmd, errors.New("--remove takes a name alone"))
			case remove:
				if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
					return &exitError{exitUsage, fmt.Errorf("gateway %s is not enrolled in %s", name, dir)}
				} else if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "gateway %s is not enrolled any more\n", name)
				return nil
			case len(args) < 2:
				return usage(cmd, fmt.Errorf("the public key of %s is missing", name))
			}
			return enroll(cmd, path, name, args[1], replace)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "enrolled", "", "folder with the public key of each gateway that may take part; it is made where it is missing")
	f.BoolVar(&remove, "remove", false, "send the gateway away")
	f.BoolVar(&replace, "replace", false, "the gateway has another key now")
	cmd.MarkFlagsMutuallyExclusive("remove", "replace")
	if err := cmd.MarkFlagRequired("enrolled"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

func enroll(cmd *cobra.Command, path, name, key string, replace bool) error {
	keys, err := keyfile.Read(key)
	if errors.Is(err, fs.ErrNotExist) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return invalid(err)
	}
	if len(keys) != 1 {
		return invalid(fmt.Errorf("%s holds %d keys, a gateway has one", key, len(keys)))
	}
	pem, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	if bytes.Contains(pem, []byte("PRIVATE KEY")) {
		return invalid(fmt.Errorf("%s holds a private key too: give the .pub file alone", key))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	old, err := keyfile.Read(path)
	switch {
	case err == nil && len(old) == 1 && old[0].ID == keys[0].ID:
		fmt.Fprintf(cmd.OutOrStdout(), "gateway %s is enrolled already with key %s\n", name, old[0].ID)
		return nil
	case err == nil && !replace:
		return &exitError{exitUsage, fmt.Errorf("gateway %s is enrolled with another key; --replace takes this one in its place", name)}
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !replace:
		return invalid(err)
	}
	if other := enrolledAs(filepath.Dir(path), name, keys[0].ID); other != "" {
		return &exitError{exitUsage, fmt.Errorf("key %s is that of gateway %s already: one that counts twice weighs twice; keys new makes %s its own", keys[0].ID, other, name)}
	}
	if err := writeWhole(path, pem); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "gateway %s is enrolled with key %s\n", name, keys[0].ID)
	return nil
}

// enrolledAs is the name of another gateway that is enrolled with a key, "" where
// there is none.
func enrolledAs(dir, name, id string) string {
	names, err := fl.KeyDir(dir).Names()
	if err != nil {
		return "" // the coordinator says what is wrong there
	}
	for _, other := range names {
		keys, err := keyfile.Read(filepath.Join(dir, other+".pub"))
		if err == nil && other != name && keys[0].ID == id {
			return other
		}
	}
	return ""
}

func listEnrolled(cmd *cobra.Command, dir string) error {
	names, err := fl.KeyDir(dir).Names()
	if err != nil {
		return invalid(err)
	}
	for _, name := range names {
		keys, err := keyfile.Read(filepath.Join(dir, name+".pub"))
		if err != nil {
			return invalid(err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%-24s %s\n", name, keys[0].ID)
	}
	if len(names) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "no gateway is enrolled in %s\n", dir)
	}
	return nil
}
