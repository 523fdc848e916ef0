// Package schema is the .tflite file format in Go, generated from the two
// schema files beside it: accessors that read in place, and the object API
// (names that end in T) that builds files. Accessors panic on offsets that
// lead outside the bytes: infer/model is the only reader.
package schema

//go:generate flatc --go --gen-object-api --gen-onefile --go-namespace schema tflite.fbs metadata.fbs
//go:generate gofmt -w tflite_generated.go metadata_generated.go
