// Package model reads .tflite files as Go values: operators, tensors, shapes,
// quantization, metadata and labels; and names what the runtime would get
// wrong before the runtime sees it. It never panics, whatever the bytes.
package model
