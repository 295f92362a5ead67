package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchable are the builds that the downloader knows, by major version.
var fetchable = map[int]embeddedpostgres.PostgresVersion{
	14: embeddedpostgres.V14,
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

// newestFetchable is what a new data directory gets.
const newestFetchable = 18

// fetchBinaries downloads the programs once, into the cache folder. major is what the data directory asks for,
// 0 when it is new.
func fetchBinaries(ctx context.Context, cfg PostgresConfig, major int) (binaries, error) {
	if major == 0 {
		major = newestFetchable
	}
	version, known := fetchable[major]
	if cfg.NoDownload || !known {
		return binaries{}, fmt.Errorf("%w: %s", ErrNoPostgres, howToInstall())
	}
	cfg.Progress(fmt.Sprintf("fetching PostgreSQL %s once, about 15 MB", strings.TrimSuffix(string(version), ".0")))

	type result struct {
		bin binaries
		err error
	}
	done := make(chan result, 1)
	go func() { // the downloader takes no context: when ours ends we leave it behind
		bin, err := download(ctx, cfg, version)
		done <- result{bin, err}
	}()
	select {
	case <-ctx.Done():
		return binaries{}, fmt.Errorf("fetch PostgreSQL: %w", ctx.Err())
	case r := <-done:
		if r.err != nil {
			return binaries{}, fmt.Errorf("%w, and fetching them came to nothing (%w): %s", ErrNoPostgres, r.err, howToInstall())
		}
		return r.bin, nil
	}
}

// download uses the library only to fetch and unpack. It would go on to run initdb and a server in its own way,
// which cannot work as root: it is given an encoding that does not exist, so that it ends there, and its error
// counts only when the programs are missing.
func download(ctx context.Context, cfg PostgresConfig, version embeddedpostgres.PostgresVersion) (binaries, error) {
	if err := os.MkdirAll(cfg.CacheDir, 0o755); err != nil {
		return binaries{}, err
	}
	work, err := os.MkdirTemp(cfg.CacheDir, "fetch-")
	if err != nil {
		return binaries{}, err
	}
	defer os.RemoveAll(work)
	// The server's user, who may be another one, must get at the programs.
	if err := os.Chmod(work, 0o755); err != nil {
		return binaries{}, err
	}
	port, err := freePort()
	if err != nil {
		return binaries{}, err
	}
	unpacked := filepath.Join(work, "unpacked")
	config := embeddedpostgres.DefaultConfig().
		Version(version).
		Port(port).
		CachePath(work).
		BinariesPath(unpacked).
		RuntimePath(filepath.Join(work, "run")).
		DataPath(filepath.Join(work, "data")).
		Encoding("none-fetch-only").
		Logger(io.Discard)
	if cfg.DownloadURL != "" {
		config = config.BinaryRepositoryURL(cfg.DownloadURL)
	}
	server := embeddedpostgres.NewDatabase(config)
	fetchErr := server.Start()
	if fetchErr == nil { // it must not, but then it runs
		_ = server.Stop()
	}
	if _, err := os.Stat(filepath.Join(unpacked, "bin", "postgres")); err != nil {
		if fetchErr == nil {
			fetchErr = err
		}
		return binaries{}, fetchErr
	}
	bin, err := inspectBinaries(ctx, filepath.Join(unpacked, "bin"))
	if err != nil {
		return binaries{}, fmt.Errorf("what was fetched does not run here: %w", err)
	}
	final := filepath.Join(cfg.CacheDir, "postgresql-"+bin.version)
	if err := os.Rename(unpacked, final); err != nil {
		if existing, err := inspectBinaries(ctx, filepath.Join(final, "bin")); err == nil {
			return existing, nil // another process fetched it meanwhile
		}
		return binaries{}, err
	}
	bin.dir = filepath.Join(final, "bin")
	return bin, nil
}

// freePort finds a port, because the library insists on a free one before it fetches.
func freePort() (uint32, error) {
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	addr, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("no free port")
	}
	return uint32(addr.Port), nil
}

func defaultCacheDir() string {
	if os.Geteuid() == 0 {
		return "/var/cache/obs" // root's home is closed to the user that runs the server
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "obs")
	}
	return filepath.Join(os.TempDir(), "obs-cache")
}

// howToInstall names this system's own command.
func howToInstall() string {
	command := "install PostgreSQL"
	switch runtime.GOOS {
	case "darwin":
		command += " with `brew install postgresql@17`"
	default:
		release, _ := os.ReadFile("/etc/os-release") // unknown: name no command
		command += linuxInstall(string(release))
	}
	return command + ", or give OBS_DATABASE_URL"
}

func linuxInstall(release string) string {
	family := map[string]bool{}
	for line := range strings.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			for name := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
				family[name] = true
			}
		}
	}
	switch {
	case family["debian"] || family["ubuntu"]:
		return " with `sudo apt-get install postgresql`"
	case family["fedora"] || family["rhel"] || family["centos"]:
		return " with `sudo dnf install postgresql-server postgresql-contrib`"
	case family["alpine"]:
		return " with `apk add postgresql`"
	case family["arch"]:
		return " with `sudo pacman -S postgresql`"
	case family["suse"] || family["opensuse"]:
		return " with `sudo zypper install postgresql-server`"
	}
	return " with your system's package manager"
}
