package kafka

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/tailrace/tailrace/serde/registry"
	"github.com/tailrace/tailrace/sources"
)

// form appends bytes of a record as JSON.
type form func(dst, b []byte) ([]byte, error)

// registryTimeout bounds how long a member waits for a schema, with all its tasks.
const registryTimeout = 10 * time.Second

// form returns the form of a format; nil is JSON already.
func (c *connector) form(f Format, topic string) (form, error) {
	switch f {
	case JSON:
		return nil, nil
	case Text:
		return func(dst, b []byte) ([]byte, error) { return appendQuoted(dst, b), nil }, nil
	case Bytes:
		return func(dst, b []byte) ([]byte, error) {
			return append(hex.AppendEncode(append(dst, `"\\x`...), b), '"'), nil
		}, nil
	case Int32:
		return func(dst, b []byte) ([]byte, error) {
			if len(b) != 4 {
				return dst, wrongSize(len(b), 4)
			}
			return strconv.AppendInt(dst, int64(int32(binary.BigEndian.Uint32(b))), 10), nil
		}, nil
	case Int64:
		return func(dst, b []byte) ([]byte, error) {
			if len(b) != 8 {
				return dst, wrongSize(len(b), 8)
			}
			return strconv.AppendInt(dst, int64(binary.BigEndian.Uint64(b)), 10), nil
		}, nil
	case Registry:
		if c.cfg.Registry == nil {
			return nil, fmt.Errorf("%w: the format is Registry, and Config.Registry is not set", sources.ErrConfig)
		}
		d := registry.NewDecoder(c.cfg.Registry)
		return func(dst, b []byte) ([]byte, error) {
			ctx, cancel := context.WithTimeout(context.Background(), registryTimeout)
			defer cancel()
			dst, err := d.AppendJSON(ctx, dst, topic, b)
			return dst, registryError(err)
		}, nil
	}
	return nil, fmt.Errorf("%w: there is no format %d", sources.ErrConfig, f)
}

func wrongSize(is, want int) error {
	return fmt.Errorf("%w: it has %d bytes and should have %d; is another serializer at work?",
		sources.ErrDecode, is, want)
}

// registryError says whose fault an error is: the record's if its bytes are not what its
// schema says, or if the registry knows no such schema; otherwise it may pass.
func registryError(err error) error {
	if err == nil {
		return nil
	}
	const subjectNotFound, schemaNotFound = 40401, 40403
	answer := (*sr.ResponseError)(nil)
	if errors.As(err, &answer) && (answer.ErrorCode == schemaNotFound || answer.ErrorCode == subjectNotFound) ||
		errors.Is(err, registry.ErrFrame) || errors.Is(err, registry.ErrMessage) {
		return fmt.Errorf("%w: %w", sources.ErrDecode, err)
	}
	if reg := (*registry.Error)(nil); errors.As(err, &reg) && reg.Unreachable {
		return fmt.Errorf("%w: %w", sources.ErrReopen, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: the registry does not answer: %w", sources.ErrReopen, err)
	}
	return fmt.Errorf("%w: %w", sources.ErrSchema, err)
}

// appendQuoted appends text as a JSON string, byte for byte: text that is not UTF-8 is
// refused by who reads it.
func appendQuoted(dst, text []byte) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
