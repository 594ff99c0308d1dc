// Package registry reads records in the wire format of Confluent's Schema Registry: a
// zero byte, the schema's id in four bytes, and the message in Avro or JSON.
//
// A [Decoder] turns a message into JSON as Kafka Connect writes it, with its schema in
// front, so that everything that reads that reads Avro, too. It is a little package of its
// own because it alone of serde needs a client of the registry.
package registry
