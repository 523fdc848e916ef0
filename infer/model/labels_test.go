package model

import (
	"archive/zip"
	"bytes"
	"slices"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
	"edgegateway/internal/testkit"
)

// packed is a model with files packed behind it, given as name, text, name ...
// With a label file named in the metadata, for its only output.
func packed(t testing.TB, metadataNames string, kind schema.AssociatedFileType, files ...string) []byte {
	t.Helper()
	m := schema.GetRootAsModel(int8Dense(0.1), 0).UnPack()
	if metadataNames != "" {
		meta := schema.ModelMetadataT{SubgraphMetadata: []*schema.SubGraphMetadataT{{
			OutputTensorMetadata: []*schema.TensorMetadataT{{
				AssociatedFiles: []*schema.AssociatedFileT{{Name: metadataNames, Type: kind}},
			}},
		}}}
		b := flatbuffers.NewBuilder(256)
		b.FinishWithFileIdentifier(meta.Pack(b), []byte("M001"))
		m.Buffers = append(m.Buffers, &schema.BufferT{Data: b.FinishedBytes()})
		m.Metadata = []*schema.MetadataT{{Name: "TFLITE_METADATA", Buffer: uint32(len(m.Buffers) - 1)}}
	}
	out := bytes.NewBuffer(pack(m))
	z := zip.NewWriter(out)
	z.SetOffset(int64(out.Len()))
	for i := 0; i < len(files); i += 2 {
		f, err := z.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(files[i+1]))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestLabels(t *testing.T) {
	axis, values := schema.AssociatedFileTypeTENSOR_AXIS_LABELS, schema.AssociatedFileTypeTENSOR_VALUE_LABELS
	for _, c := range []struct {
		name string
		file []byte
		want []string
		err  string
	}{
		{"nothing packed", int8Dense(0.1), nil, ""},
		{"named", packed(t, "classes.txt", axis, "labels.txt", "x\ny\n", "classes.txt", "cat\ndog\n"), []string{"cat", "dog"}, ""},
		{"of values", packed(t, "classes.txt", values, "vocab.txt", "x", "classes.txt", "cat\r\n\r\ndog\r\n\r\n"), []string{"cat", "", "dog"}, ""},
		{"by its file name", packed(t, "", 0, "vocab.txt", "x\ny", "m/My_Labels.txt", "\ufeffcat\ndog"), []string{"cat", "dog"}, ""},
		{"a vocabulary is no label file", packed(t, "vocab.txt", schema.AssociatedFileTypeVOCABULARY, "vocab.txt", "x\ny"), nil, ""},
		{"named but not there", packed(t, "classes.txt", axis, "labels.txt", "cat"), nil, "not packed"},
		{"empty", packed(t, "", 0, "labels.txt", "\n"), nil, "no label"},
		{"too large", packed(t, "", 0, "labels.txt", strings.Repeat("a", maxLabelFile+1)), nil, "more than"},
		{"too many", packed(t, "", 0, "labels.txt", strings.Repeat("a\n", maxLabels+1)), nil, "lines are more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Read(c.file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Labels()
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("labels %q, want %q", got, c.want)
			}
		})
	}
}

func TestLabelsOfRealModels(t *testing.T) {
	for _, c := range []struct {
		file  string
		n     int
		index int
		label string
	}{
		{"yamnet_audio_classifier_with_metadata", 521, 0, "Speech"},
		{"mobilenet_v2_1.0_224_quant", 1001, 283, "tiger cat"},
		{"nl_classifier_with_regex_tokenizer", 2, 1, "Positive"},
		{"detect", 0, 0, ""},
		{"regex_one_embedding_with_metadata", 0, 0, ""},
	} {
		m, _ := readFile(t, testkit.Shared(t, "models/"+c.file+".tflite"))
		labels, err := m.Labels()
		if err != nil || len(labels) != c.n || c.n > 0 && labels[c.index] != c.label {
			t.Errorf("%s: %d labels, %v", c.file, len(labels), err)
			if c.n > 0 && len(labels) == c.n {
				t.Errorf("label %d is %q", c.index, labels[c.index])
			}
		}
	}
}

// FuzzLabels: no archive and no metadata make Labels or the report panic.
func FuzzLabels(f *testing.F) {
	f.Add([]byte("cat\ndog"), "labels.txt", []byte("PK"))
	f.Add(packed(f, "classes.txt", schema.AssociatedFileTypeTENSOR_AXIS_LABELS, "classes.txt", "cat")[:600], "x", []byte{})
	f.Fuzz(func(t *testing.T, meta []byte, name string, tail []byte) {
		m := schema.GetRootAsModel(int8Dense(0.1), 0).UnPack()
		m.Buffers = append(m.Buffers, &schema.BufferT{Data: meta})
		m.Metadata = []*schema.MetadataT{{Name: "TFLITE_METADATA", Buffer: uint32(len(m.Buffers) - 1)}}
		m.Description = name
		data := append(pack(m), tail...)
		read, err := Read(data)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = read.Labels()
		_ = read.Packed()
		if err := read.Describe(&bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSetLabels(t *testing.T) {
	m, err := Read(int8Dense(0.1))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"nobody", "person", "dog or cat"}
	if err := m.SetLabels(want); err != nil {
		t.Fatal(err)
	}
	b, err := m.Write()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Model{m, again} {
		if got, err := m.Labels(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v", got, err)
		}
		if m.labelFile() != "labels.txt" {
			t.Errorf("the metadata names %q", m.labelFile())
		}
	}
	for _, bad := range [][]string{{"two\nlines"}, {" space"}, {"a", ""}} {
		if err := m.SetLabels(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
