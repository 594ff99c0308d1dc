package file

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tailrace/tailrace/sinks"
)

// found is what a file without a checkpoint tells by itself.
type found struct {
	// length is where its last complete transaction ends.
	length int64
	// upTo is the position of the last complete transaction, for each stream and
	// source: events up to there are in the file.
	upTo map[place]uint64
}

// scan reads so many bytes of a file, or to its end. What comes after the last complete transaction is a
// torn tail; anything else that is not ours is refused, lest it be cut off.
func scan(f *os.File, limit int64) (found, error) {
	out := found{upTo: map[place]uint64{}}
	open := map[place]uint64{} // of the transaction that is not complete yet
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, limit), 1<<20)
	var at int64
	var line []byte
	torn := 0 // number of the first line that cannot be read
	for n := 1; ; n++ {
		var err error
		line, err = readLine(in, line[:0])
		if len(line) > 0 {
			p, position, last, ok := parseLine(line)
			switch {
			case !ok && n == 1 && !isPrefix(line):
				return out, fmt.Errorf("%s holds something else than events; name another file, or move "+
					"it away: %w", f.Name(), sinks.ErrConfig)
			case !ok && torn == 0:
				torn = n
			case ok && torn > 0:
				return out, fmt.Errorf("%s: line %d is not an event, and there are events after it; "+
					"move the file away, or remove the line: %w", f.Name(), torn, sinks.ErrConfig)
			}
			at += int64(len(line))
			if ok {
				open[p] = max(open[p], position)
			}
			if ok && last {
				for p, position := range open {
					out.upTo[p] = max(out.upTo[p], position)
				}
				clear(open)
				out.length = at
			}
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

// isPrefix reports whether a torn first line can be one of ours.
func isPrefix(line []byte) bool {
	n := min(len(line), len(linePrefix))
	return bytes.Equal(line[:n], []byte(linePrefix)[:n])
}

// readLine reads a line of any length, its newline included.
func readLine(in *bufio.Reader, line []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
