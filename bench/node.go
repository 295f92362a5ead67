package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-245eaa15/obs/internal/load"
)

//go:embed js
var js embed.FS

// absent is a peer that cannot be had here. That is told, and fails the run only with --require-peers.
type absent struct{ why string }

func (a absent) Error() string { return a.why }

// installWithin is how long npm may take.
const installWithin = 3 * time.Minute

// nodeDir is a folder with the drivers and what they need, installed the first time into the user's cache.
func (e *env) nodeDir(ctx context.Context) (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", absent{program + " is not on this machine: install Node 20"}
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", absent{err.Error()}
	}
	files, err := fs.Glob(js, "js/*")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	lock, err := js.ReadFile("js/package-lock.json")
	if err != nil {
		return "", err
	}
	sum.Write(lock)
	dir := filepath.Join(cache, "obs", fmt.Sprintf("bench-js-%x", sum.Sum(nil)[:6]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", absent{err.Error()}
	}
	for _, name := range files {
		text, err := js.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "installed")); err == nil {
		return dir, nil
	}
	e.say("installing the peers written for node into %s", dir)
	ctx, cancel := context.WithTimeout(ctx, installWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", absent{fmt.Sprintf("npm could not install it: %v: %.300s", err, strings.TrimSpace(string(out)))}
	}
	return dir, os.WriteFile(filepath.Join(dir, "installed"), nil, 0o644)
}

// node runs a driver. It says ready when what is to be done is there, begins when it is told to, and then tells what
// it has done; it stays until we have read how much time it took of the processor.
func (e *env) node(ctx context.Context, script string, flags map[string]string, programs ...*program) (load.Sample, error) {
	dir, err := e.nodeDir(ctx)
	if err != nil {
		return load.Sample{}, err
	}
	args := []string{script}
	for k, v := range flags {
		args = append(args, "--"+k+"="+v)
	}
	slices.Sort(args[1:])
	p, err := startIn(dir, os.Environ(), "node", "node", args...)
	if err != nil {
		return load.Sample{}, err
	}
	defer p.end()
	line, err := p.line(ctx)
	if err == nil && line != "ready" {
		err = fmt.Errorf("%s printed %q", script, line)
	}
	if err != nil {
		return load.Sample{}, err
	}
	m := e.meter("", append(programs, p)...)
	if len(programs) > 0 { // it has a server of its own, and Postgres has no part in it
		m = m[1:]
	}
	before := m.Start()
	if _, err := fmt.Fprintln(p.in, "go"); err != nil {
		return load.Sample{}, err
	}
	if line, err = p.line(ctx); err != nil {
		return load.Sample{}, err
	}
	var s load.Sample
	err = decode(line, &s)
	m.Complete(&s, before)
	return s, err
}

// graphileDrain is graphile-worker as its own documents say that it is fastest.
func graphileDrain(o options) figure {
	return figure{who: "graphile", what: "drain", title: "graphile-worker, localQueue 500", unit: "jobs", run: func(ctx context.Context, e *env) (load.Sample, error) {
		url, drop, err := e.database(ctx, "", nil)
		if err != nil {
			return load.Sample{}, err
		}
		s, err := e.node(ctx, "graphile.mjs", map[string]string{"url": url, "jobs": strconv.Itoa(o.Jobs), "payload": strconv.Itoa(o.Payload)})
		return s, errors.Join(err, drop())
	}}
}

func bullDrain(o options) figure {
	return bull("drain", map[string]string{"what": "drain", "jobs": strconv.Itoa(o.Jobs), "payload": strconv.Itoa(o.Payload)})
}

func bullSteady(o options) figure {
	return bull("steady", map[string]string{"what": "steady", "ms": strconv.FormatInt(o.For.Milliseconds(), 10), "payload": strconv.Itoa(o.Payload)})
}

func bull(what string, flags map[string]string) figure {
	return figure{who: "bullmq", what: what, title: "BullMQ on Redis", unit: "jobs", run: func(ctx context.Context, e *env) (load.Sample, error) {
		r, err := e.redis(ctx)
		if err != nil {
			return load.Sample{}, err
		}
		defer r.end()
		flags["port"] = r.url
		return e.node(ctx, "bullmq.mjs", flags, r)
	}}
}

// redis is a new Redis that syncs its log each second.
func (e *env) redis(ctx context.Context) (*program, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, absent{"redis-server is not on this machine: apt-get install redis-server"}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	e.seq++
	dir := filepath.Join(e.dir, fmt.Sprintf("redis%d", e.seq))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := start("redis", path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction")
	if err != nil {
		return nil, err
	}
	p.url = strconv.Itoa(port)
	err = p.ready(ctx, func() bool {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+p.url)
		if err == nil {
			_ = c.Close() // nothing was sent
		}
		return err == nil
	})
	if err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}
