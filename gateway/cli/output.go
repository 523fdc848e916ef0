package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edgegateway/infer/model/pack"
	"edgegateway/internal/chart"
)

// madeOf is the file that a command writes: out, or named after the model, and
// never the model itself.
func madeOf(model, out, suffix string) (string, error) {
	if out == "" {
		out = strings.TrimSuffix(model, filepath.Ext(model)) + "-" + suffix + ".tflite"
	}
	return out, unpacked(out, model)
}

// spares refuses an output that is one of the files that a command reads, by
// whatever name, or that cannot be written.
func spares(out string, inputs ...string) error {
	for _, in := range inputs {
		if in != "" && same(in, out) {
			return &exitError{exitUsage, errors.New("--out is the model itself")}
		}
	}
	return writable("--out", out)
}

// writable refuses, before there is any work that would be lost, a file that
// cannot be written: its folder is not there or takes no file, or its name
// stands for something else. flag is what named it.
func writable(flag, path string) error {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return &exitError{exitUsage, fmt.Errorf("%s %s: there is no folder %s", flag, path, dir)}
	}
	if err := regular(path); err != nil {
		return err
	}
	f, err := fileIn(dir, ".edgegateway-*") // permission bits say nothing of a disk that is read-only
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("%s %s: %w", flag, path, err)}
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// fileIn makes a file for a while; its error names the folder, not the file,
// of which nobody knows.
func fileIn(dir, pattern string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		err = fmt.Errorf("folder %s takes no file: %w", dir, at.Err)
	}
	return f, err
}

// unpacked refuses what spares refuses, and the name of a packed model for one
// that is not.
func unpacked(out string, inputs ...string) error {
	if err := spares(out, inputs...); err != nil || filepath.Ext(out) != pack.Ext {
		return err
	}
	return &exitError{exitUsage, fmt.Errorf("--out %s: %s is for packed models, which pack makes; name it .tflite", out, pack.Ext)}
}

// same says whether two paths name one file.
func same(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	a, errA = filepath.Abs(a)
	b, errB = filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// writeFigures writes each figure as SVG and PNG, named stem and its key.
func writeFigures(stem string, figures map[string]*chart.Drawing) error {
	for name, d := range figures {
		png, err := d.PNG()
		if err != nil {
			return err
		}
		if err := errors.Join(writeWhole(stem+name+".svg", d.SVG()), writeWhole(stem+name+".png", png)); err != nil {
			return err
		}
	}
	return nil
}
