//go:build !(linux && (amd64 || arm64)) && !(darwin && arm64)

package tflite

import "embed"

// packed is empty: there is no library for this platform.
var packed embed.FS

const packedFolder = ""
