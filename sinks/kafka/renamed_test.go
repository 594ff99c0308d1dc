package kafka_test

import (
	"context"

	"github.com/tailrace/tailrace/sinks"
	"github.com/tailrace/tailrace/sinks/kafka"
)

// Open gives the outputs topics of their own.
func (r *renamed) Open(ctx context.Context, req sinks.OpenRequest) (sinks.Writer, error) {
	req.App = r.app
	outputs := make([]sinks.Output, len(req.Outputs))
	for i, o := range req.Outputs {
		o.Options = kafka.Output{Topic: r.app + "." + o.Name}
		outputs[i] = o
	}
	req.Outputs = outputs
	return r.Connector.Open(ctx, req)
}

// Drop drops what Open made.
func (r *renamed) Drop(ctx context.Context, req sinks.DropRequest) error {
	req.App = r.app
	return r.Connector.Drop(ctx, req)
}
