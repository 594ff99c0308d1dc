package view

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// converse sends bytes as they are and returns the status of each answer, and all bodies,
// until the server closes or has nothing more to say: it is told that no more is to come
// when it has given as many answers as are expected, since it takes that for the end of who
// asked.
func converse(
	t *testing.T, addr, text string, expected int, methods ...string,
) (statuses []int, bodies string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for {
		var asked *http.Request // how an answer is read depends on the method
		if i := len(statuses); i < len(methods) {
			asked = &http.Request{Method: methods[i]}
		}
		r, err := http.ReadResponse(in, asked)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%q: the server neither answers nor closes", text)
			}
			return statuses, bodies
		}
		body, _ := io.ReadAll(r.Body) // a connection that is reset has said enough
		r.Body.Close()
		statuses, bodies = append(statuses, r.StatusCode), bodies+string(body)
		if len(statuses) == expected {
			_ = c.(*net.TCPConn).CloseWrite() // fails where the server has closed
		}
	}
}

// TestServerSmuggling hides a request in another, or in words that two servers could read
// in two ways. Each request on a connection is checked by itself: the one that is hidden
// has no token, and never gets a row.
func TestServerSmuggling(t *testing.T) {
	_, addr, _ := startServer(t, ServerOptions{Token: secret, Open: []string{"/livez"},
		Extra: map[string]http.Handler{"/livez": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
	}, nil)
	const host = "Host: localhost\r\n"
	auth := "Authorization: Bearer " + string(secret) + "\r\n"
	const end = "0\r\n\r\n" // of chunks
	hidden := "GET /views/revenue HTTP/1.1\r\nHost: localhost\r\n\r\n"
	good := "GET /views/revenue HTTP/1.1\r\n" + host + auth + "\r\n"
	open := func(headers, body string) string {
		return "POST /livez HTTP/1.1\r\n" + host + headers + "\r\n" + body
	}
	for _, tc := range []struct {
		name, text string
		want       []int
	}{
		{"fine", good, []int{200}},
		{"pipelined", good + good, []int{200, 200}},
		{"pipelined without token", good + hidden, []int{200, 401}},
		{"pipelined, to another host", good + strings.ReplaceAll(good, "localhost", "evil"), []int{200, 421}},
		{"length and chunks, a request behind the chunks", open(
			fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", 5+len(hidden)), end+hidden),
			[]int{200, 401}},
		{"length and chunks, a request behind the length", open(
			"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n", len(hidden))+hidden+"\r\n"+end), []int{200}},
		{"chunked, identity", open("Transfer-Encoding: chunked, identity\r\n", end+hidden), []int{501}},
		{"identity, chunked", open("Transfer-Encoding: identity, chunked\r\n", end+hidden), []int{501}},
		{"two encodings", open("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", end+hidden), []int{501}},
		{"xchunked", open("Transfer-Encoding: xchunked\r\n", hidden), []int{501}},
		{"space before the colon", open("Content-Length : 4\r\n", hidden), []int{400}},
		{"space before the colon of the encoding", open("Transfer-Encoding : chunked\r\n", end+hidden), []int{400}},
		{"negative length", open("Content-Length: -1\r\n", hidden), []int{400}},
		{"length with a sign", open("Content-Length: +4\r\n", hidden), []int{400}},
		{"two lengths in one", open("Content-Length: 4, 5\r\n", hidden), []int{400}},
		{"NUL in a header", open("X: a\x00b\r\n", ""), []int{400}},
		{"return alone", open("X: a\rTransfer-Encoding: chunked\r\n", ""), []int{400}},
		{"bad chunk", open("Transfer-Encoding: chunked\r\n", "-1\r\n"+hidden), []int{200}},
		{"folded host", "GET /views/revenue HTTP/1.1\r\nHost: localhost\r\n .evil\r\n" + auth + "\r\n", []int{400}},
		{"folded first", "GET /views/revenue HTTP/1.1\r\n Host: localhost\r\n" + auth + "\r\n", []int{400}},
		{"two hosts", "GET /views/revenue HTTP/1.1\r\n" + host + "Host: evil\r\n" + auth + "\r\n", []int{400}},
		{"no host", "GET /views/revenue HTTP/1.1\r\n" + auth + "\r\n", []int{400}},
		{"absolute form, another host", "GET http://evil/views/revenue HTTP/1.1\r\n" + host + auth + "\r\n",
			[]int{421}},
		{"absolute form", "GET http://localhost/views/revenue HTTP/1.1\r\nHost: evil\r\n" + auth + "\r\n", []int{200}},
		{"absolute form without path", "GET http://localhost HTTP/1.1\r\n" + host + auth + "\r\n", []int{400}},
		{"two tokens", "GET /views/revenue HTTP/1.1\r\n" + host + "Authorization: Bearer x\r\n" + auth + "\r\n",
			[]int{401}},
		{"two requests in a line", "GET /livez HTTP/1.1 /views/revenue HTTP/1.1\r\n" + host + "\r\n", []int{400}},
		{"raw byte in the path", "GET /views/revenue/\xff HTTP/1.1\r\n" + host + auth + "\r\n", []int{400}},
		{"raw overlong slash", "GET /views/revenue/\xc0\xaf HTTP/1.1\r\n" + host + auth + "\r\n", []int{400}},
		{"overlong slash", "GET /views/revenue/%c0%af HTTP/1.1\r\n" + host + auth + "\r\n", []int{400}},
		{"overlong key",
			"GET /views/revenue/" + strings.Repeat("k", 20<<10) + " HTTP/1.1\r\n" + host + auth + "\r\n",
			[]int{431}},
		{"newline as a key", "GET /views/revenue/%0d%0aX:1 HTTP/1.1\r\n" + host + auth + "\r\n", []int{404}},
		{"version 9", "GET /views/revenue HTTP/9.9\r\n" + host + auth + "\r\n", []int{505}},
		{"HTTP/2 over this", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{421}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			statuses, bodies := converse(t, addr, tc.text, len(tc.want))
			if !slices.Equal(statuses, tc.want) {
				t.Errorf("answered with %v, want %v: %s", statuses, tc.want, bodies)
			}
			rows, allowed := strings.Count(bodies, `"key":"ann"`), 0
			for _, s := range tc.want {
				if s == http.StatusOK && strings.Contains(tc.text, auth) {
					allowed++
				}
			}
			if rows != allowed || strings.Contains(bodies, string(secret)) {
				t.Errorf("%d rows are shown, want %d: %s", rows, allowed, bodies)
			}
		})
	}
}

// TestServerMethods asks with every method, with the token: views are read with GET and HEAD.
func TestServerMethods(t *testing.T) {
	_, addr, _ := startServer(t, ServerOptions{Token: secret}, nil)
	auth := "Authorization: Bearer " + string(secret)
	for request, want := range map[string]int{
		"GET /views/revenue": 200, "HEAD /views/revenue": 200, "get /views/revenue": 405, "Get /views/revenue": 405,
		"OPTIONS /views/revenue": 405, "TRACE /views/revenue": 405, "PUT /views/revenue": 405,
		"PATCH /views/revenue": 405, "DELETE /views/revenue/ann": 405, "POST /views/revenue": 405,
		"OPTIONS *": 400, "CONNECT localhost:80": 400, "CONNECT /views/revenue": 405,
		"HEAD /views/nothing": 404, "G\x00T /views": 400, "/views GET": 400,
	} {
		method, _, _ := strings.Cut(request, " ")
		for _, token := range []bool{true, false} {
			text, want := request+" HTTP/1.1\r\nHost: localhost\r\n", want
			if token {
				text += auth + "\r\n"
			} else if want != 400 {
				want = 401
			}
			statuses, body := converse(t, addr, text+"\r\n", 1, method)
			if len(statuses) != 1 || statuses[0] != want || method == "HEAD" && body != "" ||
				strings.Contains(body, string(secret)) {
				t.Errorf("%s, with token %v: %v, want %d: %s", request, token, statuses, want, body)
			}
		}
	}
}
