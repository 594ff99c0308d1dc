package postgres

import (
	"context"
	"fmt"
)

// Identify implements sources.Identifier. What is wrong with the source, Open says.
func (c *connector) Identify(ctx context.Context) (system string, err error) {
	conn, err := parseURL(c.cfg.URL, c.cfg.silence)
	if err != nil {
		return "", err
	}
	q, err := connect(ctx, conn)
	if err != nil {
		return "", err
	}
	defer q.Close(context.WithoutCancel(ctx))
	err = q.QueryRow(ctx, "SELECT system_identifier::text || '/' || pg_catalog.current_database()"+
		" FROM pg_catalog.pg_control_system()").Scan(&system)
	switch sqlState(err) {
	case "42501", "42883":
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("postgres: identify the system: %w", err)
	}
	return system, nil
}
