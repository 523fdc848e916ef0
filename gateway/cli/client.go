package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/configs"
	"edgegateway/internal/link"
)

// clientFlags are those of every command that is an MQTT client.
type clientFlags struct {
	broker, id, user, passwordFile string
	ca, cert, key                  string
}

func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.broker, "broker", "b", "tcp://127.0.0.1:1883", "broker: tcp://, ssl://, ws://, wss:// or unix://")
	flags.StringVar(&f.id, "client-id", "", "client id; a random one where it is empty")
	flags.StringVarP(&f.user, "user", "u", "", "user name; the password is in --password-file or $EDGEGATEWAY_PASSWORD")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with the password, mode 0600")
	flags.StringVar(&f.ca, "ca", "", "certificate authority (PEM) of the broker")
	flags.StringVar(&f.cert, "cert", "", "client certificate (PEM)")
	flags.StringVar(&f.key, "key", "", "its key (PEM)")
}

func (f *clientFlags) connect(ctx context.Context) (*link.Conn, error) {
	value := ""
	if f.passwordFile == "" {
		value = os.Getenv("EDGEGATEWAY_PASSWORD")
	}
	password, err := configs.Secret(value, f.passwordFile)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	id := f.id
	if id == "" {
		id = fmt.Sprintf("edgegateway-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	}
	url := f.broker
	if !strings.Contains(url, "://") {
		url = "tcp://" + url
	}
	return link.Connect(ctx, link.Config{
		URL: url, ClientID: id, User: f.user, Password: password, CA: f.ca, Cert: f.cert, Key: f.key,
	})
}
