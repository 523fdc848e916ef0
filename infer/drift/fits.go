package drift

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is what is known of a model that a reference is held against.
type Kind struct {
	Inputs  int      // numbers that it takes; 0: not known
	Picture bool     // they may be a picture's
	Answers bool     // what it answers is known:
	Values  int      // so many numbers, beside a score; 0 where it names a class or an object
	Labels  []string // that it may name
}

// Fits says why a reference cannot be of a model, nil where it can: which model
// it was made with it does not say.
func (r *Reference) Fits(k Kind) error {
	switch {
	case r.Picture != nil && k.Inputs > 0 && !k.Picture:
		return fmt.Errorf("it is of pictures, and the model takes %d numbers", k.Inputs)
	case r.Picture == nil && k.Inputs > 0 && !r.standsFor(k.Inputs):
		return fmt.Errorf("it knows %d numbers of an input, and the model takes %d", r.Inputs, k.Inputs)
	case !k.Answers:
		return nil
	}
	answers := r.Features[r.Inputs:]
	values := len(answers) - len(AnswerNames(0))
	var class *Feature
	if n := len(answers); n > 0 && answers[n-1].class() {
		class = &answers[n-1]
		values--
	}
	switch {
	case len(answers) == 0:
		return fmt.Errorf("it knows nothing of a model's answers")
	case values != min(k.Values, mostValues):
		return fmt.Errorf("it is of a model that answers %d numbers, and this one answers %d", values, min(k.Values, mostValues))
	case class == nil != (k.Values > 0):
		return fmt.Errorf("of the class that a model answers the reference and the model say different things")
	case class == nil:
		return nil
	}
	if len(class.Classes) > len(k.Labels)+1 { // one may be that of no answer
		return fmt.Errorf("it knows %d classes, and the model has %d", len(class.Classes), len(k.Labels))
	}
	for _, label := range class.Classes {
		if label != "" && !slices.Contains(k.Labels, label) && !numbered(k.Labels) {
			return fmt.Errorf("it knows the class %q, and the model has none of that name, of %d", label, len(k.Labels))
		}
	}
	return nil
}

// numbered says that labels are but the numbers of the classes: the names may
// come from elsewhere.
func numbered(labels []string) bool {
	for i, label := range labels {
		if label != strconv.Itoa(i) {
			return false
		}
	}
	return true
}

// standsFor says whether its inputs may be what Inputs gives for n numbers,
// however many values a reading has.
func (r *Reference) standsFor(n int) bool {
	if r.Inputs == n && n <= mostInputs {
		return true
	}
	width := r.Inputs / perChannel
	return width >= 1 && width <= mostChannels && r.Inputs%perChannel == 0 && n%width == 0 && strings.HasSuffix(r.Features[0].Name, "."+channelParts[0])
}
