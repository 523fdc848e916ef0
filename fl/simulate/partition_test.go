package simulate

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"edgegateway/infer/train"
)

// labelled is n samples of so many classes, class by class.
func labelled(n, classes int) *train.Dataset {
	d := &train.Dataset{Name: "made", Shape: train.Shape{1}, Values: make([]float32, n), Labels: make([]int32, n)}
	for c := range classes {
		d.Classes = append(d.Classes, string(rune('a'+c)))
	}
	for i := range n {
		d.Values[i], d.Labels[i] = float32(i), int32(i*classes/n)
	}
	return d
}

// kinds are how many classes each part has.
func kinds(d *train.Dataset, parts [][]int32) []int {
	list := make([]int, len(parts))
	for i, p := range parts {
		there := map[int32]bool{}
		for _, at := range p {
			there[d.Labels[at]] = true
		}
		list[i] = len(there)
	}
	return list
}

// Each sample goes to exactly one participant, each participant has one, and
// the same seed gives the same.
func TestDivide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Partition{Kind: rapid.SampledFrom([]string{"iid", "shards", "dirichlet", "quantity"}).Draw(t, "kind")}
		k := rapid.IntRange(1, 60).Draw(t, "participants")
		n := k * rapid.IntRange(4, 30).Draw(t, "samples each")
		switch p.Kind {
		case "shards":
			p.By = float64(rapid.IntRange(1, 4).Draw(t, "shards"))
		case "dirichlet", "quantity":
			p.By = math.Exp(rapid.Float64Range(math.Log(1e-3), math.Log(1e3)).Draw(t, "log alpha"))
		}
		seed := rapid.Uint64().Draw(t, "seed")
		d := labelled(n, rapid.IntRange(1, 5).Draw(t, "classes"))
		parts, err := p.Divide(d, k, seed)
		if err != nil {
			t.Fatal(err)
		}
		var all []int32
		for i, part := range parts {
			if len(part) == 0 {
				t.Fatalf("participant %d has nothing", i)
			}
			all = append(all, part...)
		}
		slices.Sort(all)
		if len(parts) != k || len(all) != n {
			t.Fatalf("%d parts of %d samples, not %d of %d", len(parts), len(all), k, n)
		}
		for i, at := range all {
			if at != int32(i) {
				t.Fatalf("sample %d is missing or there twice", i)
			}
		}
		again, err := p.Divide(d, k, seed)
		if err != nil || !slices.EqualFunc(parts, again, slices.Equal) {
			t.Fatalf("the same seed gives others, %v", err)
		}
	})
}

func TestDivideAsSaid(t *testing.T) {
	d := labelled(6000, 10)
	divide := func(s string) [][]int32 {
		t.Helper()
		p, err := ParsePartition(s)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != s {
			t.Errorf("%s is written %s", s, p)
		}
		parts, err := p.Divide(d, 100, 3)
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}
	for i, part := range divide("iid") {
		if len(part) != 60 {
			t.Errorf("iid: participant %d has %d samples", i, len(part))
		}
	}
	// 200 shards of 30 samples lie within the classes of 600.
	two := 0
	for i, n := range kinds(d, divide("shards:2")) {
		if n > 2 {
			t.Errorf("shards:2: participant %d has %d classes", i, n)
		}
		two += n - 1
	}
	if two < 70 {
		t.Errorf("shards:2: %d of 100 have two classes", two)
	}
	sum := func(list []int) (n int) {
		for _, v := range list {
			n += v
		}
		return n
	}
	few, some, all := sum(kinds(d, divide("dirichlet:0.05"))), sum(kinds(d, divide("dirichlet:0.5"))), sum(kinds(d, divide("dirichlet:1000")))
	if !(few < 300 && few < some && some < all && all > 990) {
		t.Errorf("dirichlet: %d, %d and %d classes at 0.05, 0.5 and 1000", few, some, all)
	}
	longest := func(parts [][]int32) (n int) {
		for _, p := range parts {
			n = max(n, len(p))
		}
		return n
	}
	if even, uneven := longest(divide("quantity:1000")), longest(divide("quantity:0.5")); even > 80 || uneven < 200 {
		t.Errorf("quantity: at most %d samples at 1000, %d at 0.5", even, uneven)
	}
	for i, n := range kinds(d, divide("quantity:1000")) {
		if n < 8 {
			t.Errorf("quantity: participant %d has %d of 10 classes", i, n)
		}
	}
}

func TestPartitionRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"": "none of", "half": "none of", "iid:1": "no number", "shards:0": "1..1000", "shards:1.5": "1..1000", "shards:x": "no number",
		"dirichlet:0": "alpha", "dirichlet:NaN": "alpha", "quantity:-1": "alpha", "quantity:Inf": "alpha",
	} {
		if _, err := ParsePartition(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
	d := labelled(10, 2)
	if _, err := (Partition{Kind: "iid"}).Divide(d, 11, 1); err == nil {
		t.Error("10 samples for 11 participants")
	}
	if _, err := (Partition{Kind: "shards", By: 2}).Divide(d, 6, 1); err == nil {
		t.Error("10 samples in 12 shards")
	}
	d.Labels = nil
	if _, err := (Partition{Kind: "dirichlet", By: 1}).Divide(d, 2, 1); err == nil {
		t.Error("values are divided by classes")
	}
}
