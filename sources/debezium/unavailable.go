package debezium

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// unavailable returns the text that the placeholder for a value left out turns into, nil
// where the type has none: Debezium has a form of its own for each type.
func unavailable(c *conv, placeholder string) []byte {
	for _, text := range placeholderForms(c, placeholder) {
		var v values
		if out, err := v.text(c, &scanner{b: []byte(text)}); err == nil {
			return out
		}
	}
	if c.code == asDecimalText {
		return []byte(placeholder)
	}
	return nil
}

// placeholderForms are the JSON texts that stand for the placeholder.
func placeholderForms(c *conv, placeholder string) []string {
	quoted := strconv.Quote(placeholder)
	switch c.code {
	case asText:
		return []string{quoted}
	case asBytes, asBase64Text:
		switch c.enc {
		case inURL:
			return []string{strconv.Quote(base64.URLEncoding.EncodeToString([]byte(placeholder)))}
		case inHex:
			return []string{strconv.Quote(hex.EncodeToString([]byte(placeholder)))}
		}
		return []string{strconv.Quote(base64.StdEncoding.EncodeToString([]byte(placeholder)))}
	case asHStore:
		return []string{strconv.Quote("{" + quoted + ":" + quoted + "}")}
	case asHStoreMap:
		return []string{"{" + quoted + ":" + quoted + "}"}
	case asArray:
		return arrayForms(c, placeholder)
	}
	return nil
}

func arrayForms(c *conv, placeholder string) []string {
	switch c.elem.code {
	case asInt, asDate:
		letters := make([]string, len(placeholder))
		for i := range len(placeholder) {
			letters[i] = strconv.Itoa(int(placeholder[i]))
		}
		return []string{"[" + strings.Join(letters, ",") + "]"}
	case asText:
		if c.elem.typ == "uuid" {
			return []string{`["` + nameUUID3(placeholder) + `"]`}
		}
	}
	forms := placeholderForms(c.elem, placeholder)
	for i := range forms {
		forms[i] = "[" + forms[i] + "]"
	}
	return forms
}

// nameUUID3 is Java's UUID.nameUUIDFromBytes.
func nameUUID3(name string) string {
	h := md5.Sum([]byte(name))
	h[6] = h[6]&0x0f | 0x30
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:])
}
