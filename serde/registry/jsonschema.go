package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// compileJSON prepares a JSON schema as Connect's converter registers it. Messages are
// the payload as they are.
func compileJSON(text string) (*compiled, error) {
	var root map[string]any
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		return nil, err
	}
	c, err := jsonSchema(root, root, 0)
	if err != nil {
		return nil, err
	}
	head, err := c.head()
	if err != nil {
		return nil, err
	}
	return &compiled{head: head, payload: func(dst, message []byte) ([]byte, error) {
		if !json.Valid(message) {
			return dst, errors.New("the message is not JSON")
		}
		return append(dst, bytes.TrimSpace(message)...), nil
	}}, nil
}

func jsonSchema(root, v map[string]any, depth int) (*connect, error) {
	if depth > maxDepth {
		return nil, errors.New("it contains itself, or nests too deep")
	}
	if ref, ok := v["$ref"].(string); ok {
		def, err := definition(root, ref)
		if err != nil {
			return nil, err
		}
		return jsonSchema(root, def, depth+1)
	}
	if branches, ok := v["oneOf"].([]any); ok {
		return jsonUnion(root, branches, depth)
	}
	typ, _ := v["type"].(string)
	c := &connect{}
	var err error
	switch typ {
	case "object":
		c.Type = "struct"
		if _, isMap := v["additionalProperties"].(map[string]any); isMap && v["properties"] == nil {
			c.Type, c.Keys = "map", &connect{Type: "string"}
			c.Values, err = jsonSchema(root, v["additionalProperties"].(map[string]any), depth+1)
			break
		}
		c.Fields, err = jsonFields(root, v, depth)
	case "array":
		c.Type = "array"
		items, _ := v["items"].(map[string]any)
		c.Items, err = jsonSchema(root, items, depth+1)
	case "integer":
		c.Type = "int64"
	case "number":
		c.Type = "double"
	case "string", "boolean":
		c.Type = typ
	default:
		err = fmt.Errorf("a value of type %q", typ)
	}
	if err != nil {
		return nil, err
	}
	if title, ok := v["title"].(string); ok {
		c.Name = title
	}
	if c.Type == "map" || c.Type == "struct" || c.Type == "array" {
		v = maps.Clone(v)
		delete(v, "connect.type")
	}
	return c, c.properties(v)
}

// jsonUnion is an optional value.
func jsonUnion(root map[string]any, branches []any, depth int) (*connect, error) {
	var inner map[string]any
	null := false
	for _, raw := range branches {
		branch, _ := raw.(map[string]any)
		if branch["type"] == "null" {
			null = true
		} else if inner != nil {
			return nil, errors.New("a value of one of several types")
		} else {
			inner = branch
		}
	}
	c, err := jsonSchema(root, inner, depth+1)
	if err == nil {
		c.Optional = null
	}
	return c, err
}

// jsonFields are an object's properties in the order of connect.index.
func jsonFields(root, v map[string]any, depth int) ([]*connect, error) {
	props, _ := v["properties"].(map[string]any)
	index := func(name string) float64 {
		p, _ := props[name].(map[string]any)
		n, _ := p["connect.index"].(float64)
		return n
	}
	names := sortedKeys(props)
	slices.SortStableFunc(names, func(a, b string) int { return int(index(a) - index(b)) })
	fields := make([]*connect, 0, len(names))
	for _, name := range names {
		p, _ := props[name].(map[string]any)
		f, err := jsonSchema(root, p, depth+1)
		if err != nil {
			return nil, fmt.Errorf("property %q: %w", name, err)
		}
		// One definition may stand for several fields.
		own := *f
		own.Field = name
		fields = append(fields, &own)
	}
	return fields, nil
}

// definition finds what a reference inside of the schema means.
func definition(root map[string]any, ref string) (map[string]any, error) {
	for _, part := range []string{"#/definitions/", "#/$defs/"} {
		if name, ok := strings.CutPrefix(ref, part); ok {
			defs, _ := root[strings.Trim(strings.TrimPrefix(part, "#"), "/")].(map[string]any)
			if def, ok := defs[name].(map[string]any); ok {
				return def, nil
			}
		}
	}
	return nil, fmt.Errorf("the reference %q leads nowhere", ref)
}
