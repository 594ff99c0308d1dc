package changelog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrTopic says that a topic is not as it must be; the message names topic, setting, what
// it is, what it must be and the remedy.
var ErrTopic = errors.New("changelog: unfit topic")

// Settings of topics that count.
const (
	cleanupPolicy   = "cleanup.policy"
	retentionTime   = "retention.ms"
	retentionBytes  = "retention.bytes"
	deleteRetention = "delete.retention.ms"
	timestampType   = "message.timestamp.type"
)

// DefaultDeleteRetention is how long a topic keeps tombstones if nothing else is known,
// which is Kafka's default.
const DefaultDeleteRetention = 24 * time.Hour

// Config is what an internal topic has to be like.
type Config struct {
	Topic string
	// Partitions are those of the sub-topology: one for each of its tasks.
	Partitions int32
	// Settings are those that it is created with. What is not said is the cluster's
	// default: replication and min.insync.replicas above all.
	Settings map[string]string
	// Repartition tells the topic of an exchange from a changelog.
	Repartition bool
}

// ForStore is the configuration of the changelog of a store whose sub-topology has so
// many tasks.
func ForStore(app, store string, tasks int32) Config {
	return Config{Topic: Topic(app, store), Partitions: tasks, Settings: map[string]string{
		cleanupPolicy: "compact",
		timestampType: "CreateTime",
	}}
}

// ForRepartition is the configuration of the topic of an exchange into a sub-topology
// that has so many tasks. Nothing is deleted by age: what has been consumed is purged.
func ForRepartition(app, name string, tasks int32) Config {
	return Config{Topic: RepartitionTopic(app, name), Partitions: tasks, Repartition: true,
		Settings: map[string]string{
			cleanupPolicy:  "delete",
			retentionTime:  "-1",
			retentionBytes: "-1",
			// Purging goes by segments: of the default size and age they would be kept long.
			"segment.bytes": "52428800",
			timestampType:   "CreateTime",
		}}
}

// ForDeadLetters is the configuration of a topic of records that could not be decoded, of
// which nothing is deleted before somebody has looked.
func ForDeadLetters(topic string) Config {
	return Config{Topic: topic, Partitions: 1, Settings: map[string]string{
		cleanupPolicy:  "delete",
		retentionTime:  "-1",
		retentionBytes: "-1",
		timestampType:  "CreateTime",
	}}
}

// Existing is what a topic is like.
type Existing struct {
	Partitions int32
	// Settings are its effective settings; nil where they may not be read.
	Settings map[string]string
}

// Check compares a topic with what it has to be. The error, an ErrTopic, has everything
// that is wrong. Settings that cannot be read count as right.
func (c Config) Check(is Existing) error {
	var problems []error
	if is.Partitions != c.Partitions {
		problems = append(problems, fmt.Errorf("%w: topic %q has %d partitions and must have %d, one for each "+
			"task; %s", ErrTopic, c.Topic, is.Partitions, c.Partitions, c.recreate()))
	}
	if policy, known := is.Settings[cleanupPolicy]; known {
		problems = append(problems, c.checkCleanup(policy))
	}
	if c.Repartition {
		for _, setting := range []string{retentionTime, retentionBytes} {
			problems = append(problems, c.checkSetting(is.Settings, setting,
				"records that are not yet consumed would be lost"))
		}
	}
	return errors.Join(problems...)
}

// checkCleanup compares the clean-up policy, a list.
func (c Config) checkCleanup(is string) error {
	var has []string
	for policy := range strings.SplitSeq(is, ",") {
		has = append(has, strings.TrimSpace(policy))
	}
	compacts := slices.Contains(has, "compact")
	deletes := slices.Contains(has, "delete")
	switch {
	case c.Repartition && compacts:
		return c.wrong(cleanupPolicy, is, "records that share a key would be lost")
	case !c.Repartition && deletes:
		return c.wrong(cleanupPolicy, is, "state would be lost with age")
	case !c.Repartition && !compacts:
		return c.wrong(cleanupPolicy, is, "it would grow without end")
	}
	return nil
}

func (c Config) checkSetting(is map[string]string, setting, because string) error {
	value, known := is[setting]
	if !known || value == c.Settings[setting] {
		return nil
	}
	return c.wrong(setting, value, because)
}

func (c Config) wrong(setting, is, because string) error {
	must := c.Settings[setting]
	return fmt.Errorf("%w: topic %q has %s=%s and must have %s=%s, or %s; run kafka-configs.sh --alter "+
		"--entity-type topics --entity-name %s --add-config %s=%s",
		ErrTopic, c.Topic, setting, is, setting, must, because, c.Topic, setting, must)
}

// recreate is the remedy for what cannot be altered.
func (c Config) recreate() string {
	if c.Repartition {
		return "let the app consume what the topic holds or give that up, delete the topic and start again"
	}
	return "give the inputs that number again, or drop the app (tailrace drop) to build its state anew"
}
