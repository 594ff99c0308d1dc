// Package debezium reads the change events that Debezium writes to Kafka, in every
// dialect that carries JSON: with and without schema, flattened by ExtractNewRecordState,
// in CloudEvents, with the transaction, heartbeat and message topics around them, of the
// releases 1.x to 3.6. Rows come as PostgreSQL's text, as from the log itself, so that a
// topology cannot tell where they are from.
//
// A [Decoder] has no goroutine, no socket and no clock: records go in, events come out.
// What a record shows to be wrong is refused with a reason (an [Error]). Debezium also
// loses things without a trace in its records; [Check] finds these in the source's
// catalog ([ReadCatalog]) and the connector's configuration. docs/debezium.md lists both.
package debezium
