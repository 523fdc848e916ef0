//go:build !linux

package tflite

import "io"

// place writes the library into a folder of its own.
func place(name string, write func(io.Writer) error) (string, func(), error) {
	return placeInCache(name, write)
}
