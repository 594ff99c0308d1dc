package view

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// selfSigned is a certificate for this machine, as server or client, and its pool.
func selfSigned(t *testing.T, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// tlsClient asks over a connection of its own each time, unless it keeps them.
func tlsClient(t *testing.T, cfg *tls.Config, keep bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: !keep, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// get asks for a path; status 0 stands for no answer.
func get(t *testing.T, c *http.Client, addr, path, host, token string) (status, proto int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.ProtoMajor, string(b)
}

// TestServerTLS asks over HTTPS: the same checks hold as without, over HTTP/2 too.
func TestServerTLS(t *testing.T) {
	cert, trusted := selfSigned(t, time.Now().Add(time.Hour))
	_, others := selfSigned(t, time.Now().Add(time.Hour))
	_, addr, _ := startServer(t, ServerOptions{
		Token: secret, MaxConnections: 3, TLS: &tls.Config{Certificates: []tls.Certificate{cert}},
	}, nil)
	for _, protos := range [][]string{{"http/1.1"}, {"h2", "http/1.1"}} {
		c := tlsClient(t, &tls.Config{RootCAs: trusted, NextProtos: protos}, false)
		if len(protos) == 1 {
			c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
		}
		for _, tc := range []struct {
			path, host, token string
			want              int
		}{
			{"/views/revenue", "", string(secret), 200},
			{"/views/revenue", "", "", 401},
			{"/views/revenue", "", "x", 401},
			{"/views/revenue", "evil.example", string(secret), 421},
			{"//views", "", string(secret), 400},
		} {
			status, proto, body := get(t, c, addr, tc.path, tc.host, tc.token)
			if status != tc.want || proto != len(protos) || strings.Contains(body, string(secret)) {
				t.Errorf("%v %+v: %d over HTTP/%d: %s", protos, tc, status, proto, body)
			}
		}
	}
	wary := tlsClient(t, &tls.Config{RootCAs: others}, false)
	if status, _, err := get(t, wary, addr, "/views", "", ""); status != 0 {
		t.Errorf("a client that trusts others got %d: %s", status, err)
	}
	old := &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if status, _, err := get(t, tlsClient(t, old, false), addr, "/views", "", string(secret)); status != 0 ||
		!strings.Contains(err, "version") {
		t.Errorf("TLS 1.1 got %d: %s", status, err)
	}
	auth := "Authorization: Bearer " + string(secret)
	r, body := ask(t, addr, "GET /views/revenue HTTP/1.1", "Host: localhost", auth)
	if r.StatusCode != http.StatusBadRequest || strings.Contains(body, "ann") {
		t.Errorf("without TLS: %d %s", r.StatusCode, body)
	}
	// Idle connections give way under TLS as well.
	for range 6 {
		keeps := tlsClient(t, &tls.Config{RootCAs: trusted}, true)
		if status, _, body := get(t, keeps, addr, "/views/revenue", "", string(secret)); status != http.StatusOK {
			t.Fatalf("beside idle connections: %d %s", status, body)
		}
	}
}

// TestServerClientCertificates has a certificate stand for the token, and no other one.
func TestServerClientCertificates(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	cert, trusted := selfSigned(t, hour)
	known, clients := selfSigned(t, hour)
	stranger, _ := selfSigned(t, hour)
	late, _ := selfSigned(t, time.Now().Add(-time.Hour))
	authority, err := x509.ParseCertificate(late.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	clients.AddCert(authority)
	_, addr, _ := startServer(t, ServerOptions{TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	}}, nil)
	for _, tc := range []struct {
		name  string
		certs []tls.Certificate
		want  int
	}{
		{"a known client", []tls.Certificate{known}, 200},
		{"no certificate", nil, 0},
		{"a stranger", []tls.Certificate{stranger}, 0},
		{"a certificate that has expired", []tls.Certificate{late}, 0},
	} {
		// The client shows its certificate even if the server names other authorities.
		cfg := &tls.Config{RootCAs: trusted, GetClientCertificate: func(*tls.CertificateRequestInfo) (
			*tls.Certificate, error,
		) {
			if len(tc.certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &tc.certs[0], nil
		}}
		status, _, body := get(t, tlsClient(t, cfg, false), addr, "/views/revenue", "", "")
		if status != tc.want || tc.want == 200 != strings.Contains(body, "ann") {
			t.Errorf("%s: %d %s", tc.name, status, body)
		}
	}
}
