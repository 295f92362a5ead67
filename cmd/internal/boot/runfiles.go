package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// The files of a server in its data directory. The lock is what counts: the
// kernel lets go of it when the process dies, however it dies.
const (
	pidFile     = ".obs-server.pid"
	portFile    = ".obs-server.port"
	runtimeFile = ".obs-server.runtime.json"
	lockFile    = ".obs-server.lock"
)

// heldWithin is how long one who only looks whether a directory is held may
// hold it for that.
const heldWithin = 400 * time.Millisecond

// ErrNoServer means that no server runs on the data directory.
var ErrNoServer = errors.New("obs is not running")

// ServerPID is what .obs-server.pid holds.
type ServerPID struct {
	PID       int    `json:"pid"`
	Port      int    `json:"port"`
	StartedAt string `json:"startedAt"` // RFC 3339

	// StartToken tells this process from a later one with the same number:
	// when it was started, in the system's own terms. Empty where the system
	// does not tell.
	StartToken string `json:"startToken,omitempty"`
}

// ServerRuntime is what .obs-server.runtime.json holds. Flags may hold
// passwords, so only the owner may read the file.
type ServerRuntime struct {
	Runtime   string `json:"runtime"`
	Version   string `json:"version"`
	PID       int    `json:"pid"`
	Port      int    `json:"port"`
	Host      string `json:"host"`
	StartedAt string `json:"startedAt"`
	Database  string `json:"database,omitempty"` // URL of the Postgres that it has started; empty: it has another's

	// How it was started, for the next time.
	Background bool     `json:"background"`
	Flags      []string `json:"flags"`
	Variables  []string `json:"variables"` // names only
	Dir        string   `json:"dir"`       // where it was started

	Bootstrap  ServerBootstrap   `json:"bootstrap"`
	Boundaries map[string]string `json:"boundaries"` // part to status; empty until it is up
}

// ServerBootstrap is how far the database was when the server came up.
type ServerBootstrap struct {
	Initialized bool  `json:"initialized"`
	Schema      int64 `json:"schemaVersion"`
}

// URL is where the server listens, as seen from this machine.
func (r ServerRuntime) URL() string {
	host := r.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(r.Port))
}

// RunFiles are a running server's files. Whoever has them is the only server
// on the directory.
type RunFiles struct {
	dir  string
	lock *flock.Flock
	now  ServerRuntime
}

// HoldDir makes this process the server of a data directory, which exists,
// and writes the files. It has the listener already: r's port and host come
// from that. The error is one line for a person when another server has it.
func HoldDir(ctx context.Context, dir string, l net.Listener, r ServerRuntime) (*RunFiles, error) {
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	wait, cancel := context.WithTimeout(ctx, heldWithin)
	defer cancel()
	held, err := lock.TryLockContext(wait, heldWithin/20)
	if err != nil && wait.Err() == nil {
		return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
	}
	if !held {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, inUse(dir)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write the server's files: %w", err), lock.Unlock())
	}
	r.Host, r.PID, r.Version, r.Runtime = host, os.Getpid(), Version(), "server"
	r.Port, _ = strconv.Atoi(port)
	r.StartedAt = time.Now().UTC().Format(time.RFC3339Nano)
	f := &RunFiles{dir: dir, lock: lock, now: r}
	pid := ServerPID{PID: r.PID, Port: r.Port, StartedAt: r.StartedAt, StartToken: startToken(r.PID)}
	err = errors.Join(
		f.write(runtimeFile, r), // before the pid: who has that may read this
		replaceFile(filepath.Join(dir, portFile), []byte(port+"\n")),
		f.write(pidFile, pid),
	)
	if err != nil {
		f.Remove()
		return nil, fmt.Errorf("write the server's files: %w", err)
	}
	return f, nil
}

// Up notes that all parts run, and where the Postgres is that they brought
// along, if they did.
func (f *RunFiles) Up(schema int64, database string, parts ...string) error {
	f.now.Database = database
	f.now.Bootstrap = ServerBootstrap{Initialized: schema > 0, Schema: schema}
	f.now.Boundaries = make(map[string]string, len(parts))
	for _, p := range parts {
		f.now.Boundaries[p] = "active"
	}
	if err := f.write(runtimeFile, f.now); err != nil {
		return fmt.Errorf("write the server's files: %w", err)
	}
	return nil
}

// Remove removes the files and lets go of the directory. The file of the lock
// stays: without it two others could each lock one of that name.
func (f *RunFiles) Remove() {
	for _, name := range []string{pidFile, portFile, runtimeFile} {
		_ = os.Remove(filepath.Join(f.dir, name)) // what stays is known to be stale
	}
	_ = f.lock.Unlock()
}

func (f *RunFiles) write(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(f.dir, name), append(text, '\n'))
}

// replaceFile writes a file that only its owner may read, whole or not at all.
func replaceFile(path string, text []byte) error {
	temp := path + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// InUse is the error of who wants a data directory that a server has. It is
// nil when none has.
func InUse(dir string) error {
	if !locked(dir) {
		return nil
	}
	return inUse(dir)
}

func inUse(dir string) error {
	who := ""
	if pid, err := readPID(dir); err == nil {
		who = fmt.Sprintf(" (pid %d)", pid.PID)
	}
	return fmt.Errorf("another obs is using %s%s: end it with obs server stop, or choose another --data-dir", dir, who)
}

// locked says whether a process has the directory.
func locked(dir string) bool {
	path := filepath.Join(dir, lockFile)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDWR))
	held, err := lock.TryRLock() // shared, so that two who look do not see each other
	if err != nil {
		return true // another user's: somebody has it, or we have no say in it
	}
	if held {
		_ = lock.Unlock()
	}
	return !held
}

func readPID(dir string) (ServerPID, error) {
	var p ServerPID
	text, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err == nil && p.PID <= 1 {
		err = fmt.Errorf("%s names no process", pidFile)
	}
	return p, err
}

// ReadRuntime reads how the server of a directory was started: the one that
// runs, or one that died without tidying up.
func ReadRuntime(dir string) (ServerRuntime, error) {
	var r ServerRuntime
	text, err := os.ReadFile(filepath.Join(dir, runtimeFile))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// Server is the process that has a data directory.
type Server struct {
	ServerRuntime
	process *os.Process
}

// FindServer finds the server of a data directory. ErrNoServer when there is
// none, whatever the files of a dead one say. Any other error means that
// somebody has the directory and it cannot be told who.
func FindServer(dir string) (*Server, error) {
	if !locked(dir) {
		return nil, ErrNoServer
	}
	unknown := func(why string) error {
		if !locked(dir) { // it ended while we looked
			return ErrNoServer
		}
		return fmt.Errorf("%s is in use, and by which process is not known (%s); nothing is done to any", dir, why)
	}
	pid, err := readPID(dir)
	if err != nil {
		return nil, unknown(why(err))
	}
	// Taken before it is looked at: where the system can (Linux), it stays
	// this process even when its number goes to another.
	process, err := os.FindProcess(pid.PID)
	if err != nil || !running(pid) {
		return nil, unknown(fmt.Sprintf("the process %d that %s names is another one or gone", pid.PID, pidFile))
	}
	r, err := ReadRuntime(dir)
	if err != nil || r.PID != pid.PID {
		r = ServerRuntime{Runtime: "server", PID: pid.PID, Port: pid.Port, StartedAt: pid.StartedAt}
	}
	return &Server{ServerRuntime: r, process: process}, nil
}

func why(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "there is no " + pidFile
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// running says whether the process lives and is the one that wrote the file.
// One that is dead and not yet reaped does not live.
func running(p ServerPID) bool {
	alive, token := lookAt(p.PID)
	return alive && (p.StartToken == "" || token == p.StartToken)
}

func startToken(pid int) string {
	_, token := lookAt(pid)
	return token
}
