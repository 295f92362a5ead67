package cmd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/seed-245eaa15/obs/db"
	"github.com/seed-245eaa15/obs/internal/embedded"
	"github.com/seed-245eaa15/obs/internal/observe"
)

// authority signs certificates for this machine.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
	ip   net.IP // an address of this machine alone: embedded Postgres has only one port
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	var random [3]byte
	rand.Read(random[:]) // never fails
	a := &authority{t: t, dir: t.TempDir(), ip: net.IPv4(127, 1+random[0]%250, random[1], 1+random[2]%250)}
	require.NoError(t, os.Chmod(a.dir, 0o755)) // Postgres may be another user
	require.NoError(t, os.Chmod(filepath.Dir(a.dir), 0o755))
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	require.NoError(t, err)
	a.file = a.write(name+".pem", "CERTIFICATE", der, 0o644)
	return a
}

func (a *authority) write(name, kind string, der []byte, mode os.FileMode) string {
	a.t.Helper()
	file := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode))
	return file
}

// sign makes a certificate for this machine that serves and asks.
func (a *authority) sign(name string) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), a.ip},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, k.Public(), a.key)
	require.NoError(a.t, err)
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(a.t, err)
	return a.write(name+".pem", "CERTIFICATE", der, 0o644), a.write(name+".key", "PRIVATE KEY", pk, 0o600)
}

// securePostgres is a server that takes only TLS, with a password. It gives a
// URL without what is said of TLS.
func securePostgres(t *testing.T, ca *authority) string {
	t.Helper()
	dir := filepath.Join(ca.dir, "postgres")
	pg, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{
		Dir: dir, BinDir: os.Getenv("OBS_PG_BIN"), Fast: true,
		Settings: map[string]string{"listen_addresses": ca.ip.String(), "shared_buffers": "16MB"},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, pg.Stop(ctx))
	})
	socket, err := pgx.Connect(t.Context(), pg.URL("postgres"))
	require.NoError(t, err)
	defer func() { require.NoError(t, socket.Close(context.Background())) }()
	var data string
	require.NoError(t, socket.QueryRow(t.Context(), "SHOW data_directory").Scan(&data))
	// The server writes its own key, so that it is its own whoever it runs as.
	cert, key := ca.sign("postgres")
	for name, file := range map[string]string{"server.crt": cert, "server.key": key} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		_, err = socket.Exec(t.Context(), fmt.Sprintf(`COPY (SELECT string_to_table('%s', E'\n')) TO PROGRAM 'umask 077; cat > %s'`,
			strings.TrimSpace(string(text)), filepath.Join(data, name)))
		require.NoError(t, err)
	}
	_, err = socket.Exec(t.Context(), fmt.Sprintf(`COPY (SELECT unnest(ARRAY['local all all trust', 'hostssl all all 127.0.0.0/8 scram-sha-256'])) TO '%s'`, filepath.Join(data, "pg_hba.conf")))
	require.NoError(t, err)
	for _, q := range []string{
		"ALTER SYSTEM SET ssl = on", "CREATE ROLE obs LOGIN PASSWORD 'pg-secret'", "CREATE DATABASE obs OWNER obs", "SELECT pg_reload_conf()",
	} {
		_, err = socket.Exec(t.Context(), q)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		var on string
		return socket.QueryRow(t.Context(), "SHOW ssl").Scan(&on) == nil && on == "on"
	}, patience, look)
	return fmt.Sprintf("postgres://obs:pg-secret@%s:5432/obs", ca.ip)
}

// secureNATS is a nats-server that takes only TLS with a certificate of ours,
// and users of an account that an operator signed. It gives the URL and a
// user's credentials.
func secureNATS(t *testing.T, ca *authority) (natsURL, creds string) {
	t.Helper()
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		k, err := create()
		require.NoError(t, err)
		pub, err := k.PublicKey()
		require.NoError(t, err)
		return k, pub
	}
	operator, operatorID := pair(nkeys.CreateOperator)
	_, systemID := pair(nkeys.CreateAccount)
	account, accountID := pair(nkeys.CreateAccount)
	user, userID := pair(nkeys.CreateUser)
	oc := jwt.NewOperatorClaims(operatorID)
	oc.SystemAccount = systemID
	ac := jwt.NewAccountClaims(accountID)
	ac.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	encode := func(c jwt.Claims, by nkeys.KeyPair) string {
		token, err := c.Encode(by)
		require.NoError(t, err)
		return token
	}
	operatorJWT, systemJWT, accountJWT := encode(oc, operator), encode(jwt.NewAccountClaims(systemID), operator), encode(ac, operator)
	seed, err := user.Seed()
	require.NoError(t, err)
	text, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(userID), account), seed)
	require.NoError(t, err)
	creds = filepath.Join(ca.dir, "obs.creds")
	require.NoError(t, os.WriteFile(creds, text, 0o600))

	port := freePort(t)
	cert, key := ca.sign("nats")
	conf := filepath.Join(ca.dir, "nats.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `
listen: "127.0.0.1:%d"
jetstream { store_dir: %q }
tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }
operator: %s
system_account: %s
resolver: MEMORY
resolver_preload { %s: %s, %s: %s }
`, port, t.TempDir(), cert, key, ca.file, operatorJWT, systemID, systemID, systemJWT, accountID, accountJWT), 0o600))
	p := run(t, "nats-server", "-c", conf)
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), "Server is ready") }, patience, look)
	return fmt.Sprintf("tls://127.0.0.1:%d", port), creds
}

// Everything over TLS, with passwords, certificates and credentials of its
// own; and whoever lacks one of them starts not at all, and says why in a line
// without a secret.
func TestSecureConnections(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	dsn := securePostgres(t, ca)
	natsURL, creds := secureNATS(t, ca)
	cert, key := ca.sign("obs")
	root := func(a *authority) string { return dsn + "?sslmode=verify-full&sslrootcert=" + url.QueryEscape(a.file) }
	natsFlags := []string{"--nats-creds", creds, "--nats-ca", ca.file, "--nats-cert", cert, "--nats-key", key}

	pool, err := db.Open(t.Context(), db.Config{URL: root(ca), MaxConns: 3})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, db.Migrate(t.Context(), pool))
	s := &stack{t: t, dsn: root(ca), nats: natsURL, pool: pool}
	svc := observe.New(observe.Config{Pool: pool, Jobs: db.NewJobs(pool, db.JobsConfig{})})
	s.team, s.project, err = svc.EnsureLocal(t.Context(), "e2e")
	require.NoError(t, err)
	_, s.key, err = svc.IssueKey(t.Context(), s.team, s.project, "e2e", "e2e", []string{observe.ScopeRead, observe.ScopeWrite}, time.Time{})
	require.NoError(t, err)

	s.start("obs", append([]string{"server"}, natsFlags...)...)
	s.start("obs-relay", natsFlags...)
	s.start("obs-worker", append(natsFlags, "--slots", "event=4")...)
	s.send(0, 50)
	s.settled(50)
	s.once(50)
	require.Zero(t, s.count(`SELECT count(*) FROM pg_stat_ssl l JOIN pg_stat_activity a USING (pid)
		WHERE a.usename = 'obs' AND a.client_addr IS NOT NULL AND NOT l.ssl`), "no connection is in the clear")
	require.NotZero(t, s.count(`SELECT count(*) FROM pg_stat_ssl l JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'obs' AND l.ssl`))

	without := func(flag string) []string {
		at := slices.Index(natsFlags, flag)
		return slices.Delete(slices.Clone(natsFlags), at, at+2)
	}
	for name, tt := range map[string]struct {
		dsn   string
		flags []string
		says  string
	}{
		"another authority's database": {root(stranger), natsFlags, "certificate"},
		"a database without TLS":       {dsn + "?sslmode=disable", natsFlags, "no pg_hba.conf entry"},
		"no credentials":               {root(ca), without("--nats-creds"), "uthorization"},
		"no authority for NATS":        {root(ca), without("--nats-ca"), "certificate"},
		"another authority's NATS":     {root(ca), append(without("--nats-ca"), "--nats-ca", stranger.file), "certificate"},
		"no certificate of ours":       {root(ca), slices.DeleteFunc(without("--nats-cert"), func(a string) bool { return a == "--nats-key" || a == key }), ""},
	} {
		p := run(t, "obs-relay", append(tt.flags, "--database-url", tt.dsn, "--nats-url", natsURL, "--addr", "off", "--connect-timeout", "2s")...)
		require.Equal(t, 1, p.exit(t, patience), name)
		require.Contains(t, p.out.String(), tt.says, name)
		require.Len(t, strings.Split(strings.TrimSpace(p.out.String()), "\n"), 1, "%s: %s", name, p.out)
		require.NotContains(t, p.out.String(), "pg-secret", name)
	}
}
