package model

import (
	"strings"
	"testing"

	"edgegateway/infer/model/internal/schema"
)

// A subgraph that runs itself, or one that is not there, is refused by name.
func TestCalls(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(m *Model)
		want   string // "": taken
	}{
		"as it is": {func(*Model) {}, ""},
		"a body that is the whole": {func(m *Model) {
			m.Subgraphs[0].Ops[0].Builtin = &schema.WhileOptionsT{CondSubgraphIndex: 1}
		}, "op 0 WHILE: it runs subgraph 0, which runs it"},
		"a condition that is not there": {func(m *Model) {
			m.Subgraphs[0].Ops[0].Builtin = &schema.WhileOptionsT{CondSubgraphIndex: 3, BodySubgraphIndex: 2}
		}, "it runs subgraph 3, the file has 3"},
		"one below 0": {func(m *Model) {
			m.Subgraphs[0].Ops[0].Builtin = &schema.WhileOptionsT{CondSubgraphIndex: 1, BodySubgraphIndex: -2}
		}, "it runs subgraph -2"},
		"a ring of two": {func(m *Model) {
			m.Subgraphs[2].Ops[0] = Op{Code: "IF", Version: 1, Inputs: []int{1, 0}, Outputs: []int{2}, Builtin: &schema.IfOptionsT{ThenSubgraphIndex: 1, ElseSubgraphIndex: 0}}
		}, "op 0 IF of subgraph 2: it runs subgraph 0, which runs it"},
		"one twice": {func(m *Model) {
			m.Subgraphs[0].Ops[0].Builtin = &schema.WhileOptionsT{CondSubgraphIndex: 1, BodySubgraphIndex: 1}
		}, ""},
		"an initialisation of itself": {func(m *Model) {
			m.Subgraphs[1].Ops = append(m.Subgraphs[1].Ops, Op{Code: "CALL_ONCE", Version: 1, Builtin: &schema.CallOnceOptionsT{InitSubgraphIndex: 1}})
		}, "op 1 CALL_ONCE of subgraph 1: it runs subgraph 1, which runs it"},
	} {
		m := endless()
		c.damage(m)
		err := m.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
