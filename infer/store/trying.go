package store

// givenUp is why a version is at the stage that it began with, once more.
const givenUp = "its pre-flight was given up: it is not wanted any more"

// giveUp puts versions back whose trial nobody wants any more: whoever tried
// them gave up, or was killed.
func (m *ModelState) giveUp() {
	for i := range m.Versions {
		if v := &m.Versions[i]; v.Stage == Trying && (m.Want == nil || m.Want.Version != v.Version) {
			v.Stage, v.Why = Added, givenUp
		}
	}
}

func giveUp(st *State) error {
	for _, m := range st.Models {
		m.giveUp()
	}
	return nil
}

// GiveUp puts each version that is marked as Trying, and that no wish names,
// back to Added: for who gave a trial up because something else was wanted. Open
// and Want do it too.
func (s *Store) GiveUp() error { return wrap(s.change(giveUp)) }

// PutBack ends the wish for a version that did not become the live one, and was
// not to blame: it stays what it was, one that was at work what it was before,
// and why says what happened.
func (s *Store) PutBack(name, version, why string) error {
	return wrap(s.change(func(st *State) error {
		m, v, err := st.version(name, version)
		if err != nil {
			return err
		}
		switch v.Stage {
		case Trying:
			v.Stage = Added
		case Shadow, Canary:
			v.Stage = Passed
		}
		if m.Live != version {
			v.Why = cut(why)
		}
		m.done(version)
		return nil
	}))
}
