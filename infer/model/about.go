package model

import (
	"slices"
	"strings"
	"unicode"

	"edgegateway/infer/model/internal/schema"
)

// About is what a file's author says of it in its metadata; "" where nothing.
type About struct {
	Name, Description, Version, Author, Licence string
}

// String is name and description, and who made it, in one line.
func (a About) String() string {
	parts := []string{a.Name, a.Description}
	if a.Version != "" {
		parts = append(parts, "version "+a.Version)
	}
	if a.Author != "" {
		parts = append(parts, "by "+a.Author)
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	return strings.Join(strings.Fields(strings.Join(parts, ", ")), " ")
}

// maxAbout bounds each text of an About, in bytes.
const maxAbout = 4 << 10

// About reads the author's metadata. Control characters are left out, and what
// is beyond 4 KiB of a text.
func (m *Model) About() (a About) {
	data := m.Meta("TFLITE_METADATA")
	if len(data) < 8 || string(data[4:8]) != "M001" {
		return a
	}
	// As in Read: an offset that leads outside panics.
	defer func() {
		if recover() != nil {
			a = About{}
		}
	}()
	text := func(b []byte) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				return -1
			}
			return r
		}, strings.ToValidUTF8(string(b[:min(len(b), maxAbout)]), "")))
	}
	g := schema.GetRootAsModelMetadata(data, 0)
	return About{text(g.Name()), text(g.Description()), text(g.Version()), text(g.Author()), text(g.License())}
}
