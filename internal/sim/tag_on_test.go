//go:build synctests

package sim

// simulates says that this binary can simulate: locks of the Kafka client, which it holds while
// it waits for answers, let virtual time go on.
const simulates = true
