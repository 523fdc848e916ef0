//go:build !linux

package tflite

// places are where the library of the program is opened from.
var places = []place{inCache}
