package tailrace

import (
	"errors"

	"github.com/tailrace/tailrace/internal/engine"
)

// Errors of an app; test with errors.Is. Those of sources, sinks, state and views
// are in their packages and pass through.
var (
	// ErrConfig says that the Config cannot be used; the message lists everything.
	ErrConfig = errors.New("tailrace: configuration")
	// ErrStopped says that Run has ended; its error says why.
	ErrStopped = errors.New("tailrace: the app has stopped")
	// ErrStateLost says that the state directory is new although the app ran before;
	// see Config.StopOnLostState.
	ErrStateLost = engine.ErrStateLost
	// ErrKafkaMode says that something is not to be had in Kafka mode.
	ErrKafkaMode = errors.New("tailrace: not in Kafka mode")
	// ErrRunning says that the app has been run before; make a new one.
	ErrRunning = errors.New("tailrace: an app runs once")
)
