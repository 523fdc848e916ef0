package train

import "testing"

// Without a softmax labelled data is learned by the cross-entropy of logits; a
// teacher of other widths, or values, by squares.
func TestLossOfLogits(t *testing.T) {
	labelled := &Dataset{Shape: Shape{2}, Values: []float32{1, 2, 3, 4}, Labels: []int32{0, 1}, Classes: []string{"a", "b"}}
	for _, c := range []struct {
		units      int
		activation string
		data       *Dataset
		want       string
	}{
		{2, "", labelled, "cross_entropy"},
		{2, "softmax", labelled, "cross_entropy"},
		{3, "", labelled, "mse"},
		{1, "", labelled, "mse"},
		{1, "sigmoid", labelled, "binary_cross_entropy"},
		{2, "", &Dataset{Shape: Shape{2}, Values: []float32{1, 2}, Targets: []float32{1, 2}, Width: 2}, "mse"},
	} {
		net, err := New(Spec{[]LayerSpec{{Type: "dense", Units: c.units, Activation: c.activation}}}, Shape{2}, c.units, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := lossFor("auto", net, c.data); err != nil || got != c.want {
			t.Errorf("%d outputs with %q: %s %v, want %s", c.units, c.activation, got, err, c.want)
		}
	}
}
