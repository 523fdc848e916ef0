package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"edgegateway/gateway/app"
	"edgegateway/infer"
)

func runCommand(version string) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway",
		Long: `Run the gateway until Ctrl-C or SIGTERM. SIGHUP reads the configuration again and
applies it without losing a message; one that is not right changes nothing.`,
		Example: "  edgegateway run --config /etc/edgegateway.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// From the first moment: it would end the process.
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			load := func() (app.Config, error) { return app.LoadConfig(config) }
			cfg, err := load()
			if errors.Is(err, fs.ErrNotExist) && !cmd.Flags().Changed("config") {
				err = fmt.Errorf("%w; --config names another file, configs/demo.yaml is an example", err)
			}
			if err != nil {
				return invalid(err)
			}
			trial, err := childTrial()
			if err != nil {
				return err
			}
			preflight, err := childPreflight()
			if err != nil {
				return err
			}
			defer runtime.KeepAlive(heapFloor())
			log := newLogger(cfg.Log, os.Stderr)
			reg := prometheus.NewRegistry()
			reg.MustRegister(buildInfo(version), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
			a, err := app.New(cfg, load, trial, log, reg)
			var wrong *app.ConfigError
			if errors.As(err, &wrong) {
				return invalid(err)
			}
			if err != nil {
				return taken(err)
			}
			a.Preflight(preflight)
			exe, err := os.Executable()
			if err != nil {
				return errors.Join(err, a.Close())
			}
			a.Learn(version, exe, flChild...)
			log.Info().Str("gateway", cfg.Gateway).Str("version", version).Int("process", os.Getpid()).Msg("starting")
			ctx, stop := context.WithCancel(cmd.Context())
			var beside sync.WaitGroup
			beside.Go(func() { reloads(ctx, a, hup) })
			beside.Go(func() { tellManager(ctx, a.BrokerReady(), log) })
			defer beside.Wait()
			defer stop()
			err = a.Run(cmd.Context())
			log.Info().Msg("stopped")
			return taken(err)
		},
	}
	cmd.Flags().StringVarP(&config, "config", "c", "edgegateway.yaml", "configuration file")
	completeFiles(cmd, "config", "yaml", "yml")
	return cmd
}

// buildInfo is a metric that is 1, with what runs as its labels.
func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "edgegateway_build_info", Help: "1, with what runs as labels.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version(), "goos": runtime.GOOS, "goarch": runtime.GOARCH},
	}, func() float64 { return 1 })
}

// taken says what to look at where an address cannot be listened on.
func taken(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; another gateway or program listens there, give this one an address of its own", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w; it is no address of this machine", err)
	}
	return err
}

// reloads reads the configuration again at each SIGHUP.
func reloads(ctx context.Context, a *app.App, hup <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		_ = a.Reload() // it says itself in the log what it refuses
	}
}

// tellManager tells systemd (Type=notify) that the broker accepts, and that
// it stops. Without such a manager it does nothing.
func tellManager(ctx context.Context, ready <-chan struct{}, log zerolog.Logger) {
	tell := func(state string) {
		addr := os.Getenv("NOTIFY_SOCKET")
		if addr == "" {
			return
		}
		conn, err := net.Dial("unixgram", addr) // @ in front is an abstract one
		if err == nil {
			_, err = conn.Write([]byte(state))
			conn.Close()
		}
		if err != nil {
			log.Warn().Err(err).Msg("systemd is not told of " + state)
		}
	}
	select {
	case <-ready:
		tell("READY=1")
	case <-ctx.Done():
		return
	}
	<-ctx.Done()
	tell("STOPPING=1")
}

// heapFloor gives an object that counts for the collector but takes no
// memory, for nobody writes to it. A gateway keeps a few megabytes and
// throws hundreds a second away: without the floor the collector takes a
// fifth of the processor at full rate, with it a twentieth.
func heapFloor() []byte { return make([]byte, 24<<20) }

// completeFiles lets the shell complete a flag by files with these endings.
func completeFiles(cmd *cobra.Command, flag string, endings ...string) {
	if err := cmd.MarkFlagFilename(flag, endings...); err != nil {
		panic(err) // there is no such flag
	}
}

// childTrial tries models in a child process: this same program.
func childTrial() (infer.TrialFunc, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return infer.ChildTrial(exe, "trial"), nil
}

func trialCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "trial",
		Hidden:  true,
		Short:   "Try one candidate of a model; the gateway starts it by itself",
		Example: "  edgegateway trial < request",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return infer.RunTrial(cmd.Context(), os.Stdin, os.Stdout)
		},
	}
}

func newLogger(cfg app.LogConfig, w io.Writer) zerolog.Logger {
	level, err := zerolog.ParseLevel(cfg.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	if cfg.Format == "console" {
		f, ok := w.(*os.File)
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: !ok || !term.IsTerminal(int(f.Fd()))}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}
