package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Config says where things go, and within which bounds.
type Config struct {
	URL     string // of the server, as http://127.0.0.1:37877
	Key     string // an API key that may write, and read for the context
	Project string // the id of the project; see [Settings.ProjectOf]

	// Dir has the spool, what was rejected, and the log. It is made, for its
	// owner alone, where it is not there.
	Dir string
	// MaxFiles and MaxBytes bound the spool: beyond them the oldest go. Zero
	// means 10,000 files and 64 MiB.
	MaxFiles int
	MaxBytes int64
	// Log may be nil. See [OpenLog].
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxFiles <= 0 {
		c.MaxFiles = 10_000
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 64 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.URL = strings.TrimRight(c.URL, "/")
	return c
}

// Settings is the file that `obs install` writes. Every part may be missing.
type Settings struct {
	URL     string `json:"url,omitempty"`
	Key     string `json:"key,omitempty"`
	Project string `json:"project,omitempty"` // for what is in none of Projects

	// Projects has the project's id by the folder that its repository is in.
	Projects map[string]string `json:"projects,omitempty"`
}

// LoadSettings reads the file. One that is not there is empty settings.
func LoadSettings(path string) (Settings, error) {
	var s Settings
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the hook's settings: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return Settings{}, fmt.Errorf("read the hook's settings in %s: %w", path, err)
	}
	return s, nil
}

// Save writes the file, for its owner alone: it has a key.
func (s Settings) Save(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the hook's settings: %w", err)
	}
	return WriteFile(path, append(text, '\n'), 0o600)
}

// ProjectOf gives the project of whoever works in the folder cwd: that of the
// longest of the folders in Projects that cwd is in, or else Project.
func (s Settings) ProjectOf(cwd string) string {
	project, longest := s.Project, -1
	for dir, id := range s.Projects {
		dir = filepath.Clean(dir)
		if len(dir) > longest && within(filepath.Clean(cwd), dir) {
			project, longest = id, len(dir)
		}
	}
	return project
}

func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || os.IsPathSeparator(rest[0]) || os.IsPathSeparator(dir[len(dir)-1]))
}

// WriteFile puts a whole file in place of another, or none of it: whoever
// reads it meanwhile, or after a crash, sees the one or the other. Folders
// that are missing are made.
func WriteFile(path string, text []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the error that counts is the one before
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

const tempPrefix = ".obs-tmp-"

// syncDir makes a rename last. Not every system can do that to a folder, and
// none of them says so in the same way; the file's own sync has been done.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync()
	return d.Close()
}
