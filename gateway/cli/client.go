package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edgegateway/configs"
	"edgegateway/gateway/app"
	"edgegateway/internal/link"
)

// defaultBroker is where a gateway listens that is not told otherwise.
const defaultBroker = "tcp://127.0.0.1:1883"

// clientFlags are those of every command that is an MQTT client.
type clientFlags struct {
	broker, id, user, passwordFile string
	ca, cert, key                  string
}

func (f *clientFlags) add(cmd *cobra.Command) { f.addWith(cmd, "key") }

// addWith is add for a command that calls the key of --cert something else,
// because it has a key of its own.
func (f *clientFlags) addWith(cmd *cobra.Command, key string) {
	flags := cmd.Flags()
	flags.StringVarP(&f.broker, "broker", "b", defaultBroker, "broker: mqtt://, tcp://, with TLS mqtts://, ssl://; ws://, wss://, unix://, or HOST:PORT")
	flags.StringVar(&f.id, "client-id", "", "client id; a random one where it is empty")
	flags.StringVarP(&f.user, "user", "u", "", "user name; the password is in --password-file or $EDGEGATEWAY_PASSWORD")
	flags.StringVar(&f.passwordFile, "password-file", "", "file with the password, mode 0600")
	flags.StringVar(&f.ca, "ca", "", "certificate authority (PEM) of the broker")
	flags.StringVar(&f.cert, "cert", "", "client certificate (PEM)")
	flags.StringVar(&f.key, key, "", "key of --cert (PEM)")
	completeFiles(cmd, "password-file")
	for _, name := range []string{"ca", "cert", key} {
		completeFiles(cmd, name, "pem", "crt", "key")
	}
}

// config is what the flags come to.
func (f *clientFlags) config() (link.Config, error) {
	value := ""
	if f.passwordFile == "" {
		value = os.Getenv("EDGEGATEWAY_PASSWORD")
	}
	password, err := configs.Secret(value, f.passwordFile)
	if err != nil {
		return link.Config{}, fmt.Errorf("password: %w", err)
	}
	id := f.id
	if id == "" {
		id = fmt.Sprintf("edgegateway-%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
	}
	address, _, err := link.Address(f.broker)
	if err != nil {
		return link.Config{}, &exitError{exitUsage, fmt.Errorf("--broker %w", err)}
	}
	return link.Config{URL: address, ClientID: id, User: f.user, Password: password, CA: f.ca, Cert: f.cert, Key: f.key}, nil
}

func (f *clientFlags) connect(ctx context.Context) (*link.Conn, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	conn, err := link.Connect(ctx, cfg)
	if errors.Is(err, syscall.ECONNREFUSED) && cfg.URL == defaultBroker {
		err = fmt.Errorf("%w; --broker names another", err)
	}
	return conn, err
}

// refused explains why a broker ended the connection at a message of so many
// bytes. In MQTT 3.1.1 that is its answer to a publish that is not allowed.
func (f *clientFlags) refused(ctx context.Context, topic string, size int, err error) error {
	large := size > 256<<10
	if err == nil || ctx.Err() != nil || !errors.Is(err, link.ErrEnded) && !large {
		return err
	}
	again, away := f.connect(ctx)
	if away != nil { // it is gone altogether
		return err
	}
	again.Close()
	why := f.mayNot("publish", topic)
	if size > app.DefaultConfig().Broker.Limits.MaxPacketBytes {
		why = fmt.Sprintf("perhaps %d bytes are more than it takes, for a gateway broker.limits.max_packet_bytes, %d where it is left out", size, app.DefaultConfig().Broker.Limits.MaxPacketBytes)
	} else if large {
		why = fmt.Sprintf("perhaps %d bytes are more than the broker takes (broker.limits of a gateway), or %s", size, why)
	}
	return fmt.Errorf("publish %s: the broker refused it: %s", topic, why)
}

// mayNot says who may not publish or subscribe, and what would change that.
func (f *clientFlags) mayNot(verb, topic string) string {
	switch {
	case strings.HasPrefix(topic, "$") && verb == "publish":
		return "no client publishes to topics that begin with $"
	case f.user == "":
		return fmt.Sprintf("a client without a user may not %s there; --user names one, or a gateway's configuration allows it: broker.anonymous.%[1]s: [%q]", verb, topic)
	}
	return fmt.Sprintf("user %q may not %s there; a gateway's configuration allows it: broker.users.%[1]s.%[2]s: [%[3]q]", f.user, verb, topic)
}
