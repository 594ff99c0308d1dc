package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestPartitioner compares the partitions of keys with those that Kafka's own clients
// choose, by the hashes of Kafka's UtilsTest.testMurmur2.
func TestPartitioner(t *testing.T) {
	t.Parallel()
	p := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		for _, n := range []int{1, 3, 6, 97, 1 << 16, 1<<31 - 1} {
			// Kafka's toPositive clears the sign.
			want := int(hash&0x7fffffff) % n
			if got := p.Partition(&kgo.Record{Key: []byte(key)}, n); got != want {
				t.Errorf("%q of %d: got %d, want %d", key, n, got, want)
			}
		}
	}
}
