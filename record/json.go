package record

import "encoding/json"

// JSON is a JSON text as PostgreSQL's json or jsonb gives it, character by
// character. It is no key: texts that mean the same may differ. The zero value
// stands for JSON's null.
type JSON string

// JSONOf encodes v with encoding/json.
func JSONOf(v any) (JSON, error) {
	b, err := json.Marshal(v)
	return JSON(b), err
}

// Unmarshal decodes the text into v with encoding/json.
func (j JSON) Unmarshal(v any) error { return json.Unmarshal([]byte(j.text()), v) }

func (j JSON) text() string {
	if j == "" {
		return "null"
	}
	return string(j)
}

// MarshalJSON returns the text. It never fails.
func (j JSON) MarshalJSON() ([]byte, error) { return []byte(j.text()), nil }

// UnmarshalJSON keeps the text.
func (j *JSON) UnmarshalJSON(src []byte) error {
	*j = JSON(src)
	return nil
}
