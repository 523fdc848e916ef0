package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"edgegateway/internal/chart"
)

// madeOf is the file that a command writes: out, or named after the model, and
// never the model itself.
func madeOf(model, out, suffix string) (string, error) {
	if out == "" {
		out = strings.TrimSuffix(model, filepath.Ext(model)) + "-" + suffix + ".tflite"
	}
	return out, spares(out, model)
}

// spares refuses an output that is one of the files that a command reads, by
// whatever name, or whose folder is not there.
func spares(out string, inputs ...string) error {
	for _, in := range inputs {
		if in != "" && same(in, out) {
			return &exitError{exitUsage, errors.New("--out is the model itself")}
		}
	}
	if dir := filepath.Dir(out); dir != "." {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return &exitError{exitUsage, fmt.Errorf("--out %s: there is no folder %s", out, dir)}
		}
	}
	return nil
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
