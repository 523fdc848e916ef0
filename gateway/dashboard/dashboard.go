package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// Config is the HTTP listener.
type Config struct {
	Listen         string `yaml:"listen" desc:"host:port of metrics, health and status; empty for none"`
	BeyondLoopback bool   `yaml:"beyond_loopback" desc:"let other machines read them; who can reach the address needs no password"`
}

// DefaultConfig listens on loopback.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:9464"} }

// Validate checks the address.
func (c Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("listen: %q is no address and port such as 127.0.0.1:9464", c.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && !c.BeyondLoopback {
		return fmt.Errorf("listen: %s is open to other machines, without a password: set dashboard.beyond_loopback: true if that is meant", c.Listen)
	}
	return nil
}

// Health is one part's answer to whether it works; parts that are merely
// worse off than they could be (a missing accelerator, a cloud out of reach)
// say so and are still healthy.
type Health struct {
	Part   string `json:"part"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Source is what the page reads.
type Source interface {
	Ready() bool
	Health() []Health
	Status() any // for /api/status, as JSON
}

// Server is the HTTP server.
type Server struct {
	listener net.Listener
	http     http.Server
	log      zerolog.Logger
}

// New listens; Run serves.
func New(cfg Config, src Source, metrics prometheus.Gatherer, log zerolog.Logger) (*Server, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("dashboard.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, index)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		parts := src.Health()
		code := http.StatusOK
		for _, p := range parts {
			if !p.OK {
				code = http.StatusServiceUnavailable
			}
		}
		answer(w, code, parts)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !src.Ready() {
			answer(w, http.StatusServiceUnavailable, map[string]bool{"ready": false})
			return
		}
		answer(w, http.StatusOK, map[string]bool{"ready": true})
	})
	mux.HandleFunc("GET /api/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, src.Status())
	})
	return &Server{listener: l, log: log, http: http.Server{
		Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// index is what somebody reads who only knows the address.
const index = `Edge Gateway
/healthz     200 while every part works, else 503; the parts as JSON
/readyz      200 while the broker takes messages, else 503
/metrics     for Prometheus
/api/status  streams, models, alerts and links as JSON; edgegateway watch shows them
`

// Addr is where it listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close frees the address of a server that does not run.
func (s *Server) Close() error {
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		if s.http.Shutdown(grace) != nil {
			s.http.Close()
		}
	})
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("dashboard: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	w.Write(append(b, '\n'))
}
