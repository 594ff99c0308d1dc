package changelog

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// maxTopic is the longest name that a topic can have.
const maxTopic = 249

// The ends of the names of internal topics.
const (
	changelogSuffix   = "-changelog"
	repartitionSuffix = "-repartition"
)

// Topic returns the name of a store's changelog topic, <app>-<store>-changelog. Names of
// different apps and stores give different topics: characters that topics cannot hold
// are written _xx in hexadecimal, byte by byte, the underscore is doubled, and what
// becomes too long is cut and ends with a hash of all of it.
func Topic(app, store string) string { return topicName(app, store, changelogSuffix) }

// RepartitionTopic returns the name of the topic, <app>-<name>-repartition, over which
// records go to the tasks that their new keys belong to. It is made as that of Topic.
func RepartitionTopic(app, name string) string { return topicName(app, name, repartitionSuffix) }

// topicName joins the names by a hyphen. One in the app's name would make a-b + c and
// a + b-c the same: names that are read often win over that, so the app is expected to be
// alone with its prefix. (Kafka Streams has the same rule.)
func topicName(app, name, suffix string) string {
	full := escape(app) + "-" + escape(name)
	if len(full)+len(suffix) <= maxTopic {
		return full + suffix
	}
	sum := sha256.Sum256([]byte(full))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:15]))
	return full[:maxTopic-len(suffix)-len(hash)-1] + "-" + hash + suffix
}

const hexDigits = "0123456789abcdef"

// escape writes a name in the characters of topics. That underscores change keeps a.b and
// a_b apart, too, which Kafka takes for the same name in its metrics.
func escape(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.':
			b.WriteByte(c)
		case c == '_':
			b.WriteString("__")
		default:
			b.WriteByte('_')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// Internal reports whether a topic has the name of an internal topic of an app, or of one
// whose name begins with the app's and a hyphen.
func Internal(app, topic string) bool {
	return strings.HasPrefix(topic, escape(app)+"-") &&
		(strings.HasSuffix(topic, changelogSuffix) || strings.HasSuffix(topic, repartitionSuffix))
}
