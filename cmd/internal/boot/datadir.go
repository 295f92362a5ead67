package boot

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// DataDir is where `obs dev` keeps its data when it is not told.
func DataDir(lookupEnv func(string) (string, bool)) (string, error) {
	get := func(name string) string {
		v, _ := lookupEnv(name) // empty is as good as not set
		return v
	}
	switch runtime.GOOS {
	case "windows":
		if dir := get("LocalAppData"); dir != "" {
			return filepath.Join(dir, "obs"), nil
		}
	case "darwin":
		if home := get("HOME"); home != "" {
			return filepath.Join(home, "Library", "Application Support", "obs"), nil
		}
	default:
		if os.Geteuid() == 0 {
			return "/var/lib/obs", nil
		}
		if dir := get("XDG_STATE_HOME"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "obs"), nil
		}
		if home := get("HOME"); home != "" {
			return filepath.Join(home, ".local", "state", "obs"), nil
		}
	}
	return "", errors.New("there is no home directory to keep data in: name a directory with --data-dir (OBS_DATA_DIR)")
}
