package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"edgegateway/fl"
)

// joined is what the folder --state says of itself.
type joined struct {
	Name string `json:"name"`           // whose it is
	Task string `json:"task,omitempty"` // id of the one that it takes part in, or did last
}

func (j *joining) joinedFile() string { return filepath.Join(j.state, "join.json") }

// recall reads what the folder says; one that says nothing becomes this name's.
func (j *joining) recall() error {
	text, err := os.ReadFile(j.joinedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return j.remember("")
	}
	if err == nil {
		err = json.Unmarshal(text, &j.joined)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", j.joinedFile(), err)
	case j.joined.Name != j.name:
		return fmt.Errorf("%s is the folder of %s, not of %s: give each name its own", j.state, j.joined.Name, j.name)
	}
	return nil
}

// remember notes which task it takes part in.
func (j *joining) remember(task string) error {
	j.joined = joined{j.name, task}
	text, err := json.Marshal(j.joined)
	if err != nil {
		return err
	}
	return writeWhole(j.joinedFile(), append(text, '\n'))
}

// participant is this command's in a task, as its folder has it.
func (j *joining) participant(who *flSelf, id string) (*fl.Participant, error) {
	st, err := fl.NewDir(filepath.Join(j.state, id))
	if err != nil {
		return nil, err
	}
	p, err := fl.NewParticipant(j.name, st, who.key, who.trusted, fl.ParticipantConfig{Task: id, Version: j.version, Chunk: j.chunk})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return p, nil
}

// isOver says whether a task has ended, as its participant was told.
func isOver(s fl.ParticipantStatus) bool { return s.State == "done" || s.State == "stopped" }

// ended says how a task went that is over.
func ended(task string, s fl.ParticipantStatus) string {
	text := fmt.Sprintf("task %s is over", task)
	if s.State == "stopped" && s.Why != "" {
		text += ", stopped: " + s.Why
	}
	text = fmt.Sprintf("%s: this command sent %d updates", text, s.Sent)
	if s.Sent == 0 { // it was over before
		text += "; --task takes part in another"
	}
	return text
}
