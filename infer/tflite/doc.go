// Package tflite is the TensorFlow Lite C API for Go without cgo: the shared
// library is opened at run time. It holds no policy: which delegate, how many
// threads and what an output means is decided elsewhere.
package tflite
