package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/internal/kafka"
	"github.com/tailrace/tailrace/sources"
)

// An input that has delivered nothing holds the others back until its end is known to be
// where it was read to, after the newest record came, and for no longer than patience.
func TestNextInputWaits(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	rows := &buffer{
		input:     &input{topic: "rows", request: sources.TableRequest{Changes: true}},
		partition: kafka.Partition{Topic: "rows"},
	}
	events := &buffer{input: &input{topic: "events"}, partition: kafka.Partition{Topic: "events"}}
	r := &taskRun{inputs: []*buffer{events, rows}, all: []*buffer{events, rows}}
	arrive := func(b *buffer, offset int64, at time.Duration) {
		b.add(kgo.FetchPartition{
			LastStableOffset: offset + 1,
			Records:          []*kgo.Record{{Offset: offset, Timestamp: start.Add(at)}},
		})
		r.asked = false
	}
	next := func(what string, after time.Duration, want *buffer) {
		t.Helper()
		if got := r.nextInput(start.Add(after), 10*time.Second); got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}

	next("nothing came", 0, nil)
	arrive(events, 0, 5*time.Millisecond)
	next("nothing is known of rows", 0, nil)
	if got := r.unasked(nil); len(got) != 2 {
		t.Errorf("asks for the ends of %v, want both", got)
	}
	r.asked, rows.stable = true, 1
	next("rows holds a record that has not come", time.Second, nil)
	arrive(rows, 0, 5*time.Millisecond)
	next("of equal timestamps the table's comes first", 2*time.Second, rows)
	rows.take()
	next("rows is empty again, and not asked since", 2*time.Second, nil)
	r.asked = true
	next("rows is read to its end", 2*time.Second, events)
	events.take()
	next("nothing is left", 2*time.Second, nil)
	arrive(events, 1, 6*time.Millisecond)
	next("an event came after the question", 3*time.Second, nil)
	next("patience is not over", 12*time.Second, nil)
	next("patience is over", 13*time.Second, events)
}
