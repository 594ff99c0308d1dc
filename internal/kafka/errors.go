package kafka

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// permanent are the broker's answers that do not change by themselves.
var permanent = []error{
	kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.TopicAuthorizationFailed,
	kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	kerr.InvalidTransactionTimeout, kerr.InvalidReplicationFactor, kerr.OffsetOutOfRange, kerr.UnknownTopicID,
	kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.PolicyViolation,
}

// Permanent reports whether an error stays when the same is tried again.
func Permanent(err error) bool {
	for _, p := range permanent {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}
