// Package pgtls says how far the connections to a PostgreSQL server can be trusted, and
// what is wrong where they cannot.
package pgtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// Remedy says how to mend a connection that failed because the server cannot be
// trusted, "" for any other error. Trying again helps with none of these.
func Remedy(err error) string {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		other     *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &authority):
		return "the server's certificate is signed by an authority that is not known here: name that authority's " +
			"certificate in the URL (sslrootcert=/path/ca.crt), if this is the right server"
	case errors.As(err, &host):
		return "the server's certificate is for another host: connect by a name that is in it, or have one made " +
			"for the host in the URL"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired or is not valid yet: renew it, or set the clock"
	case errors.As(err, &other):
		return "the server's certificate cannot be verified: check sslrootcert and sslmode in the URL"
	case strings.Contains(err.Error(), "require_auth check failed"): // an unexported error of pgconn
		return "the server asks for the password over a connection that may be unencrypted: " + remedy
	case strings.Contains(err.Error(), "server refused TLS connection"): // the same
		return "the server does not offer TLS, and sslmode in the URL asks for it: set ssl = on in the server's " +
			"configuration"
	}
	return ""
}
