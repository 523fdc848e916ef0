package model

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"

	flatbuffers "github.com/google/flatbuffers/go"

	"edgegateway/infer/model/internal/schema"
)

// Bounds of what is read from the archive behind the tables.
const (
	maxPacked    = 64      // files
	maxLabelFile = 4 << 20 // bytes
	maxLabels    = 1 << 18
)

// PackedFile is a file in the zip archive at the end of a .tflite file.
type PackedFile struct {
	Name string `json:"name"`
	Size int    `json:"bytes"` // unpacked
}

// Packed lists the files in the archive at the end of the file, the first 64.
func (m *Model) Packed() []PackedFile {
	var list []PackedFile
	for _, f := range m.archive() {
		list = append(list, PackedFile{f.Name, int(min(f.UncompressedSize64, 1<<31-1))})
	}
	return list
}

// Labels are the class names packed in the file, by index: of the file that
// the author's metadata names for an output, else of a packed *label*.txt.
// They are nil, without an error, where the file holds none.
func (m *Model) Labels() ([]string, error) {
	files := m.archive()
	if len(files) == 0 {
		return nil, nil
	}
	name := m.labelFile()
	for _, f := range files {
		base := strings.ToLower(f.Name[strings.LastIndexByte(f.Name, '/')+1:])
		if f.Name != name && (name != "" || !strings.Contains(base, "label") || !strings.HasSuffix(base, ".txt")) {
			continue
		}
		if f.UncompressedSize64 > maxLabelFile {
			return nil, fmt.Errorf("packed labels %s: %d bytes are more than %d", f.Name, f.UncompressedSize64, maxLabelFile)
		}
		text, err := unpack(f)
		if err != nil {
			return nil, fmt.Errorf("packed labels %s: %w", f.Name, err)
		}
		labels, err := ParseLabels(text)
		if err != nil {
			return nil, fmt.Errorf("packed labels %s: %w", f.Name, err)
		}
		return labels, nil
	}
	if name != "" {
		return nil, fmt.Errorf("packed labels %s: the metadata names this file, but it is not packed", name)
	}
	return nil, nil
}

// ParseLabels reads a label file: a label a line, the first of index 0. Empty
// lines keep their index; those at the end are left out.
func ParseLabels(text []byte) ([]string, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	lines := strings.Split(strings.TrimRight(string(text), "\r\n\t "), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil, fmt.Errorf("there is no label in it")
	}
	if len(lines) > maxLabels {
		return nil, fmt.Errorf("%d lines are more than %d", len(lines), maxLabels)
	}
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return lines, nil
}

// archive are the files of the zip at the end; none where there is no archive
// that can be read.
func (m *Model) archive() []*zip.File {
	data := m.tail // what SetLabels packed, or what stood in the file
	if data == nil {
		data = m.data
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil
	}
	return z.File[:min(len(z.File), maxPacked)]
}

func unpack(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxLabelFile))
}

// labelFile is the label file that the author's metadata names: for the axis
// of an output first (classifiers), then for the values of one (detectors);
// "" where it names none. Of several languages the first is taken.
func (m *Model) labelFile() (name string) {
	data := m.Meta("TFLITE_METADATA")
	if len(data) < 8 || string(data[4:8]) != "M001" {
		return ""
	}
	// As in Read: an offset that leads outside panics.
	defer func() {
		if recover() != nil {
			name = ""
		}
	}()
	var g schema.SubGraphMetadata
	if f := schema.GetRootAsModelMetadata(data, 0); f.SubgraphMetadataLength() == 0 || !f.SubgraphMetadata(&g, 0) {
		return ""
	}
	var t schema.TensorMetadata
	var a schema.AssociatedFile
	values := ""
	// The vectors cost nothing to walk and may claim any length; no real model
	// has more outputs, or files of one, than it has packed.
	for i := range min(g.OutputTensorMetadataLength(), maxPacked) {
		g.OutputTensorMetadata(&t, i)
		for j := range min(t.AssociatedFilesLength(), maxPacked) {
			t.AssociatedFiles(&a, j)
			switch a.Type() {
			case schema.AssociatedFileTypeTENSOR_AXIS_LABELS:
				return string(a.Name())
			case schema.AssociatedFileTypeTENSOR_VALUE_LABELS:
				if values == "" {
					values = string(a.Name())
				}
			}
		}
	}
	return values
}

// tail is the archive at the end of a file, from its first header on.
func tail(data []byte) []byte {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil
	}
	first := int64(len(data))
	for _, f := range z.File {
		if at, err := f.DataOffset(); err == nil {
			first = min(first, at)
		}
	}
	// The header in front of the data has 30 bytes, a name and more, whose
	// lengths stand in it.
	for i := first - 30; i >= max(0, first-30-1<<17); i-- {
		h := data[i:first]
		if string(h[:4]) == "PK\x03\x04" && 30+int(h[26])+int(h[27])<<8+int(h[28])+int(h[29])<<8 == len(h) {
			return data[i:]
		}
	}
	return nil
}

// SetLabels packs class names into the file, as the format's metadata has
// them: a labels.txt in the archive at the end, named for the first output.
// Other packed files and metadata of the author's go; no labels leave none.
func (m *Model) SetLabels(labels []string) error {
	if len(labels) == 0 {
		m.tail = nil
		m.SetMeta("TFLITE_METADATA", nil)
		return nil
	}
	for i, l := range labels {
		if strings.ContainsAny(l, "\r\n") || strings.TrimSpace(l) != l || l == "" && i == len(labels)-1 {
			return fmt.Errorf("label %d: %q cannot stand in a line of its own", i, l)
		}
	}
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels are more than %d", len(labels), maxLabels)
	}
	const name = "labels.txt"
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, strings.Join(labels, "\n")+"\n"); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	m.tail = out.Bytes()
	meta := schema.ModelMetadataT{SubgraphMetadata: []*schema.SubGraphMetadataT{{
		OutputTensorMetadata: []*schema.TensorMetadataT{{
			AssociatedFiles: []*schema.AssociatedFileT{{Name: name, Type: schema.AssociatedFileTypeTENSOR_AXIS_LABELS}},
		}},
	}}}
	b := flatbuffers.NewBuilder(256)
	b.FinishWithFileIdentifier(meta.Pack(b), []byte("M001"))
	m.SetMeta("TFLITE_METADATA", b.FinishedBytes())
	return nil
}
