package store

import "fmt"

// SetConfigured notes which file the configuration names for a model, by its
// SHA-256 in hex digits, without making it the live version: for versions that
// went live while no configuration was at hand.
func (s *Store) SetConfigured(name, sum string) error {
	if !isSum(sum) {
		return fmt.Errorf("store: %q is no SHA-256", sum)
	}
	return wrap(s.change(func(st *State) error {
		m := st.Models[name]
		if m == nil {
			return fmt.Errorf("model %s: %w", name, ErrUnknown)
		}
		m.Configured = sum
		return nil
	}))
}
