package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
	"github.com/tailrace/tailrace/sources"
)

// authority signs certificates for the test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string // its certificate in a file
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, path: filepath.Join(t.TempDir(), name+".crt"), cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.path, encode("CERTIFICATE", der), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// sign gives a server a certificate for a host and an end.
func (a *authority) sign(t *testing.T, db *pgservertest.DB, host net.IP, until time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{host},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := db.Server.DataDir()
	owner, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	uid := owner.Sys().(*syscall.Stat_t)
	for name, data := range map[string][]byte{
		"server.crt": encode("CERTIFICATE", der), "server.key": encode("EC PRIVATE KEY", private),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, int(uid.Uid), int(uid.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec("ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
	eventually(t, "the server has the certificate", func() bool {
		served, err := serverCertificate(db.Server.Addr())
		return err == nil && served.NotAfter.Unix() == until.Unix() && served.IPAddresses[0].Equal(host)
	})
}

// TestTLS reads over TLS with everything verified, and says what is wrong where the
// server cannot be trusted, instead of going on or trying for ever.
func TestTLS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgservertest.Private(nil))
	f.exec("CREATE TABLE t (id int PRIMARY KEY, x int)")
	f.want("public.t", "id;x")
	right, wrong := newAuthority(t, "right"), newAuthority(t, "wrong")
	plain := f.db.URL
	verified := func(ca *authority) string {
		return strings.Replace(plain, "sslmode=disable", "sslmode=verify-full&sslrootcert="+ca.path, 1)
	}
	hour := time.Now().Add(time.Hour)
	refused := func(name string, ca *authority, remedy string) {
		t.Helper()
		f.cfg.URL = verified(ca)
		_, err := f.tryOpen()
		if !errors.Is(err, sources.ErrConfig) || !strings.Contains(err.Error(), remedy) ||
			strings.Contains(err.Error(), f.db.Server.Password()) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	refused("a server without TLS", right, "ssl = on")
	right.sign(t, f.db, net.IPv4(127, 0, 0, 1), hour)
	refused("another authority", wrong, "sslrootcert")
	f.cfg.URL = verified(right)
	s := f.open()
	m := newModel(t)
	f.exec("INSERT INTO t VALUES (1, 1)")
	f.readTo(s, m, f.head())
	f.same(m, "public.t", "id", "x")
	if n := f.db.String("SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_replication r USING (pid) " +
		"WHERE s.ssl"); n != "1" {
		t.Errorf("%s replication connections are encrypted", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	right.sign(t, f.db, net.IPv4(127, 0, 0, 2), hour)
	refused("a certificate of another host", right, "host")
	right.sign(t, f.db, net.IPv4(127, 0, 0, 1), time.Now().Add(-time.Minute))
	refused("a certificate that has expired", right, "renew")
}

// serverCertificate asks a server for its certificate as a client does that starts TLS.
func serverCertificate(addr string) (*x509.Certificate, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return nil, err
	}
	answer := make([]byte, 1)
	if _, err := conn.Read(answer); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, errors.New("no TLS")
	}
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // only looks at it
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}
