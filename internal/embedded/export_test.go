package embedded

import "context"

// DropLock lets go of the folder's lock while the server goes on, as when obs was killed and the server was not.
func (p *Postgres) DropLock() error { return p.lock.Unlock() }

// Pid is the server's process id.
func (p *Postgres) Pid() int { return p.server.pid }

// RunDir is the folder of the socket.
func (p *Postgres) RunDir() string { return p.runDir }

// Fetch is what happens on a machine without PostgreSQL.
func Fetch(ctx context.Context, cfg PostgresConfig) (dir, version string, err error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	bin, err := fetchBinaries(ctx, cfg, 0)
	return bin.dir, bin.version, err
}

// Pick chooses among installed versions for a data directory that a major version made; 0 is a new one.
func Pick(made int, installed ...int) (major int, err error) {
	found := make([]binaries, len(installed))
	for i, major := range installed {
		found[i].major = major
	}
	bin, err := pickBinaries(found, made, "/data/pg")
	return bin.major, err
}

// Find lists the folders of the installed versions.
func Find(ctx context.Context, cacheDir string) (dirs []string) {
	for _, bin := range findBinaries(ctx, cacheDir) {
		dirs = append(dirs, bin.dir)
	}
	return dirs
}

// Running reports whether a process is there and no zombie.
func Running(pid int) bool { return inspect(pid).alive }

var LinuxInstall = linuxInstall
