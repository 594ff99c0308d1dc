package tailrace

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestUp shows as down what the status says cannot be reached.
func TestUp(t *testing.T) {
	var status Status
	registry := prometheus.NewRegistry()
	registry.MustRegister(&upCollector{
		databases: []string{"depot", "shop"}, targets: []string{"wh"}, status: func() Status { return status },
	})
	down := errors.New("down")
	for _, c := range []struct {
		status Status
		want   []string
	}{
		{Status{Sources: map[string]error{"depot": down}}, []string{"wh 1", "depot 0", "shop 1"}},
		{Status{Targets: map[string]error{"wh": down}}, []string{"wh 0", "depot 1", "shop 1"}},
		{Status{Stopped: true}, []string{"wh 0", "depot 0", "shop 0"}},
	} {
		status = c.status
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got = append(got, fmt.Sprint(m.GetLabel()[0].GetValue(), " ", m.GetGauge().GetValue()))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v shows %v, want %v", c.status, got, c.want)
		}
	}
}
