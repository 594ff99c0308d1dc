package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/twmb/avro"

	"github.com/tailrace/tailrace/serde"
)

// compileAvro prepares an Avro schema. Logical types are taken off before the library
// sees it: their values then come as they are written, which is what Connect's JSON
// holds; their names go into the Connect schema.
func compileAvro(text string) (*compiled, error) {
	var raw any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, err
	}
	b := avroBuilder{named: map[string]map[string]any{}}
	c, err := b.schema(raw, "", 0)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(withoutLogical(raw))
	if err != nil {
		return nil, err
	}
	schema, err := avro.Parse(string(plain))
	if err != nil {
		return nil, err
	}
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	return &compiled{head: head, payload: func(dst, message []byte) ([]byte, error) {
		var v any
		rest, err := schema.Decode(message, &v)
		if err != nil {
			return dst, err
		}
		if len(rest) > 0 {
			return dst, fmt.Errorf("%d bytes follow the message", len(rest))
		}
		return appendAvro(dst, c, v)
	}}, nil
}

// withoutLogical is a schema without its logical types.
func withoutLogical(raw any) any {
	switch v := raw.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, value := range v {
			if name == "default" {
				out[name] = value
			} else if name != "logicalType" {
				out[name] = withoutLogical(value)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = withoutLogical(v[i])
		}
		return out
	}
	return raw
}

// avroBuilder makes Connect schemas of Avro's.
type avroBuilder struct {
	// named are the types that were defined so far, by full name.
	named map[string]map[string]any
}

// primitives are Avro's plain types in Connect's words.
var primitives = map[string]string{"boolean": "boolean", "int": "int32", "long": "int64", "float": "float",
	"double": "double", "bytes": "bytes", "string": "string", "fixed": "bytes", "enum": "string"}

func (b *avroBuilder) schema(raw any, namespace string, depth int) (*connect, error) {
	if depth > maxDepth {
		return nil, errors.New("it contains itself, or nests too deep")
	}
	switch v := raw.(type) {
	case string:
		if typ, ok := primitives[v]; ok {
			return &connect{Type: typ}, nil
		}
		for _, name := range []string{v, namespace + "." + v} {
			if def := b.named[name]; def != nil {
				return b.schema(def, namespace, depth+1)
			}
		}
		return nil, fmt.Errorf("the type %q is not defined", v)
	case []any:
		return b.union(v, namespace, depth)
	case map[string]any:
		return b.object(v, namespace, depth)
	}
	return nil, errors.New("a schema that is none")
}

// union is an optional value: Connect writes no other unions.
func (b *avroBuilder) union(branches []any, namespace string, depth int) (*connect, error) {
	var inner any
	null := false
	for _, branch := range branches {
		if branch == "null" {
			null = true
		} else if inner != nil {
			return nil, errors.New("a union of several types")
		} else {
			inner = branch
		}
	}
	if inner == nil {
		return nil, errors.New("a union of nothing")
	}
	c, err := b.schema(inner, namespace, depth+1)
	if err == nil {
		c.Optional = null
	}
	return c, err
}

func (b *avroBuilder) object(v map[string]any, namespace string, depth int) (c *connect, err error) {
	if ns, ok := v["namespace"].(string); ok {
		namespace = ns
	}
	name, _ := v["name"].(string)
	if name != "" {
		full := name
		if namespace != "" {
			full = namespace + "." + name
		}
		b.named[full] = v
	}
	typ, isName := v["type"].(string)
	switch {
	case !isName:
		return b.schema(v["type"], namespace, depth+1)
	case typ == "record":
		return b.record(v, namespace, depth)
	case typ == "array":
		c = &connect{Type: "array"}
		c.Items, err = b.schema(v["items"], namespace, depth+1)
	case typ == "map":
		c = &connect{Type: "map", Keys: &connect{Type: "string"}}
		c.Values, err = b.schema(v["values"], namespace, depth+1)
	default:
		c, err = b.schema(typ, namespace, depth+1)
	}
	if err != nil {
		return nil, err
	}
	logical(c, v)
	return c, c.properties(v)
}

func (b *avroBuilder) record(v map[string]any, namespace string, depth int) (*connect, error) {
	c := &connect{Type: "struct"}
	c.Name, _ = v["name"].(string)
	if namespace != "" {
		c.Name = namespace + "." + c.Name
	}
	fields, _ := v["fields"].([]any)
	for _, raw := range fields {
		f, _ := raw.(map[string]any)
		inner, err := b.schema(f["type"], namespace, depth+1)
		if err != nil {
			return nil, err
		}
		inner.Field, _ = f["name"].(string)
		c.Fields = append(c.Fields, inner)
	}
	return c, c.properties(v)
}

// logical gives Avro's logical types Connect's names; connect.name, where it is there,
// overrules them.
func logical(c *connect, v map[string]any) {
	kind, _ := v["logicalType"].(string)
	switch kind {
	case "decimal":
		c.Name, c.Version = "org.apache.kafka.connect.data.Decimal", 1
		c.parameter("scale", "0")
		for from, to := range map[string]string{"scale": "scale", "precision": "connect.decimal.precision"} {
			// 64 is what Connect's converter writes for a precision that is not known.
			if n, ok := v[from].(float64); ok && (from == "scale" || n != 64) {
				c.parameter(to, strconv.Itoa(int(n)))
			}
		}
	case "date":
		c.Name, c.Version = "org.apache.kafka.connect.data.Date", 1
	case "time-millis":
		c.Name, c.Version = "org.apache.kafka.connect.data.Time", 1
	case "timestamp-millis":
		c.Name, c.Version = "org.apache.kafka.connect.data.Timestamp", 1
	case "time-micros":
		c.Name, c.Version = "io.debezium.time.MicroTime", 1
	case "timestamp-micros":
		c.Name, c.Version = "io.debezium.time.MicroTimestamp", 1
	case "uuid":
		c.Name, c.Version = "io.debezium.data.Uuid", 1
	}
}

var errShape = errors.New("a value of another type than the schema's")

// appendAvro writes a decoded value as Connect's JSON.
func appendAvro(dst []byte, c *connect, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float32:
		return appendFloat(dst, float64(v), 32), nil
	case float64:
		return appendFloat(dst, v, 64), nil
	case string:
		return serde.AppendJSONString(dst, v), nil
	case []byte:
		return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v), '"'), nil
	case []any:
		if c.Items == nil {
			return dst, errShape
		}
		dst = append(dst, '[')
		for i, el := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendAvro(dst, c.Items, el); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case map[string]any:
		return appendMap(dst, c, v)
	}
	return dst, errShape
}

// appendMap writes a record, in the order of its fields, or a map, in that of its keys.
func appendMap(dst []byte, c *connect, v map[string]any) (_ []byte, err error) {
	dst = append(dst, '{')
	if c.Values != nil {
		for i, key := range sortedKeys(v) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(serde.AppendJSONString(dst, key), ':')
			if dst, err = appendAvro(dst, c.Values, v[key]); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	}
	for i, f := range c.Fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(serde.AppendJSONString(dst, f.Field), ':')
		if dst, err = appendAvro(dst, f, v[f.Field]); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}
