// Edgegateway turns a small computer into an AI gateway for things: an MQTT
// broker, TensorFlow Lite on what arrives, results and alerts up to the cloud.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"edgegateway/gateway/cli"
)

// version is set by the build.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // who asks twice does not want to wait
	code := cli.Run(ctx, version, os.Args[1:])
	stop()
	os.Exit(code)
}
