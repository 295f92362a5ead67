package boot

import (
	"runtime/debug"
	"sync"
)

// version is set with -ldflags "-X …/cmd/internal/boot.version=v1.2.3".
var version string

// Version is the program's version, such as "v1.2.3", or "dev".
func Version() string {
	v, _ := build()
	return v
}

// Build is the version with the commit that it was built from, for the
// histories of jobs.
func Build() string {
	v, commit := build()
	if commit != "" {
		v += " " + commit
	}
	return v
}

var build = sync.OnceValues(func() (v, commit string) {
	v = version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		if v == "" {
			v = "dev"
		}
		return v, ""
	}
	if v == "" && info.Main.Version != "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	if v == "" {
		v = "dev"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value[:min(len(s.Value), 12)] + commit
		case "vcs.modified":
			if s.Value == "true" {
				commit += "+"
			}
		}
	}
	return v, commit
})
