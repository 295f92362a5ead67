package embedded_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/internal/embedded"
)

func TestFetchOnce(t *testing.T) {
	t.Parallel()
	jar := fakeRelease(t)
	sum := sha256.Sum256(jar)
	fetched := 0
	maven := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			_, _ = w.Write([]byte(hex.EncodeToString(sum[:])))
			return
		}
		fetched++
		_, _ = w.Write(jar)
	}))
	t.Cleanup(maven.Close)
	cache := t.TempDir()

	dir, version, err := embedded.Fetch(t.Context(), embedded.PostgresConfig{CacheDir: cache, DownloadURL: maven.URL})
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cache, "postgresql-18.3", "bin"), dir)
	require.Equal(t, "18.3", version)
	require.Equal(t, 1, fetched)
	require.Contains(t, embedded.Find(t.Context(), cache), dir, "the next start finds it")
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Dir(dir)}, left, "the download itself is gone")
}

func TestFetchOffline(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()

	_, _, err := embedded.Fetch(t.Context(), embedded.PostgresConfig{CacheDir: t.TempDir(), DownloadURL: gone.URL})
	require.ErrorIs(t, err, embedded.ErrNoPostgres)
	require.ErrorContains(t, err, gone.URL)
	require.ErrorContains(t, err, "install PostgreSQL with")
	require.ErrorContains(t, err, "or give OBS_DATABASE_URL")
	require.NotContains(t, err.Error(), "\n")
}

func TestFetchForbidden(t *testing.T) {
	t.Parallel()
	_, _, err := embedded.Fetch(t.Context(), embedded.PostgresConfig{CacheDir: t.TempDir(), NoDownload: true})
	require.ErrorIs(t, err, embedded.ErrNoPostgres)
}

// fakeRelease is what the repository serves, with programs that can only tell their version: a zip file with a
// tar.xz in it.
func fakeRelease(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, script := range map[string]string{
		"bin/postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) 18.3'\n",
		"bin/initdb":   "#!/bin/sh\nexit 1\n",
		"bin/pg_ctl":   "#!/bin/sh\nexit 1\n",
	} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(script))}))
		_, err := w.Write([]byte(script))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())

	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	f, err := z.Create("postgres-any.txz")
	require.NoError(t, err)
	_, err = f.Write(storedXZ(t, archive.Bytes()))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return jar.Bytes()
}

// storedXZ wraps data, at most 64 KiB, in the xz format without compressing it: the standard library has no
// writer. One stream of one block, LZMA2 with one uncompressed chunk, CRC32 as the check.
func storedXZ(t *testing.T, data []byte) []byte {
	t.Helper()
	require.LessOrEqual(t, len(data), 1<<16)
	le := binary.LittleEndian
	sum := func(b []byte) []byte { return le.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	flags := []byte{0, 1}

	header := []byte{2, 0, 0x21, 1, 0, 0, 0, 0} // (2+1)*4 bytes with its checksum; LZMA2, smallest dictionary
	header = append(header, sum(header)...)
	chunk := binary.BigEndian.AppendUint16([]byte{1}, uint16(len(data)-1))
	chunk = append(append(chunk, data...), 0)
	index := binary.AppendUvarint([]byte{0, 1}, uint64(len(header)+len(chunk)+4))
	index = pad(binary.AppendUvarint(index, uint64(len(data))))
	index = append(index, sum(index)...)
	footer := append(le.AppendUint32(nil, uint32(len(index)/4-1)), flags...)

	return slices.Concat(
		[]byte("\xfd7zXZ\x00"), flags, sum(flags),
		header, pad(chunk), sum(data),
		index,
		sum(footer), footer, []byte("YZ"),
	)
}
