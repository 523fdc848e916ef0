package learn

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// keptOver is how many tasks that are over keep their folders: for the last word of
// their coordinators, and for a model that is yet to be taken back.
const keptOver = 8

// mostNamed is how many tasks are known to have been cleared away. Their
// announcements may stay at the broker for good.
const mostNamed = 4096

// clearAway ends the oldest of the tasks that are over, but for the last few.
// p.mu is held.
func (p *party) clearAway() {
	type past struct {
		id string
		at time.Time
	}
	var list []past
	for id, t := range p.tasks {
		over := t.status.State == "done" || t.status.State == "stopped"
		if !over || t.gone || t.status.Model != nil && t.status.Model.State == "trying" {
			continue
		}
		if info, err := os.Stat(folder(p.g.Data, "tasks", id, "head")); err == nil {
			list = append(list, past{id, info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b past) int { return b.at.Compare(a.at) })
	for _, o := range list[min(keptOver, len(list)):] {
		if err := p.forget(o.id); err != nil {
			p.log.Error().Err(err).Msg("a task that is over stays")
			return
		}
		t := p.tasks[o.id]
		t.gone = true
		t.stop()
	}
}

// forgotten are the ids of tasks that were cleared away, the oldest first.
func (p *party) forgotten() ([]string, error) {
	b, err := os.ReadFile(folder(p.g.Data, "over"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return strings.Fields(string(b)), nil
}

// forget writes down that a task is not followed again: before its folders go, so
// that an announcement of it does not bring an old model back.
func (p *party) forget(id string) error {
	list, err := p.forgotten()
	if err != nil {
		return err
	}
	list = append(list, id)
	return writeWhole(folder(p.g.Data, "over"), []byte(strings.Join(list[max(0, len(list)-mostNamed):], "\n")+"\n"))
}

// remove removes what there is of a task that was cleared away.
func (p *party) remove(id string) {
	for _, part := range []string{"work", "publish", "tasks"} {
		if err := os.RemoveAll(folder(p.g.Data, part, id)); err != nil {
			p.log.Error().Err(err).Msg("a task that is over stays in part")
			return
		}
	}
	p.log.Info().Str("id", id).Msgf("a task that is over was cleared away; %d later ones are kept", keptOver)
}
