package infer

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"edgegateway/infer/model"
)

// loadLabels are the labels by index: the list of the configuration, else its
// file, else those packed in the model, else none.
func loadLabels(cfg ModelConfig, m *model.Model) ([]string, error) {
	switch {
	case len(cfg.Classes) > 0:
		return cfg.Classes, nil
	case cfg.Labels != "":
		return readLabels(cfg.Labels)
	case m != nil:
		return m.Labels()
	}
	return nil, nil
}

// labelsError is what is wrong with the labels that a key of the configuration
// gives: labels or label_list.
type labelsError struct {
	key string
	err error
}

func (e *labelsError) Error() string { return e.key + ": " + e.err.Error() }
func (e *labelsError) Unwrap() error { return e.err }

// readLabels reads a file with a label a line. Its error is a *labelsError.
func readLabels(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &labelsError{"labels", err}
	}
	defer f.Close()
	const most = 4 << 20
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, &labelsError{"labels", err}
	}
	if len(text) > most {
		return nil, &labelsError{"labels", fmt.Errorf("%s is larger than %d bytes", path, most)}
	}
	labels, err := model.ParseLabels(text)
	if err != nil {
		return nil, &labelsError{"labels", fmt.Errorf("%s: %w", path, err)}
	}
	return labels, nil
}

// labelTexts are n labels; an index without one is its own text. They are made
// once, so that no text is made for each result.
func labelTexts(labels []string, n int) []string {
	all := make([]string, max(n, len(labels)))
	for i := range all {
		if i < len(labels) && labels[i] != "" {
			all[i] = labels[i]
		} else {
			all[i] = strconv.Itoa(i)
		}
	}
	return all
}
