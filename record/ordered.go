package record

import "encoding/binary"

// Value types that may be keys write themselves in an order-preserving form:
// AppendOrdered appends bytes that compare as the values do, and are equal
// exactly where the values are ==; DecodeOrdered reads them back and returns the
// rest. AppendState and DecodeState are the same pair for values of a row, where
// size counts and order does not.

func appendOrdered64(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)^1<<63)
}

func decodeOrdered64(src []byte) (int64, []byte, error) {
	if len(src) < 8 {
		return 0, nil, ErrEncoding
	}
	return int64(binary.BigEndian.Uint64(src) ^ 1<<63), src[8:], nil
}

func appendOrdered32(dst []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(v)^1<<31)
}

func decodeOrdered32(src []byte) (int32, []byte, error) {
	if len(src) < 4 {
		return 0, nil, ErrEncoding
	}
	return int32(binary.BigEndian.Uint32(src) ^ 1<<31), src[4:], nil
}
