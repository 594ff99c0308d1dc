package postgres_test

import (
	"testing"

	"github.com/tailrace/tailrace/internal/pgserver/pgservertest"
)

func TestMain(m *testing.M) { pgservertest.Main(m) }
