package changelogtest

import (
	"context"
	"slices"

	"github.com/tailrace/tailrace/changelog"
)

// Log returns the cluster's logs as a client sees them.
func (c *Cluster) Log() changelog.Log { return memoryLog{c} }

type memoryLog struct{ c *Cluster }

func (m memoryLog) Cluster(context.Context) (string, error) { return m.c.ID, nil }

func (m memoryLog) Topics(_ context.Context, names []string) (map[string]changelog.TopicInfo, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	infos := map[string]changelog.TopicInfo{}
	for _, name := range names {
		if t := m.c.topics[name]; t != nil {
			infos[name] = t.info
		}
	}
	return infos, nil
}

func (m memoryLog) Bounds(_ context.Context, at []changelog.Position) ([]changelog.Bounds, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	out := make([]changelog.Bounds, len(at))
	for i := range at {
		l, err := m.c.log(at[i].Partition)
		if err != nil {
			return nil, err
		}
		out[i] = changelog.Bounds{Start: l.start, End: l.end, EpochEnd: -1}
		if at[i].Epoch >= 0 {
			out[i].EpochEnd = l.epochEnd(at[i].Epoch)
		}
	}
	return out, nil
}

func (l *log) epochEnd(epoch int32) int64 {
	for i := range l.entries {
		if l.entries[i].epoch > epoch {
			return l.entries[i].Offset
		}
	}
	return l.end
}

func (m memoryLog) Read(_ context.Context, from []changelog.Position) (changelog.Reader, error) {
	return &memoryReader{c: m.c, at: slices.Clone(from)}, nil
}

type memoryReader struct {
	c  *Cluster
	at []changelog.Position
}

func (r *memoryReader) Close() {}

func (r *memoryReader) Next(ctx context.Context) ([]changelog.Chunk, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		chunks, moved, changed, err := r.look()
		if err != nil || moved {
			return chunks, err
		}
		select {
		case <-ctx.Done():
		case <-changed:
			// A reader that waited tells where the log ends, as a fetch that times out does.
			return chunks, nil
		}
	}
}

func (r *memoryReader) look() (
	chunks []changelog.Chunk, moved bool, changed chan struct{}, err error,
) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for i := range r.at {
		at := &r.at[i]
		l, err := r.c.log(at.Partition)
		switch {
		case err != nil:
			return nil, false, nil, err
		case r.c.topics[at.Topic].info.ID != at.ID:
			err = changelog.ErrRecreated
		case at.Next < l.start || at.Next > l.end:
			err = changelog.ErrOutOfRange
		}
		if err != nil {
			return nil, false, nil, &changelog.PartitionError{Partition: at.Partition, Err: err}
		}
		chunk := l.chunk(at, r.c.ChunkSize)
		moved = moved || chunk.Next > at.Next
		at.Next = chunk.Next
		chunks = append(chunks, chunk)
	}
	return chunks, moved, r.c.changed, nil
}

// chunk reads on from a position, up to the last stable offset.
func (l *log) chunk(at *changelog.Position, size int) changelog.Chunk {
	if size == 0 {
		size = 100
	}
	stable := l.stable()
	c := changelog.Chunk{Partition: at.Partition, Next: at.Next, Epoch: at.Epoch, Stable: stable}
	for _, e := range l.entries {
		if e.Offset < at.Next {
			continue
		}
		if e.Offset >= stable || size == 0 {
			break
		}
		if e.visible() {
			c.Records = append(c.Records, e.Record)
		}
		c.Next, c.Epoch = e.Offset+1, e.epoch
		size--
	}
	return c
}
