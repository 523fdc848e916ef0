package drift

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// made is a reference as it is made of samples of a model: n numbers in readings
// of so many (0: none), and values, or classes where there are none.
func made(t interface{ Fatal(...any) }, n, readings, values int, labels ...string) *Reference {
	inputs := InputNames(nil, n, readings)
	l, err := NewLearner(append(inputs, AnswerNames(values)...), len(inputs), values == 0, MinSamples)
	if err != nil {
		t.Fatal(err)
	}
	x := make([]float64, n)
	said := make([]float64, values)
	for i := range MinSamples {
		for k := range x {
			x[k] = float64((i*37 + k*11) % 101)
		}
		label := ""
		if len(labels) > 0 {
			label = labels[i%len(labels)]
		}
		l.Add(Answers(Inputs(nil, x, readings), float64(i%7), said), label)
	}
	r, err := l.Reference()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A reference fits the model that it was made with, whatever that takes and says.
func TestFitsItsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		readings := rapid.IntRange(0, 8).Draw(t, "readings")
		n := max(1, readings) * rapid.IntRange(2, 12).Draw(t, "samples")
		values := rapid.IntRange(0, 12).Draw(t, "values")
		var labels []string
		if values == 0 {
			for i := range rapid.IntRange(0, 5).Draw(t, "classes") {
				labels = append(labels, fmt.Sprint("class ", i))
			}
		}
		r := made(t, n, readings, values, labels...)
		if err := r.Fits(Kind{Inputs: n, Answers: true, Values: values, Labels: labels}); err != nil {
			t.Fatal(err)
		}
	})
}

// One of another model does not, and why is said; what is not known is no reason.
func TestFitsNoOther(t *testing.T) {
	names := []string{"off", "on"}
	for _, tt := range []struct {
		r    *Reference
		k    Kind
		want string
	}{
		{made(t, 5, 0, 0, names...), Kind{Inputs: 6, Answers: true, Labels: names}, "it knows 5 numbers of an input, and the model takes 6"},
		{made(t, 60, 3, 0, names...), Kind{Inputs: 64, Answers: true, Labels: names}, "it knows 15 numbers of an input, and the model takes 64"},
		{made(t, 5, 0, 0, names...), Kind{Inputs: 5, Answers: true, Labels: []string{"open", "shut"}}, `it knows the class "off", and the model has none of that name, of 2`},
		{made(t, 5, 0, 0, "a", "b", "c", "d"), Kind{Inputs: 5, Answers: true, Labels: []string{"0", "1"}}, "it knows 4 classes, and the model has 2"},
		{made(t, 5, 0, 0, names...), Kind{Inputs: 5, Answers: true, Labels: []string{"0", "1"}}, ""}, // names come from elsewhere
		{made(t, 5, 0, 1), Kind{Inputs: 5, Answers: true, Labels: names}, "it is of a model that answers 1 numbers, and this one answers 0"},
		{made(t, 5, 0, 0, names...), Kind{Inputs: 5, Answers: true, Values: 1}, "it is of a model that answers 0 numbers, and this one answers 1"},
		{made(t, 5, 0, 3), Kind{Inputs: 5, Answers: true, Values: 4}, "it is of a model that answers 3 numbers, and this one answers 4"},
		{made(t, 5, 0, 8), Kind{Inputs: 5, Answers: true, Values: 40}, ""}, // the first ones are looked at
		{made(t, 5, 0, 3), Kind{}, ""},
	} {
		err := tt.r.Fits(tt.k)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", tt.k, err, tt.want)
		}
	}
	l, err := NewLearner(append(PictureNames, "score"), len(PictureNames), true, MinSamples)
	if err != nil {
		t.Fatal(err)
	}
	var look Look
	for i := range MinSamples {
		look.From(8, 8, 1, func(k int) float64 { return float64((k*7 + i*13) % 256) })
		l.AddPicture(&look, []float64{1}, "on")
	}
	r, err := l.Reference()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Fits(Kind{Inputs: 784, Picture: true, Answers: true, Labels: names}); err != nil {
		t.Error(err)
	}
	if err := r.Fits(Kind{Inputs: 5, Answers: true, Labels: names}); err == nil || !strings.Contains(err.Error(), "it is of pictures, and the model takes 5 numbers") {
		t.Errorf("of pictures: %v", err)
	}
}
