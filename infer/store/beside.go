package store

import (
	"fmt"
	"strings"
)

// Withdrawable is Beside for who withdraws: a version that is wanted to be live
// and not tried yet, or under trial, is taken back too.
func (s State) Withdrawable(name, version string) (string, error) {
	if m := s.Models[name]; m != nil && m.Want != nil && m.Want.Version != m.Live {
		w := m.Want
		if (w.Do == DoActivate || w.Do == DoRollout) && (version == "" || version == w.Version) {
			return w.Version, nil
		}
	}
	return s.Beside(name, version)
}

// Beside is the version of a model that is beside the live one, in the shadow or
// as a canary; where version is not "" it must be that one.
func (s State) Beside(name, version string) (string, error) {
	m := s.Models[name]
	if m == nil {
		return "", fmt.Errorf("store: model %s: %w", name, ErrUnknown)
	}
	var have []string
	for _, v := range m.Versions {
		if v.Stage != Shadow && v.Stage != Canary {
			continue
		}
		if v.Version == version {
			return version, nil
		}
		have = append(have, v.Version)
	}
	if version == "" && len(have) == 1 {
		return have[0], nil
	}
	if len(have) == 0 {
		return "", fmt.Errorf("store: model %s: no version is beside the live one, in the shadow or as a canary", name)
	}
	return "", fmt.Errorf("store: model %s: beside the live one is %s", name, strings.Join(have, ", "))
}
