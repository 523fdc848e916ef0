package aggregate

import (
	"fmt"
	"runtime"
	"sync"
)

// keptLimit is how many bytes of updates a method may hold that needs them all.
const keptLimit = 2 << 30

// kept is the updates of a round, for methods that compare them: 4 bytes a
// weight and update.
type kept struct {
	stateless
	list [][]float32
}

func (k *kept) keeps() bool { return true }

func (k *kept) begin(int) { k.list = nil }

func (k *kept) weight(*Update) float64 { return 1 }

func (k *kept) add(u *Update, scale float64) error {
	if int64(len(k.list)+1)*int64(len(u.Delta)) > keptLimit/4 {
		return fmt.Errorf("update of %s: %w: the method compares them all and %d of %d weights take %d MB; lower cohort.size", u.From, ErrFull, len(k.list), len(u.Delta), keptLimit>>20)
	}
	x := u.Delta
	if scale != 1 {
		x = make([]float32, len(x))
		for i, v := range u.Delta {
			x[i] = float32(float64(v) * scale)
		}
	}
	k.list = append(k.list, x)
	return nil
}

// tooFew sets all aside where the method has fewer than it needs.
func tooFew(r *Report, members []member, least int, method string) bool {
	if len(members) >= least {
		return false
	}
	for _, m := range members {
		r.SetAside = append(r.SetAside, Aside{From: m.from, Why: fmt.Sprintf("%d updates came, %s needs %d", len(members), method, least)})
	}
	r.Counted, r.Samples = 0, 0
	return true
}

// inParts runs work on parts of 0..n, as many at once as there are processors.
func inParts(n, part int, work func(from, to int)) {
	var wg sync.WaitGroup
	todo := make(chan int)
	for range min(runtime.GOMAXPROCS(0), (n+part-1)/part) {
		wg.Go(func() {
			for from := range todo {
				work(from, min(from+part, n))
			}
		})
	}
	for from := 0; from < n; from += part {
		todo <- from
	}
	close(todo)
	wg.Wait()
}
