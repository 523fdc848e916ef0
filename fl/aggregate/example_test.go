package aggregate_test

import (
	"fmt"
	"log"

	"edgegateway/fl/aggregate"
)

// A round of two participants: what each learned passes some functions, is made
// small, travels, and moves the weights; these pass some functions again. More
// steps on the way are more functions.
func Example() {
	before := []func(delta []float32) error{
		func(delta []float32) error { // this weight stays at home
			delta[3] = 0
			return nil
		},
	}
	after := []func(weights []float32) error{
		func(weights []float32) error {
			for i, w := range weights {
				weights[i] = min(max(w, -1), 1)
			}
			return nil
		},
	}
	weights := []float32{0.5, 0.5, 0.5, 0.5}
	strategy, err := aggregate.New(aggregate.DefaultConfig())
	if err != nil {
		log.Fatal(err)
	}
	if err := strategy.Begin(len(weights)); err != nil {
		log.Fatal(err)
	}
	for name, delta := range map[string][]float32{"hall-7": {0.25, 0, -1, 3}, "hall-8": {0.75, 0, 2.5, 5}} {
		for _, f := range before {
			if err := f(delta); err != nil {
				log.Fatal(err)
			}
		}
		data, _, err := aggregate.Encode(aggregate.DefaultCompression(), delta, nil, 1)
		if err != nil {
			log.Fatal(err)
		}
		delta, err := aggregate.Decode(data, len(weights))
		if err != nil {
			log.Fatal(err)
		}
		if err := strategy.Add(aggregate.Update{From: name, Samples: 10, Delta: delta}); err != nil {
			log.Fatal(err)
		}
	}
	report, err := strategy.Finish(weights)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range after {
		if err := f(weights); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(weights, report.Counted, report.Samples)
	// Output: [1 0.5 1 0.5] 2 20
}
