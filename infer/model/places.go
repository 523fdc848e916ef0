package model

import "slices"

// Place says where in the file that was read the bytes of a constant stand.
type Place struct {
	Offset, Size int
	Tensor       *Tensor // the first that has them
}

// Places lists the constants of a model by their place in the file, each once;
// one that overlaps another is left out. It is of the file that Read was given,
// whatever was changed since.
func (m *Model) Places() []Place {
	var list []Place
	seen := map[int]bool{}
	for i := range m.Subgraphs {
		g := &m.Subgraphs[i]
		for k := range g.Tensors {
			t := &g.Tensors[k]
			b := t.BufferIndex
			if b < 0 || b >= len(m.places) || seen[b] || len(m.buffers[b]) == 0 {
				continue
			}
			seen[b] = true
			list = append(list, Place{m.places[b], len(m.buffers[b]), t})
		}
	}
	slices.SortFunc(list, func(a, b Place) int { return a.Offset - b.Offset })
	end := 0
	return slices.DeleteFunc(list, func(p Place) bool {
		if p.Offset < end {
			return true
		}
		end = p.Offset + p.Size
		return false
	})
}
