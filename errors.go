package tailrace

import (
	"errors"

	"github.com/tailrace/tailrace/internal/engine"
	"github.com/tailrace/tailrace/internal/kafka"
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
	// ErrTopologyChanged says that, in Kafka mode, another form of a topology has made the app's
	// state; the message names the ways on.
	ErrTopologyChanged = kafka.ErrTopologyChanged
	// ErrKafkaMode says that something is not to be had in Kafka mode.
	ErrKafkaMode = errors.New("tailrace: not in Kafka mode")
	// ErrGroupRefused says that the group of an app in Kafka mode does not take this member:
	// it has another topology, or speaks an older version of the protocol.
	ErrGroupRefused = kafka.ErrRefused
	// ErrGroupTopics says that topics that the group reads are not what it was started with.
	ErrGroupTopics = kafka.ErrGroupTopics
	// ErrRunning says that the app has been run before; make a new one.
	ErrRunning = errors.New("tailrace: an app runs once")
)
