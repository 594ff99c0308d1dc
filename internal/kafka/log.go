// Package kafka wires Kafka mode to franz-go: the group session, its balancer, internal
// topics and the logs that state is restored from.
package kafka
