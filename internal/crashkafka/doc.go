// Package crashkafka kills, stops and restarts members of a consumer group, and the broker
// under them, and compares what they leave in the topics with what went in.
package crashkafka
