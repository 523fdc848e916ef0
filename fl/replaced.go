package fl

import (
	"crypto/ed25519"
	"strings"
	"time"
)

// replaced begins the reason of a task that another one takes the place of.
const replaced = "it was changed, and goes on as "

// ReplacedBy is the reason of a task that goes on under id.
func ReplacedBy(id string) string { return replaced + id }

// Replaced says whether the reason of a task that was stopped is that another one,
// the same as it was changed, takes its place.
func Replaced(why string) bool { return strings.HasPrefix(why, replaced) }

// Replace gives what a broker is to be told where the task that st is of, which
// nobody leads now, is led under the id by as it was changed: an announcement that
// it is stopped, without its weights, Calls and file, which are cleared. It is
// nothing where the task is over, or was never begun. st stays as it is: who leads
// the old task again goes on with it. The error is of the State.
func Replace(st State, by string, key ed25519.PrivateKey, now time.Time) ([]Message, error) {
	encoded, err := st.Get("task")
	if err != nil || encoded == nil {
		return nil, err
	}
	task, id, err := DecodeTask(encoded)
	if err != nil {
		return nil, err
	}
	c := &Coordinator{task: task, id: id, encoded: encoded, st: st, key: key, members: map[string]*member{}, now: now}
	there, err := c.get("head", &c.head)
	if err != nil || !there || c.Done() {
		return nil, err
	}
	if c.seq, err = NewCounter(st, "seq"); err != nil {
		return nil, err
	}
	if err := c.loadMembers(); err != nil {
		return nil, err
	}
	a := Announcement{Task: encoded, State: stateStopped, Round: c.head.Round, Rounds: task.Rounds, Why: ReplacedBy(by)}
	if err := c.say(Header{Kind: KindTask, Round: a.Round}, a); err != nil {
		return nil, err
	}
	for _, ref := range append(append(c.head.Kept, c.head.Cleared...), c.head.File) {
		c.clear(ref)
	}
	var list []Message
	for _, action := range c.out {
		list = append(list, *action.Send)
	}
	for _, name := range c.names() {
		list = append(list, Message{Topic: CallTopic(id, name), Retain: true})
	}
	return list, nil
}
