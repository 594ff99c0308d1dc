package view

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// PeerOptions say how members of an app ask each other.
type PeerOptions struct {
	// App is the app's name: members of another one refuse each other.
	App string
	// Token is shown to the other members, which all have the same.
	Token Token
	// TLS makes it HTTPS; nil is plain HTTP.
	TLS *tls.Config
}

// Peers asks other members of an app for their parts of views.
type Peers struct {
	app    string
	token  Token
	scheme string
	client *http.Client
}

// NewPeers makes what asks; Close lets go of its connections.
func NewPeers(opts PeerOptions) *Peers {
	p := &Peers{app: opts.App, token: opts.Token, scheme: "http"}
	if opts.TLS != nil {
		p.scheme = "https"
	}
	p.client = &http.Client{
		// What is asked for is there or nowhere: the token goes to no other address, be it that
		// of a redirect or of a proxy.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: opts.TLS, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout, MaxIdleConnsPerHost: 16, IdleConnTimeout: idleTimeout / 2,
			MaxResponseHeaderBytes: maxHeaderBytes, DisableCompression: true,
		},
	}
	return p
}

// dialTimeout bounds how long a member that does not answer is waited for.
const dialTimeout = 2 * time.Second

// Close lets go of idle connections.
func (p *Peers) Close() { p.client.CloseIdleConnections() }

// fetch asks the member at an address for its share of an answer to r.
func (p *Peers) fetch(
	ctx context.Context, r *http.Request, address string, m shareWanted, most int64,
) (*share, error) {
	if err := checkAddress(address); err != nil {
		return nil, unreachable(address, err)
	}
	query := r.URL.Query()
	query.Del("cursor")
	if deadline, ok := ctx.Deadline(); ok {
		query.Set("timeout", max(time.Until(deadline), time.Millisecond).String())
	}
	target := url.URL{
		Scheme: p.scheme, Host: address, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: query.Encode(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, unreachable(address, err)
	}
	req.Header.Set(headerForwarded, p.app)
	req.Header.Set(headerParts, formatParts(m.parts))
	if m.pin != "" {
		req.Header.Set(headerPin, m.pin)
	}
	if m.after != nil {
		req.Header.Set(headerAfter, encodeKey(m.after))
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+string(p.token))
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, late(ctx, &m, unreachable(address, err))
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return nil, late(ctx, &m, unreachable(address, err))
	case int64(len(body)) > most:
		return nil, unreachable(address, fmt.Errorf("its answer is longer than %d bytes", most))
	}
	return readShare(address, res.StatusCode, body)
}

// readShare reads the answer of another member. What it refuses is refused with its words.
func readShare(address string, status int, body []byte) (*share, error) {
	if status == http.StatusOK {
		var out share
		if err := json.Unmarshal(body, &out); err != nil {
			return nil, unreachable(address, fmt.Errorf("it does not answer as a member does: %w", err))
		}
		return &out, nil
	}
	e := &httpError{Status: status}
	switch err := json.Unmarshal(body, e); {
	case err != nil || e.Code == "":
		return nil, unreachable(address, fmt.Errorf("it answers with status %d", status))
	case status == http.StatusUnauthorized:
		return nil, unreachable(address, errors.New("it refuses this member's token: give all the same"))
	case status == http.StatusMisdirectedRequest:
		return nil, unreachable(address, errors.New(e.Message))
	case status == http.StatusInternalServerError:
		return nil, unreachable(address, errors.New("it could not read its state; its log says why"))
	}
	return nil, e
}

// unreachable is the answer where another member cannot be asked: it is gone, or on its way.
func unreachable(address string, err error) error {
	var cause *url.Error
	if errors.As(err, &cause) {
		err = cause.Err // without the URL, which has a key
	}
	return &httpError{Status: http.StatusServiceUnavailable, Code: "member_unreachable",
		Message: fmt.Sprintf("the member at %s cannot be asked: %v", address, err),
		Remedy:  "try again: when it is gone the group gives what it had to others"}
}

// late makes it a time-out where the member may be waiting for what the request waits for.
func late(ctx context.Context, m *shareWanted, err error) error {
	if m.waits && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s", context.DeadlineExceeded, err.Error())
	}
	return err
}

// checkAddress refuses what is no host:port. It is what another member of the group has said.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("its address %q is not host:port", address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	name := strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:")
	if err != nil || n == 0 || host == "" || name != "" {
		return fmt.Errorf("its address %q is not host:port", address)
	}
	return nil
}

// CheckAddress refuses an address under which other members could not reach this one.
func CheckAddress(address string) error {
	if err := checkAddress(address); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	return nil
}

func (sh *share) encode() ([]byte, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // else the rows would not be what they are
	err := enc.Encode(sh)
	return body.Bytes(), err
}

func encodeKey(key []byte) string { return base64.RawURLEncoding.EncodeToString(key) }

func decodeKey(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }
