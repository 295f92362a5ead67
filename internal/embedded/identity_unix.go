//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// chooseIdentity decides who runs the server. PostgreSQL refuses root, so for root it is the owner of the data
// that is there, else the user postgres, else nobody. Where that user cannot reach the folder, or we may not
// become it, Linux can rename us instead: in a user namespace of one user the files stay root's.
func chooseIdentity(ctx context.Context, dir, dataDir string, bin binaries) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{}, nil
	}
	candidate, err := unprivileged(dataDir)
	if err != nil {
		return identity{}, err
	}
	var refused error
	if !candidate.namespace {
		if blocked := candidate.blockedBy(dir); blocked != "" {
			refused = fmt.Errorf("PostgreSQL does not run as root, and user %s may not enter %s: "+
				"choose a --data-dir under a folder that every user may enter, such as /var/lib/obs", candidate.name, blocked)
		} else if err := probe(ctx, bin, dir, candidate); err != nil {
			refused = fmt.Errorf("PostgreSQL does not run as root, and it cannot be started as user %s (%w): "+
				"run obs as an ordinary user, or give OBS_DATABASE_URL", candidate.name, err)
		} else {
			return candidate, nil
		}
		if _, err := os.Stat(dataDir); err == nil {
			return identity{}, refused // the data is that user's: in a namespace it could not be read
		}
		candidate.credential, candidate.namespace = false, true
	}
	if err := probe(ctx, bin, dir, candidate); err != nil {
		if refused == nil {
			refused = fmt.Errorf("%s was made in a user namespace, and this system does not allow one now (%w): choose another --data-dir", dataDir, err)
		}
		return identity{}, refused
	}
	return candidate, nil
}

// unprivileged picks the user: an existing data directory keeps its owner.
func unprivileged(dataDir string) (identity, error) {
	if info, err := os.Stat(dataDir); err == nil {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if ok && stat.Uid != 0 {
			id := identity{credential: true, uid: int(stat.Uid), gid: int(stat.Gid), name: strconv.Itoa(int(stat.Uid))}
			if u, err := user.LookupId(id.name); err == nil {
				id.name = u.Username
			}
			return id, nil
		}
		id, err := systemUser()
		id.credential, id.namespace = false, true
		return id, err
	}
	return systemUser()
}

func systemUser() (identity, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.Atoi(u.Uid)
		gid, errG := strconv.Atoi(u.Gid)
		if errors.Join(errU, errG) == nil && uid != 0 {
			return identity{credential: true, uid: uid, gid: gid, name: name}, nil
		}
	}
	return identity{}, errors.New("PostgreSQL does not run as root, and this system has neither a user postgres nor a user nobody: " +
		"run obs as an ordinary user, or give OBS_DATABASE_URL")
}

// blockedBy names the first folder on the way to dir that the identity may not enter, "" when there is none.
// Groups other than the first and access lists are not looked at.
func (id identity) blockedBy(dir string) string {
	if !id.credential {
		return ""
	}
	if parent := filepath.Dir(dir); parent != dir {
		if blocked := id.blockedBy(parent); blocked != "" {
			return blocked
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	bit := os.FileMode(0o001)
	switch {
	case int(stat.Uid) == id.uid:
		bit = 0o100
	case int(stat.Gid) == id.gid:
		bit = 0o010
	}
	if info.Mode()&bit == 0 {
		return dir
	}
	return ""
}

// probe finds out whether the programs can be run by this identity in this folder at all.
func probe(ctx context.Context, bin binaries, dir string, as identity) error {
	if out, err := run(command(ctx, bin.path("postgres"), []string{"--version"}, dir, as)); err != nil {
		if said := lastLines(out, 1); said != "" {
			return fmt.Errorf("%w: %s", err, said)
		}
		return err
	}
	return nil
}
