package pipeline

import (
	"time"

	"edgegateway/infer"
)

// Result is the envelope around what a model, or features alone, said about
// one sample or window. A sink may use it until it returns: the worker reuses
// it for the next one.
type Result struct {
	ID       string // stream/source/epoch-seq, with .1 and on for further windows of one message
	Stream   string
	Source   string
	Time     time.Time // of the sample, from the payload where it has one
	Begin    time.Time // of a window's first reading, whose last one is of Time; zero elsewhere
	Received time.Time // when the broker had it
	Seq      uint64
	// Features are the stream's fields and window features by name
	// ("cpu", "cpu.mean"), in a fixed order.
	Features []Feature
	// Infer is what the model said; its Model is "" on a stream without one.
	Infer infer.Result
	// Picture is the encoded picture (JPEG, PNG or BMP) of a camera stream,
	// nil for others. It is not part of the JSON.
	Picture []byte
}

// Feature is a named number of a window or of one reading.
type Feature struct {
	Name  string
	Value float64
}
