package tailrace

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/view"
)

// told is a runner of which the status is given.
type told engine.Status

func (told) Run(context.Context) error { return nil }

func (t told) Status() engine.Status { return engine.Status(t) }

// A topology that is on its way leaves the app ready, since the views of the others can be
// read; who waits for its own views learns from the body that it has not come yet.
func TestReadyNamesWhoIsJoining(t *testing.T) {
	host := view.NewHost(view.HostOptions{})
	defer host.Close(context.Background())
	for names, want := range map[string]bool{"": false, "totals": true} {
		a := &App{host: host, ended: make(chan struct{}), runner: told{Ready: true, Joining: strings.Fields(names)}}
		got := httptest.NewRecorder()
		a.readyz(got, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if got.Code != http.StatusOK || strings.Contains(got.Body.String(), `"joining":["totals"]`) != want {
			t.Errorf("with %q joining: %d %s", names, got.Code, got.Body)
		}
	}
}
