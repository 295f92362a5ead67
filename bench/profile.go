package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// profile takes a CPU profile of this process until it is stopped, and one of nats-server of about as long as the
// figure lasts.
func (e *env) profile(ctx context.Context, f figure) (stop func(), err error) {
	if err := os.MkdirAll(e.opts.Profile, 0o755); err != nil {
		return nil, err
	}
	if _, err := e.broker(ctx, f.synced); err != nil { // or its start would be in the profile
		return nil, err
	}
	own, err := os.Create(filepath.Join(e.opts.Profile, f.id()+".obs.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(own); err != nil {
		return nil, err
	}
	told := make(chan error, 1)
	go func() { told <- e.profileNATS(ctx, f) }()
	return func() {
		pprof.StopCPUProfile()
		_ = own.Close() // the profile is whole, or pprof will say so
		if err := <-told; err != nil {
			e.say("no profile of nats-server: %v", err)
		}
	}, nil
}

func (e *env) profileNATS(ctx context.Context, f figure) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%d", e.profiled, max(1, int(e.opts.For.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := os.Create(filepath.Join(e.opts.Profile, f.id()+".nats.pprof"))
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, res.Body); err != nil {
		return err
	}
	return out.Close()
}
