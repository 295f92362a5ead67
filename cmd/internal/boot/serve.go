package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// DefaultAddr is where the API listens: a port of each user's own, so that
// two people on one machine do not meet.
func DefaultAddr() string {
	uid := os.Getuid()
	if uid < 0 { // Windows has none
		uid = 77
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(37877+uid%100))
}

// Where the relay and the worker listen unless told otherwise.
const (
	DefaultRelayAddr  = "127.0.0.1:37978"
	DefaultWorkerAddr = "127.0.0.1:37979"
)

// Listen takes the address. A port that is taken is an error that says what
// to do.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program; stop that, or choose another --addr (OBS_ADDR), for instance 127.0.0.1:0 for a free port", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %s; choose another --addr (OBS_ADDR)", addr, cause(err))
	}
	return l, nil
}

// stopHTTPWithin is how long requests may go on once the process stops.
const stopHTTPWithin = 1500 * time.Millisecond

// errStops is the cause with which the requests' contexts end when the server
// stops: so it can be told from a client that left.
var errStops = errors.New("the server stops")

// Serve serves h on the listener until ctx ends, then lets the requests that
// run finish for a moment. longest is the longest answer of h; zero means 30 s.
func Serve(l net.Listener, h http.Handler, longest time.Duration, log *slog.Logger) func(ctx context.Context) error {
	if longest <= 0 {
		longest = 30 * time.Second
	}
	return func(ctx context.Context) error {
		// Requests that wait for something are to end when the process does,
		// a little before it gives up on them.
		requests, hurry := context.WithCancelCause(context.WithoutCancel(ctx))
		defer hurry(errStops)
		srv := &http.Server{
			Handler:           h,
			BaseContext:       func(net.Listener) context.Context { return requests },
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       longest,
			WriteTimeout:      longest + 10*time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		}
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(l) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		time.AfterFunc(stopHTTPWithin/2, func() { hurry(errStops) })
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopHTTPWithin)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			_ = srv.Close() // the clients that hold on to us are cut off
		}
		return nil
	}
}
