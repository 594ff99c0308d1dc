package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/tailrace/tailrace/sources"
)

func (e *Engine) openRetry(
	ctx context.Context, d *databaseRun, req sources.OpenRequest,
) (sources.Session, error) {
	var session sources.Session
	err := e.retry(ctx, d, func() (err error) {
		session, err = d.connector.Open(ctx, req)
		return err
	})
	return session, err
}

// retry asks something of a source again and again while the failure is one that
// passes.
func (e *Engine) retry(ctx context.Context, d *databaseRun, ask func() error) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, e.limits.Retry) {
		err := ask()
		if err == nil {
			e.status.sourceError(d.name, nil)
			return nil
		}
		if ctx.Err() != nil || permanent(err) {
			return fmt.Errorf("engine: database %q: %w", d.name, err)
		}
		if e.status.neverOpen(d.name) {
			err = askedRightly(err)
		}
		e.log.Warn("cannot reach the source yet", "database", d.name, "error", err, "retry_in", pause)
		e.status.sourceError(d.name, err)
		d.lag.unheard()
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// askedRightly adds to the error of a server that was never reached in this run that it may
// be another one that is meant.
func askedRightly(err error) error {
	var op *net.OpError
	var name *net.DNSError
	if errors.As(err, &op) || errors.As(err, &name) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w; if it is not just down: are host and port in the URL right?", err)
	}
	return err
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool { return errors.Is(err, sources.ErrPermanent) }

// sleep waits, or ends with the context.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
