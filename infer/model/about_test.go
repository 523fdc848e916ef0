package model

import (
	"os"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
	"edgegateway/internal/testkit"
)

// TestAbout reads what authors say of their models, and nothing of what none
// said.
func TestAbout(t *testing.T) {
	for file, want := range map[string]About{
		"yamnet_audio_classifier_with_metadata.tflite": {Name: "yamnet/classification", Author: "TensorFlow"},
		"hello_world_float.tflite":                     {},
	} {
		data, err := os.ReadFile(testkit.Shared(t, "models/"+file))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Read(data)
		if err != nil {
			t.Fatal(err)
		}
		got := m.About()
		t.Logf("%s: %+v", file, got)
		if got.Name != want.Name || !strings.Contains(got.Author, want.Author) || want == (About{}) && got != want {
			t.Errorf("%s: %+v", file, got)
		}
	}
	m := Model{}
	b := flatbuffers.NewBuilder(64)
	b.FinishWithFileIdentifier((&schema.ModelMetadataT{Name: "a\x1b[31m\xffb", License: strings.Repeat("x", 10000)}).Pack(b), []byte("M001"))
	m.SetMeta("TFLITE_METADATA", b.FinishedBytes())
	if a := m.About(); a.Name != "a[31mb" || len(a.Licence) != maxAbout {
		t.Errorf("of what harms a terminal is left %q, of a licence %d bytes", a.Name, len(a.Licence))
	}
	for cut := range b.FinishedBytes() {
		m.SetMeta("TFLITE_METADATA", b.FinishedBytes()[:cut])
		_ = m.About() // whatever it is, it does not panic
	}
}
