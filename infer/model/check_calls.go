package model

import (
	"fmt"

	"edgegateway/infer/model/internal/schema"
)

// calls are the subgraphs that an operator runs.
func (op *Op) calls() []int {
	switch o := op.Builtin.(type) {
	case *schema.WhileOptionsT:
		return []int{int(o.CondSubgraphIndex), int(o.BodySubgraphIndex)}
	case *schema.IfOptionsT:
		return []int{int(o.ThenSubgraphIndex), int(o.ElseSubgraphIndex)}
	case *schema.CallOnceOptionsT:
		return []int{int(o.InitSubgraphIndex)}
	case *schema.CallOptionsT:
		return []int{int(o.Subgraph)}
	}
	return nil
}

// checkCalls judges which subgraphs run which: one that runs itself, also by way
// of others, uses up the runtime's stack, which ends the process.
func (m *Model) checkCalls() (problems []error) {
	const under, done = 1, 2
	state := make([]byte, len(m.Subgraphs))
	var visit func(gi int)
	visit = func(gi int) {
		state[gi] = under
		for i := range m.Subgraphs[gi].Ops {
			for _, to := range m.Subgraphs[gi].Ops[i].calls() {
				switch {
				case to < 0 || to >= len(m.Subgraphs):
					problems = append(problems, fmt.Errorf("%s: it runs subgraph %d, the file has %d; the file is damaged, or convert it again", m.opName(gi, i), to, len(m.Subgraphs)))
				case state[to] == under:
					problems = append(problems, fmt.Errorf("%s: it runs subgraph %d, which runs it: that would never end; the file is damaged, or convert it again", m.opName(gi, i), to))
				case state[to] != done:
					visit(to)
				}
			}
		}
		state[gi] = done
	}
	for gi := range m.Subgraphs {
		if state[gi] != done {
			visit(gi)
		}
	}
	return problems
}
