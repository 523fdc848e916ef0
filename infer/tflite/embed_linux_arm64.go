package tflite

import "embed"

// packed holds the libraries of this platform, where `make build` put them.
//
//go:embed lib/linux_arm64
var packed embed.FS

const packedFolder = "lib/linux_arm64/"
