package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsReadyWithin is how long a server may take, most of it to read back its streams.
const natsReadyWithin = 30 * time.Second

// NATSConfig says where the server keeps its streams and whether it listens. Only Dir has no default.
type NATSConfig struct {
	// Dir is the folder that holds jetstream/ and nats.lock. It is made when missing.
	Dir string
	// Host is the address to listen on; empty means 127.0.0.1.
	Host string
	// Port to listen on; 0 listens nowhere and serves this process alone, -1 takes a free one.
	Port int
	// SyncAlways writes each message through to the disk before it is acknowledged.
	SyncAlways bool
	// Log receives the server's own log lines, errors at warn level and all else at debug; nil discards them.
	Log *slog.Logger
}

// NATS is a NATS server with JetStream in this process. Stop it with [NATS.Stop].
type NATS struct {
	server *server.Server
	lock   *flock.Flock
	listen bool
	stop   sync.Once
}

// StartNATS starts a server and returns when it takes connections. The error is [ErrInUse] when another process
// has the folder.
func StartNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil || cfg.Dir == "" {
		return nil, errors.New("start nats: no data directory given")
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := lockDir(dir, "nats.lock")
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "obs",
		Host:       cfg.Host,
		Port:       cfg.Port,
		DontListen: cfg.Port == 0,
		JetStream:  true,
		StoreDir:   dir, // the server makes jetstream/ below it
		SyncAlways: cfg.SyncAlways,
		NoSigs:     true,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start nats: %w", err), lock.Unlock())
	}
	logger := &natsLogger{log: cfg.Log}
	srv.SetLoggerV2(logger, false, false, false)
	n := &NATS{server: srv, lock: lock, listen: cfg.Port != 0}
	srv.Start() // what goes wrong in it is only logged, as fatal
	if err := n.waitReady(ctx, cfg, logger); err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

func (n *NATS) waitReady(ctx context.Context, cfg NATSConfig, logger *natsLogger) error {
	deadline := time.Now().Add(natsReadyWithin)
	for {
		if fatal := logger.firstFatal(); fatal != "" {
			if portTaken(cfg.Host, cfg.Port) {
				return fmt.Errorf("port %d on %s is already in use: stop what listens there or choose another port for NATS", cfg.Port, cfg.Host)
			}
			return fmt.Errorf("start nats: %s", fatal)
		}
		if n.server.ReadyForConnections(readyEvery) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("start nats: %w", ctx.Err())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("start nats: not ready within %v", natsReadyWithin)
		}
	}
}

func portTaken(host string, port int) bool {
	if port <= 0 {
		return false
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	_ = listener.Close()
	return false
}

// Connect makes a connection inside this process, without a network. The caller closes it.
func (n *NATS) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{nats.InProcessServer(n.server)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to embedded nats: %w", err)
	}
	return nc, nil
}

// ClientURL is the address for other processes, such as "nats://127.0.0.1:4222"; empty when the server does not
// listen.
func (n *NATS) ClientURL() string {
	if !n.listen {
		return ""
	}
	return n.server.ClientURL()
}

// Stop closes all connections, writes the streams out and returns when the server has ended. Later calls do
// nothing.
func (n *NATS) Stop() {
	n.stop.Do(func() {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		_ = n.lock.Unlock() // closing a file that was only locked: nothing is lost
	})
}

// natsLogger gives the server's lines to slog, and remembers what it calls fatal: the server goes on after that.
type natsLogger struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal string
}

func (l *natsLogger) Noticef(format string, v ...any) { l.debug(format, v) }
func (l *natsLogger) Warnf(format string, v ...any)   { l.debug(format, v) }
func (l *natsLogger) Debugf(format string, v ...any)  { l.debug(format, v) }
func (l *natsLogger) Tracef(format string, v ...any)  { l.debug(format, v) }

func (l *natsLogger) debug(format string, v []any) {
	l.log.Debug("nats", "line", fmt.Sprintf(format, v...))
}

func (l *natsLogger) Errorf(format string, v ...any) {
	l.log.Warn("nats", "line", fmt.Sprintf(format, v...))
}

func (l *natsLogger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == "" {
		l.fatal = fmt.Sprintf(format, v...)
	}
}

func (l *natsLogger) firstFatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
