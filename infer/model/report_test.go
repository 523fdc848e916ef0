package model

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"edgegateway/infer/model/internal/schema"
)

func TestInspect(t *testing.T) {
	m, err := Read(packed(t, "classes.txt", schema.AssociatedFileTypeTENSOR_AXIS_LABELS, "classes.txt", "a\nb\nc"))
	if err != nil {
		t.Fatal(err)
	}
	r := m.Inspect()
	s := r.Sizes
	if s.File != m.Size || s.Weights != 12+12 || s.Metadata == 0 || s.Packed == 0 || s.Tables == 0 ||
		s.Weights+s.Metadata+s.Packed+s.Tables != s.File {
		t.Errorf("sizes %+v of %d", s, m.Size)
	}
	if r.Parameters != 15 || r.Labels != 3 || len(r.Packed) != 1 || r.Packed[0] != (PackedFile{"classes.txt", 5}) || r.Problem != "" {
		t.Errorf("report %+v", r)
	}
	g := r.Subgraphs[0]
	if len(g.Ops) != 1 || g.Ops[0] != (OpReport{Code: "FULLY_CONNECTED", Version: 4, Count: 1, Bytes: 24}) {
		t.Errorf("ops %+v", g.Ops)
	}
	if in := g.Inputs[0]; in.Name != "in" || in.Type != "int8" || in.Quant != "0.5 * (q - 0)" || in.Bytes != 0 {
		t.Errorf("input %+v", in)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		file []byte
		want []string
	}{
		{sparseDense(false), []string{"REFUSED", "put a DENSIFY between", "4 of 12 stored, 3xcsr"}},
		{int8Conv(0, 0.2, 0), []string{"notice", "XNNPACK refuses it", "CONV_2D", "2 scales 0 to 0.2 on dimension 0"}},
	} {
		m, err := Read(c.file)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := m.Describe(&out); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%q is not in:\n%s", w, out.String())
			}
		}
	}
}

// TestInspectRealModels: the parts of every file add up, and every constant
// that is computed with is counted once.
func TestInspectRealModels(t *testing.T) {
	for _, path := range sharedModels(t) {
		m, _ := readFile(t, path)
		r := m.Inspect()
		s := r.Sizes
		if s.Weights+s.Metadata+s.Packed+s.Tables != s.File || s.Tables <= 0 {
			t.Errorf("%s: sizes %+v", filepath.Base(path), s)
		}
		sum := 0
		for _, op := range r.Subgraphs[0].Ops {
			sum += op.Bytes
		}
		if sum == 0 && !m.EdgeTPU() || sum > s.Weights {
			t.Errorf("%s: operators take %d of %d bytes of weights", filepath.Base(path), sum, s.Weights)
		}
		var out bytes.Buffer
		if err := m.Describe(&out); err != nil || out.Len() < 300 {
			t.Errorf("%s: %v\n%s", filepath.Base(path), err, out.String())
		}
	}
}
