package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/sr"
)

// Reasons why a record cannot be read; test with errors.Is.
var (
	// ErrFrame: the bytes do not begin as the wire format does.
	ErrFrame = errors.New("registry: not in the wire format of a schema registry")
	// ErrSchema: the registry does not have the schema, or it cannot be used.
	ErrSchema = errors.New("registry: schema cannot be used")
	// ErrMessage: the message is not what its schema says.
	ErrMessage = errors.New("registry: message does not fit its schema")
)

// Error says which record and schema is concerned, and what helps. It holds no value.
type Error struct {
	Topic string
	// ID is the schema's id, 0 where the record has none.
	ID int
	// Reason says what is wrong and what to do.
	Reason string
	// Err is one of the reasons above.
	Err error
	// Cause is what the registry or the library said, nil where it is not that.
	Cause error
	// Unreachable says that the registry has not given the schema, which it may the next
	// time.
	Unreachable bool
}

// Error names the topic, the schema and the remedy.
func (e *Error) Error() string {
	text := e.Err.Error() + ": topic " + e.Topic
	if e.ID != 0 {
		text += fmt.Sprintf(", schema %d", e.ID)
	}
	text += ": " + e.Reason
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the reason and the cause.
func (e *Error) Unwrap() []error { return []error{e.Err, e.Cause} }

// Source gives the schemas: an *sr.Client is one.
type Source interface {
	SchemaByID(ctx context.Context, id int) (sr.Schema, error)
}

// Decoder decodes records of a registry. It keeps the schemas that it has read, and may
// be used by several goroutines.
type Decoder struct {
	source Source
	mu     sync.Mutex
	known  map[int]*compiled
}

// NewDecoder makes a decoder that asks a registry for schemas.
func NewDecoder(source Source) *Decoder { return &Decoder{source: source, known: map[int]*compiled{}} }

// compiled is a schema that is ready to be used.
type compiled struct {
	// head is what stands before the payload.
	head []byte
	// payload appends the message as JSON.
	payload func(dst, message []byte) ([]byte, error)
}

// AppendJSON appends a record's key or value as JSON with schema:
// {"schema":...,"payload":...}. nil stays nil, the tombstone. The registry is asked once
// for each schema; the context bounds that. The error is an *Error, or the context's.
func (d *Decoder) AppendJSON(ctx context.Context, dst []byte, topic string, data []byte) ([]byte, error) {
	if data == nil {
		return dst, nil
	}
	var header sr.ConfluentHeader
	id, message, err := header.DecodeID(data)
	if err != nil {
		return dst, &Error{Topic: topic, Err: ErrFrame, Reason: "it does not begin with a zero byte and an id; " +
			"is the converter one without registry? With Apicurio set as-confluent=true"}
	}
	c, err := d.schema(ctx, topic, id)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	if dst, err = c.payload(append(dst, c.head...), message); err != nil {
		return dst[:start], &Error{Topic: topic, ID: id, Err: ErrMessage, Cause: err,
			Reason: "see that the producer registers the schema that it writes with"}
	}
	return append(dst, '}'), nil
}

// schema returns a schema, asking the registry for one that is new. A failure is not
// kept.
func (d *Decoder) schema(ctx context.Context, topic string, id int) (*compiled, error) {
	d.mu.Lock()
	c := d.known[id]
	d.mu.Unlock()
	if c != nil {
		return c, nil
	}
	fail := func(reason string, cause error) error {
		return &Error{Topic: topic, ID: id, Err: ErrSchema, Reason: reason, Cause: cause}
	}
	s, err := d.source.SchemaByID(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &Error{Topic: topic, ID: id, Err: ErrSchema, Cause: err, Unreachable: true, Reason: "the " +
			"registry does not give it; see that the address is that of the producer's registry and that the user " +
			"may read"}
	}
	if len(s.References) > 0 {
		return nil, fail("it refers to other schemas, which are not read; register it as a whole", nil)
	}
	switch s.Type {
	case sr.TypeAvro:
		c, err = compileAvro(s.Schema)
	case sr.TypeJSON:
		c, err = compileJSON(s.Schema)
	default:
		return nil, fail(s.Type.String()+" is not read; use Avro or JSON Schema", nil)
	}
	if err != nil {
		return nil, fail("it holds what Kafka Connect does not write", err)
	}
	d.mu.Lock()
	d.known[id] = c
	d.mu.Unlock()
	return c, nil
}
