package infer

import "testing"

// BenchmarkSwap is one exchange of a small model, with the wide interpreters.
func BenchmarkSwap(b *testing.B) {
	versions, _ := twoVersions(b)
	for _, delegate := range []string{"builtin", "xnnpack:3"} {
		for name, wide := range map[string]bool{"narrow": false, "wide": true} {
			b.Run(delegate+" "+name, func(b *testing.B) {
				for i := range versions {
					versions[i].Delegate = delegate
				}
				e := newEngine(b, b.TempDir(), nil, map[string]ModelConfig{"m": versions[0]})
				m, _ := e.Model("m")
				i := 0
				for b.Loop() {
					i++
					m.live.Load().widened.Store(wide)
					if err := e.Swap("m", versions[i%2], nil, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
