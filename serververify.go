package tailrace

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tailrace/tailrace/internal/compare"
	"github.com/tailrace/tailrace/sources"
	"github.com/tailrace/tailrace/view"
)

// verifyRequest and verifyAnswer are the bodies of POST /verify.
type (
	verifyRequest struct {
		View     string `json:"view"`
		Database string `json:"database"`
		SQL      string `json:"sql"`
	}
	verifyAnswer struct {
		View        string       `json:"view"`
		Database    string       `json:"database"`
		Position    string       `json:"position"`
		ViewRows    int          `json:"view_rows"`
		SQLRows     int          `json:"sql_rows"`
		Differences []Difference `json:"differences"`
	}
)

// serveVerify makes one Check. A difference is an answer like any other.
func (a *App) serveVerify(w http.ResponseWriter, r *http.Request) {
	var req verifyRequest
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	if err := body.Decode(&req); err != nil || req.View == "" || req.SQL == "" {
		refuse(w, http.StatusBadRequest, `the body has to be {"view": ..., "sql": ..., "database": ...}`)
		return
	}
	ctx, cancel := unhurried(w, r)
	defer cancel()
	results, err := a.Verify(ctx, Check(req))
	if err != nil {
		status := http.StatusServiceUnavailable
		for _, mistake := range []error{
			sources.ErrConfig, sources.ErrQuery, compare.ErrColumns, view.ErrNoView,
		} {
			if errors.Is(err, mistake) {
				status = http.StatusBadRequest
			}
		}
		refuse(w, status, err.Error())
		return
	}
	v := results[0]
	answer := verifyAnswer{
		View: v.View, Database: v.Database, Position: v.Position.String(), ViewRows: v.ViewRows, SQLRows: v.SQLRows,
		Differences: v.Differences,
	}
	if answer.Differences == nil {
		answer.Differences = []Difference{}
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(map[string]string{"error": "verify", "message": message})
}
