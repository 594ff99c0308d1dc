package kafka

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// permanent are the broker's answers that do not change by themselves.
var permanent = []error{
	kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.TopicAuthorizationFailed,
	kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	kerr.InvalidTransactionTimeout, kerr.InvalidReplicationFactor, kerr.OffsetOutOfRange, kerr.UnknownTopicID,
	kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.PolicyViolation, kerr.InvalidSessionTimeout,
	kerr.FencedInstanceID,
}

// Passes reports whether an error is one of the cluster or of the way to it that a later
// attempt may not meet: a lost connection, a coordinator that moves, a member that was
// taken for dead.
func Passes(err error) bool {
	for _, p := range permanent {
		if errors.Is(err, p) {
			return false
		}
	}
	var answer *kerr.Error
	var network net.Error
	switch {
	case errors.As(err, &answer), errors.As(err, &network):
		return true
	}
	for _, e := range []error{
		ErrMoved, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, kgo.ErrRecordTimeout,
		kgo.ErrRecordRetries, kgo.ErrClientClosed, kgo.ErrAborting,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
