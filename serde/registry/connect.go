package registry

import (
	"encoding/json"
	"fmt"
)

// connect is a schema of Kafka Connect, in the form that its JSON converter writes.
type connect struct {
	Type       string            `json:"type"`
	Fields     []*connect        `json:"fields,omitempty"`
	Items      *connect          `json:"items,omitempty"`
	Keys       *connect          `json:"keys,omitempty"`
	Values     *connect          `json:"values,omitempty"`
	Optional   bool              `json:"optional"`
	Name       string            `json:"name,omitempty"`
	Version    int               `json:"version,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Field      string            `json:"field,omitempty"`
}

// head is a record's JSON up to the payload.
func (c *connect) head() ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(`{"schema":`), text...), `,"payload":`...), nil
}

// properties takes what Connect's converters add to any schema.
func (c *connect) properties(props map[string]any) error {
	if name, ok := props["connect.name"].(string); ok {
		c.Name = name
	}
	switch v := props["connect.version"].(type) {
	case int64:
		c.Version = int(v)
	case float64:
		c.Version = int(v)
	}
	if params, ok := props["connect.parameters"].(map[string]any); ok {
		for k, v := range params {
			c.parameter(k, fmt.Sprint(v))
		}
	}
	if typ, ok := props["connect.type"].(string); ok {
		switch typ {
		case "int8", "int16", "int32", "int64", "float32", "float64", "bytes", "string", "boolean":
			c.Type = typ
		default:
			return fmt.Errorf("a value of connect.type %q", typ)
		}
	}
	return nil
}

func (c *connect) parameter(name, value string) {
	if c.Parameters == nil {
		c.Parameters = map[string]string{}
	}
	c.Parameters[name] = value
}

// maxDepth bounds how deep a schema may nest; one that contains itself is deeper.
const maxDepth = 32
