package sim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// broker is the real server, inside the bubble. The worlds of a bubble come
// one after the other and share it; each has streams of its own.
type broker struct {
	dir  string
	copy string // of dir, to set it back to; empty: there is none

	mu sync.Mutex
	s  *server.Server // nil while it is down
	nc *nats.Conn     // the harness's own
	js jetstream.JetStream
}

func newBroker(dir string) (*broker, error) {
	b := &broker{dir: dir}
	if err := b.start(); err != nil {
		return nil, err
	}
	var err error
	b.nc, err = nats.Connect("", nats.InProcessServer(b), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(0, 0))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	b.js, err = jetstream.New(b.nc)
	return b, err
}

func (b *broker) start() error {
	s, err := server.NewServer(&server.Options{
		ServerName: "sim", DontListen: true, JetStream: true, StoreDir: filepath.Join(b.dir, "store"), NoSigs: true, NoLog: true,
	})
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("the broker does not start")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s = s
	return nil
}

// InProcessConn is a new connection, if the broker is up.
func (b *broker) InProcessConn() (net.Conn, error) {
	b.mu.Lock()
	s := b.s
	b.mu.Unlock()
	if s == nil {
		return nil, errors.New("the broker is down")
	}
	return s.InProcessConn()
}

func (b *broker) stop() {
	b.mu.Lock()
	s := b.s
	b.s = nil
	b.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// restart stops it, does what it is told to its folder, and starts it again
// after a while.
func (b *broker) restart(ctx context.Context, down time.Duration, between func() error) error {
	b.stop()
	if between != nil {
		if err := between(); err != nil {
			return err
		}
	}
	pause(ctx, down)
	return b.start()
}

func (b *broker) save() error {
	b.copy = filepath.Join(b.dir, "copy")
	if err := os.RemoveAll(b.copy); err != nil {
		return err
	}
	return os.CopyFS(b.copy, os.DirFS(filepath.Join(b.dir, "store")))
}

func (b *broker) rollback() error {
	if b.copy == "" {
		return nil
	}
	store := filepath.Join(b.dir, "store")
	if err := os.RemoveAll(store); err != nil {
		return err
	}
	return os.CopyFS(store, os.DirFS(b.copy))
}

func (b *broker) close() {
	b.js.CleanupPublisher()
	b.nc.Close()
	b.stop()
}
