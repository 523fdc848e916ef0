package cli

import (
	"strings"
	"testing"

	"edgegateway/fl/simulate"
)

// The parts of data are those of the virtual participants, in their order; what is
// no part is refused.
func TestFLJoinPart(t *testing.T) {
	d, _ := clouds(100, 1)
	for _, partition := range []string{"iid", "shards:2", "dirichlet:0.5", "quantity:0.5"} {
		by, err := simulate.ParsePartition(partition)
		if err != nil {
			t.Fatal(err)
		}
		want, err := by.Divide(d, 3, 9)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range []string{"1/3", "2/3", "3/3"} {
			p := dataPart{part, partition}
			got, err := p.take(d, 9)
			if err != nil || got.Len() != len(want[i]) {
				t.Fatalf("%s %s: %v, %v", partition, part, got, err)
			}
			for k, place := range want[i] {
				if got.Values[8*k] != d.Values[8*place] || got.Labels[k] != d.Labels[place] {
					t.Errorf("%s %s: sample %d is another one than %d", partition, part, k, place)
				}
			}
		}
	}
	if got, err := (&dataPart{"", "iid"}).take(d, 9); err != nil || got != d {
		t.Errorf("without a part: %v, %v", got, err)
	}
	for _, c := range []struct{ part, partition, want string }{
		{"0/3", "iid", "is not such as 3/8"}, {"4/3", "iid", "is not such as 3/8"}, {"3", "iid", "is not such as 3/8"}, {"1/3x", "iid", "is not such as 3/8"},
		{"-1/3", "iid", "is not such as 3/8"}, {"1/3 2", "iid", "is not such as 3/8"}, {"1/3", "even", `partition "even" is none of`}, {"1/101", "iid", "100 samples are not enough"},
	} {
		if _, err := (&dataPart{c.part, c.partition}).take(d, 9); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
