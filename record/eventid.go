package record

import (
	"encoding/hex"
	"strconv"
)

// EventID returns the stable id of an event: its source, the position of its transaction
// or record there, the node that made it, and the ordinal of the row that it was made of
// with the index path among that row's outputs, empty where there is none.
func EventID(source, position, topology, node string, ordinal uint32, path string) string {
	id := source + "/" + position + "/" + topology + "/" + node + "/" + strconv.FormatUint(uint64(ordinal), 10)
	if path == "" {
		return id
	}
	return id + "." + hex.EncodeToString([]byte(path))
}
