package fl

import (
	"fmt"
	"strconv"
	"strings"
)

// maxName bounds the names of tasks and gateways.
const maxName = 64

// CheckName says what is wrong with the name of a task or gateway: it is a part
// of topics and of file names.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("a name is missing")
	}
	if len(name) > maxName {
		return fmt.Errorf("the name %.20q... is longer than %d bytes", name, maxName)
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return fmt.Errorf("the name %q has a %q; letters, digits, dash, dot and underscore are taken", name, r)
		}
	}
	if strings.Trim(name, ".") == "" {
		return fmt.Errorf("the name %q is dots alone", name)
	}
	return nil
}

// Topic is where a message with this header goes.
func (h *Header) Topic() string {
	switch h.Kind {
	case KindTask:
		return TaskTopic(h.Task)
	case KindModel:
		return ModelTopic(h.Task, h.Body, h.Chunk)
	case KindCall:
		return CallTopic(h.Task, h.To)
	}
	return "fl/" + h.Task + "/from/" + h.From + "/" + string(h.Kind)
}

// TaskFilter is for the announcements of all tasks.
const TaskFilter = "fl/+/task"

// TaskTopic is where a task is announced.
func TaskTopic(task string) string { return "fl/" + task + "/task" }

// ModelTopic is where a chunk of weights is retained; body is that of Ref.
func ModelTopic(task string, body Hash, chunk int) string {
	return "fl/" + task + "/model/" + body.String() + "/" + strconv.Itoa(chunk)
}

// CallTopic is where a coordinator speaks to one gateway.
func CallTopic(task, gateway string) string { return "fl/" + task + "/to/" + gateway }

// FromFilter is for all that participants say.
func FromFilter(task string) string { return "fl/" + task + "/from/+/+" }

// TaskOf is the id of the task that a topic belongs to, "" of a topic of
// something else.
func TaskOf(topic string) string {
	rest, ok := strings.CutPrefix(topic, "fl/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// Topics are those of all chunks of the weights.
func (r *Ref) Topics(task string) []string {
	list := make([]string, r.Chunks)
	for i := range list {
		list[i] = ModelTopic(task, r.Body, i)
	}
	return list
}
