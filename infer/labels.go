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

// keyError is what is wrong with what a key of the configuration gives:
// labels, label_list, output or threshold.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.key + ": " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// readLabels reads a file with a label a line. Its error is a *keyError.
func readLabels(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &keyError{"labels", err}
	}
	defer f.Close()
	const most = 4 << 20
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, &keyError{"labels", err}
	}
	if len(text) > most {
		return nil, &keyError{"labels", fmt.Errorf("%s is larger than %d bytes", path, most)}
	}
	labels, err := model.ParseLabels(text)
	if err != nil {
		return nil, &keyError{"labels", fmt.Errorf("%s: %w", path, err)}
	}
	return labels, nil
}

// unnamed says which of n classes the labels do not name, "" where they name
// all or there are none; it begins with the key that gives them.
func unnamed(cfg ModelConfig, labels []string, n int) string {
	if len(labels) == 0 || len(labels) >= n {
		return ""
	}
	given := "labels: those packed in the model name"
	switch {
	case len(cfg.Classes) > 0:
		given = "label_list: names"
	case cfg.Labels != "":
		given = "labels: " + cfg.Labels + " names"
	}
	return fmt.Sprintf("%s %d of the %d classes; the others are reported by their numbers, from %d on", given, len(labels), n, len(labels))
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
