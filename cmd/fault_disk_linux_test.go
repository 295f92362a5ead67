//go:build slow

package cmd_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Postgres' disk is full, then the broker's; each heals when there is room.
func TestF22DisksFull(t *testing.T) {
	t.Parallel()
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		dir := smallDisk(t, 160<<20)
		pg := postgresIn(t, dir, map[string]string{"min_wal_size": "32MB", "max_wal_size": "48MB"})
		s := rowOn(t, pg.dsn())
		s.busy(50)
		s.settled(50)
		filler := fill(t, dir)
		n := 1000
		s.eventually("it is full, and the door says so", func() bool {
			n++
			code, body := s.post("/v1/events", s.event(n))
			if code == http.StatusCreated {
				s.accept(body)
			}
			return code >= 500
		})
		require.NoError(t, os.Remove(filler))
		select {
		case <-pg.Done(): // the log could not be written: whoever supervises it starts it again
			pg.stop()
			pg.start()
		default:
		}
		s.eventually("the door opens again", func() bool { return s.tell(1) })
		s.eventually("all that was accepted is done", func() bool { return s.jobs("completed") == s.count(`SELECT count(*) FROM agent_events`) })
		s.whole(s.count(`SELECT count(*) FROM agent_events`))
	})
	t.Run("broker", func(t *testing.T) {
		t.Parallel()
		s := newStack(t)
		s.stopBroker()
		s.natsDir = smallDisk(t, 24<<20)
		// It believes that it has more, as when others fill the disk.
		s.natsConf = filepath.Join(t.TempDir(), "nats.conf")
		require.NoError(t, os.WriteFile(s.natsConf, []byte("jetstream { max_file_store: 10G }\n"), 0o600))
		s.startBroker()
		s.impatient(1)
		relay, worker := s.busy(50)
		s.settled(50)
		filler := fill(t, s.natsDir)
		s.send(50, 200) // the door does not need it
		s.eventually("the relay says so", func() bool { return relay.says("relay in trouble") })
		require.NoError(t, os.Remove(filler))
		s.stopBroker() // a stream that could not be written stays so until then
		s.eventsLost()
		s.startBroker()
		s.whole(250)
		require.Nil(t, worker.cmd.ProcessState, "it goes on")
	})
}

// smallDisk is a folder on a disk of its own, of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "obs-disk-")
	require.NoError(t, err)
	require.NoError(t, syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", size)), "mounting needs root")
	t.Cleanup(func() {
		require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH))
		require.NoError(t, os.Remove(dir))
	})
	return dir
}

// fill leaves nothing free on the disk of dir.
func fill(t *testing.T, dir string) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	require.NoError(t, err)
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	_ = f.Close() // it cannot say more
	return filler
}
