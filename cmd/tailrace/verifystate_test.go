package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestVerifyState prints what a member says of its state, and tells by its status whether it
// differs from the changelogs.
func TestVerifyState(t *testing.T) {
	body, status := "", http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/verify/state" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer server.Close()
	for _, c := range []struct {
		status, exit int
		body, prints string
	}{
		{200, 0, `{"tasks":[{"task":"shop@0","keys":7}],"differences":[]}`, "task shop@0: 7 keys"},
		{200, exitRunTime, `{"tasks":[{"task":"shop@0","keys":7,"differences":1}],"differences":[{"task":"shop@0",
			"topic":"shop-rows-changelog","partition":3,"kind":"missing in the state","key":"6b"}]}`,
			"shop@0: shop-rows-changelog partition 3, key 6b: missing in the state"},
		{503, exitEnvironment, `{"error":"verify","message":"no tasks"}`, "no tasks"},
		{404, exitEnvironment, "404 page not found", "--state is for apps in Kafka mode"},
		{401, exitEnvironment, `{"message":"unauthorized"}`, "--token-file"},
	} {
		body, status = c.body, c.status
		var out bytes.Buffer
		if exit := run([]string{"verify", "--state", "--app", server.URL}, &out, &out); exit != c.exit {
			t.Errorf("exit %d, want %d: %s", exit, c.exit, &out)
		}
		if !strings.Contains(out.String(), c.prints) {
			t.Errorf("printed %s", &out)
		}
	}
	var out bytes.Buffer
	args := []string{"verify", "--state", "--view", "x", "--app", server.URL}
	if exit := run(args, &out, &out); exit != exitInput {
		t.Errorf("a view with --state: exit %d, %s", exit, &out)
	}
}
