//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/netfault"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// lease is short, or half of a run would be waiting for it.
const lease = 2 * time.Second

// world is everything that is started for a run.
type world struct {
	size
	dir string // of the run: data, logs, what is left when it fails
	bin string // our programs, and nats-server

	postgresMu sync.Mutex
	postgres   *embedded.Postgres
	pool       *pgxpool.Pool // our own, past all proxies

	ports     []int   // of the NATS nodes
	procs     []*proc // all but Postgres, in the order of their start
	byName    map[string]*proc
	links     map[string][]*netfault.Proxy // worker-1:nats
	tenants   []tenant
	effects   string // the file of the workers' notes
	mood      string // the file that says what the provider is like
	lostUntil time.Time
	lostMu    sync.Mutex
}

// tenant is a team with its project and a key for it.
type tenant struct{ team, project, key string }

// build makes the programs, with what fault tests need in them, and the
// nats-server that they are tested with.
func build(ctx context.Context, dir string, race bool) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/seed-245eaa15/obs").Output()
	if err != nil {
		return fmt.Errorf("find the source: %w; run it in the repository", err)
	}
	ours := []string{"build", "-tags", "faults", "-o", dir + "/"}
	if race {
		ours = append(ours, "-race")
	}
	for _, args := range [][]string{
		append(ours, "./cmd/obs", "./cmd/obs-relay", "./cmd/obs-worker"),
		{"build", "-modfile=tools/go.mod", "-o", filepath.Join(dir, "nats-server"), "github.com/nats-io/nats-server/v2"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = strings.TrimSpace(string(root))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// start starts everything and returns when the APIs answer.
func (w *world) start(ctx context.Context, tenants int) error {
	w.byName, w.links = map[string]*proc{}, map[string][]*netfault.Proxy{}
	w.effects, w.mood = filepath.Join(w.dir, "effects.jsonl"), filepath.Join(w.dir, "mood.json")
	if err := errors.Join(os.MkdirAll(filepath.Join(w.dir, "logs"), 0o755), w.setMood(usualMood)); err != nil {
		return err
	}
	if err := w.startPostgres(ctx); err != nil {
		return err
	}
	var err error
	if w.pool, err = db.Open(ctx, db.Config{URL: w.postgres.URL(embedded.Database), MaxConns: 4, Name: "torture"}); err != nil {
		return err
	}
	if err := db.Migrate(ctx, w.pool); err != nil {
		return err
	}
	svc := observe.New(observe.Config{Pool: w.pool, Jobs: db.NewJobs(w.pool, db.JobsConfig{})})
	for i := range tenants {
		t := tenant{}
		if t.team, err = svc.CreateTeam(ctx, fmt.Sprintf("team %d", i+1)); err != nil {
			return err
		}
		if t.project, err = svc.CreateProject(ctx, t.team, "project"); err != nil {
			return err
		}
		scopes := []string{observe.ScopeRead, observe.ScopeWrite}
		if _, t.key, err = svc.IssueKey(ctx, t.team, t.project, "torture", "torture", scopes, time.Time{}); err != nil {
			return err
		}
		w.tenants = append(w.tenants, t)
	}
	if err := w.startNATS(ctx); err != nil {
		return err
	}
	return w.startPrograms(ctx)
}

func (w *world) startPostgres(ctx context.Context) error {
	w.postgresMu.Lock()
	defer w.postgresMu.Unlock()
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{
		Dir: filepath.Join(w.dir, "postgres"), NoDownload: true,
		Settings: map[string]string{"max_connections": "200", "restart_after_crash": "on"},
	})
	if err != nil {
		return err
	}
	w.postgres = pg
	return nil
}

// socket is where Postgres listens.
func (w *world) socket() string {
	u, err := url.Parse(w.postgres.URL(embedded.Database))
	if err != nil {
		panic(err) // it is made by url.URL
	}
	return filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port"))
}

func (w *world) node(i int) string { return fmt.Sprintf("nats-%d", i+1) }

func (w *world) storeOf(i int) string { return filepath.Join(w.dir, w.node(i)) }

func (w *world) startNATS(ctx context.Context) error {
	ports, err := freePorts(2 * w.nodes) //nolint:contextcheck // to listen for a moment waits for nothing
	if err != nil {
		return err
	}
	w.ports = ports[:w.nodes]
	var routes []string
	for _, port := range ports[w.nodes:] {
		routes = append(routes, fmt.Sprintf(`"nats://127.0.0.1:%d"`, port))
	}
	for i := range w.nodes {
		name := w.node(i)
		conf := fmt.Sprintf("server_name: %s\nlisten: \"127.0.0.1:%d\"\njetstream { store_dir: %q, sync_interval: always }\n", name, w.ports[i], w.storeOf(i))
		if w.nodes > 1 {
			conf += fmt.Sprintf("cluster { name: obs, listen: \"127.0.0.1:%d\", no_advertise: true, routes: [%s] }\n", ports[w.nodes+i], strings.Join(routes, ", "))
		}
		file := filepath.Join(w.dir, name+".conf")
		if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
			return fmt.Errorf("configure NATS: %w", err)
		}
		w.run(name, "nats-server", nil, "-c", file)
	}
	return w.within(ctx, time.Minute, "NATS is up", func(ctx context.Context) error {
		return w.withJetStream(ctx, func(ctx context.Context, js jetstream.JetStream) error {
			_, err := js.AccountInfo(ctx)
			return err
		})
	})
}

func (w *world) run(name, program string, env []string, args ...string) {
	p := supervise(name, filepath.Join(w.bin, program), filepath.Join(w.dir, "logs", name+".log"), env, args...)
	w.procs, w.byName[name] = append(w.procs, p), p
}

func (w *world) startPrograms(ctx context.Context) error {
	var waits []string
	start := func(part string, n int, program string, env []string, args ...string) error { //nolint:contextcheck // the proxies outlive the start
		for i := range n {
			name := fmt.Sprintf("%s-%d", part, i+1)
			all, addr, err := w.reach(name)
			if err != nil {
				return err
			}
			w.run(name, program, env, append(append(append([]string{}, args...), all...), "--addr", addr)...)
			waits = append(waits, addr)
			if part == partAPI {
				proxy, err := netfault.Listen(addr)
				if err != nil {
					return err
				}
				w.links[fmt.Sprintf("%s-%d:api", partClients, i+1)] = []*netfault.Proxy{proxy}
			}
		}
		return nil
	}
	replicas := fmt.Sprint(w.nodes)
	env := []string{"OBS_FAULTS_EFFECTS=" + w.effects, "OBS_FAULTS_PROVIDER=" + w.mood}
	err := errors.Join(
		start(partAPI, w.apis, "obs", nil, "server", "--nats-replicas", replicas),
		start(partRelay, w.relays, "obs-relay", nil, "--nats-replicas", replicas, "--lease", lease.String()),
		start(partWorker, w.workers, "obs-worker", env, "--nats-replicas", replicas, "--lease", lease.String(),
			"--slots", "event=6,summary=2,batch=1", "--grace", "5s", "--job-timeout", "20s"),
	)
	if err != nil {
		return err
	}
	for _, addr := range waits {
		err := w.within(ctx, time.Minute, addr+" answers", func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				err = res.Body.Close()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reach makes the proxies of one process to Postgres and NATS, and gives the
// flags that lead it through them, and an address to listen on.
func (w *world) reach(name string) (flags []string, addr string, err error) {
	pg, err := netfault.Listen(w.socket())
	if err != nil {
		return nil, "", err
	}
	w.links[name+":postgres"] = []*netfault.Proxy{pg}
	var brokers []string
	for _, port := range w.ports {
		one, err := netfault.Listen(fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return nil, "", err
		}
		w.links[name+":nats"] = append(w.links[name+":nats"], one)
		brokers = append(brokers, "nats://"+one.Addr())
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, "", err
	}
	dsn := fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", pg.Addr(), embedded.Database)
	return []string{"--database-url", dsn, "--nats-url", strings.Join(brokers, ",")}, fmt.Sprintf("127.0.0.1:%d", ports[0]), nil
}

// apiURLs are where clients reach the APIs, through their proxies.
func (w *world) apiURLs() []string {
	urls := make([]string, w.apis)
	for i := range urls {
		urls[i] = "http://" + w.links[fmt.Sprintf("%s-%d:api", partClients, i+1)][0].Addr()
	}
	return urls
}

// natsURL is the broker past all proxies.
func (w *world) natsURL() string {
	urls := make([]string, len(w.ports))
	for i, port := range w.ports {
		urls[i] = fmt.Sprintf("nats://127.0.0.1:%d", port)
	}
	return strings.Join(urls, ",")
}

// withJetStream connects to the broker past all proxies.
func (w *world) withJetStream(ctx context.Context, fn func(context.Context, jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	nc, err := nats.Connect(w.natsURL(), nats.Timeout(2*time.Second))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("connect to JetStream: %w", err)
	}
	return fn(ctx, js)
}

// within tries until it works.
func (w *world) within(ctx context.Context, limit time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
}

// stop ends everything that was started.
func (w *world) stop() error {
	var all sync.WaitGroup
	for _, p := range w.procs {
		all.Go(p.end)
	}
	all.Wait()
	for _, proxies := range w.links {
		for _, p := range proxies {
			_ = p.Close() // nobody listens any more
		}
	}
	if w.pool != nil {
		w.pool.Close()
	}
	w.postgresMu.Lock()
	defer w.postgresMu.Unlock()
	if w.postgres == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return w.postgres.Stop(ctx)
}

// freePorts gives ports that nobody listens on, below those that systems hand
// out by themselves: what is down for a while shall find its own free again.
func freePorts(n int) ([]int, error) {
	const from, to = 10_000, 32_000
	ports := make([]int, 0, n)
	for range 100 * n {
		port := from + rand.IntN(to-from)
		if slices.Contains(ports, port) {
			continue
		}
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil { // taken
			continue
		}
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("find a free port: all are taken")
}

// pause waits, unless ctx ends first, which it reports.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
