package netfault_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/netfault"
)

const patience = 30 * time.Second

// echo answers every connection with what it says, and keeps what it heard.
type echo struct {
	l     net.Listener
	mu    sync.Mutex
	heard bytes.Buffer
}

func newEcho(t *testing.T, network, addr string) *echo {
	t.Helper()
	l, err := net.Listen(network, addr)
	require.NoError(t, err)
	e := &echo{l: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, io.TeeReader(conn, e))
			}()
		}
	}()
	return e
}

func (e *echo) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard.Write(b)
}

func (e *echo) hears(want string) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.heard.String() == want
	}
}

func setup(t *testing.T) (*netfault.Proxy, *echo) {
	t.Helper()
	e := newEcho(t, "tcp", "127.0.0.1:0")
	p, err := netfault.Listen(e.l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p, e
}

// talking is a connection on which something was heard.
func talking(t *testing.T, p *netfault.Proxy) net.Conn {
	t.Helper()
	conn := dial(t, p)
	say(t, conn, "a")
	hear(t, conn, "a")
	return conn
}

func dial(t *testing.T, p *netfault.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func say(t *testing.T, conn net.Conn, words string) {
	t.Helper()
	_, err := conn.Write([]byte(words))
	require.NoError(t, err)
}

func hear(t *testing.T, conn net.Conn, words string) {
	t.Helper()
	got := make([]byte, len(words))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, words, string(got))
}

// silent says that nothing comes for a moment, and leaves the connection as
// it was.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	n, err := conn.Read(make([]byte, 1))
	require.Zero(t, n)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
}

func TestPassesBothWaysAndTheEnd(t *testing.T) {
	t.Parallel()
	p, _ := setup(t)
	conn := dial(t, p)
	big := bytes.Repeat([]byte("0123456789"), 1<<18)
	go func() {
		_, _ = conn.Write(big)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, got), "%d of %d bytes", len(got), len(big))
	require.Equal(t, 1, p.Taken())
}

func TestToASocket(t *testing.T) {
	t.Parallel()
	e := newEcho(t, "unix", filepath.Join(t.TempDir(), "s"))
	p, err := netfault.Listen(e.l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	conn := talking(t, p)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestCutResetsOldAndNewUntilHealed(t *testing.T) {
	t.Parallel()
	p, _ := setup(t)
	old := talking(t, p)
	p.Cut()
	_, err := old.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)

	fresh, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer fresh.Close()
		require.NoError(t, fresh.SetDeadline(time.Now().Add(patience)))
		_, err = fresh.Read(make([]byte, 1))
	}
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)

	p.Heal()
	conn := dial(t, p)
	say(t, conn, "b")
	hear(t, conn, "b")
}

func TestResetWelcomesNewOnes(t *testing.T) {
	t.Parallel()
	p, _ := setup(t)
	old := talking(t, p)
	p.Reset()
	_, err := old.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	conn := dial(t, p)
	say(t, conn, "b")
	hear(t, conn, "b")
}

func TestHalfOpenIsSilentAndDeliversWhenHealed(t *testing.T) {
	t.Parallel()
	p, e := setup(t)
	conn := talking(t, p)
	p.HalfOpen()
	fresh := dial(t, p)
	say(t, conn, "b")
	say(t, fresh, "c")
	silent(t, conn)
	silent(t, fresh)
	require.True(t, e.hears("a")())
	p.Heal()
	hear(t, conn, "b")
	hear(t, fresh, "c")
}

// What the client asks for happens, and it never learns so.
func TestHeldAnswers(t *testing.T) {
	t.Parallel()
	p, e := setup(t)
	conn := talking(t, p)
	p.HoldAnswers()
	say(t, conn, "b")
	require.Eventually(t, e.hears("ab"), patience, time.Millisecond)
	silent(t, conn)
	p.Cut()
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestDelay(t *testing.T) {
	t.Parallel()
	p, _ := setup(t)
	conn := dial(t, p)
	p.Delay(50 * time.Millisecond)
	began := time.Now()
	say(t, conn, "a")
	hear(t, conn, "a")
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond, "there and back")
}

func TestLimit(t *testing.T) {
	t.Parallel()
	p, _ := setup(t)
	conn := dial(t, p)
	p.Limit(10_000)
	began := time.Now()
	say(t, conn, string(make([]byte, 1000)))
	hear(t, conn, string(make([]byte, 1000)))
	require.GreaterOrEqual(t, time.Since(began), 190*time.Millisecond, "100 ms there, as much back")
}

func TestNobodyListensBehindIt(t *testing.T) {
	t.Parallel()
	p, e := setup(t)
	require.NoError(t, e.l.Close())
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = conn.Read(make([]byte, 1))
	}
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// Close ends what hangs in any of the faults.
func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	p, _ := setup(t)
	conn := talking(t, p)
	p.HalfOpen()
	p.Delay(time.Hour)
	say(t, conn, "b")
	require.NoError(t, p.Close())
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, p.Close(), "twice")
}
