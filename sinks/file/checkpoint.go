package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tailrace/tailrace/sinks"
)

const progressSuffix = ".progress"

// maxJournal is the length at which the journal is written anew, in bytes.
const maxJournal = 1 << 20

// checkpoint is what the journal records: with the epoch Seq, the file is Length long.
type checkpoint struct {
	App, Target, Incarnation string
	Seq                      uint64
	Length                   int64
	// Skip says up to which positions events are in the file already, of a time that no
	// checkpoint tells of.
	Skip []skip `json:",omitempty"`
}

type skip struct {
	Stream, Source string
	Position       uint64
}

// journal is the file of checkpoints: lines of a checksum and a checkpoint, each synced
// before the next is written. The last line that can be read counts, so a torn one
// costs nothing.
type journal struct {
	path string
	f    *os.File
	end  int64
}

// openJournal opens or makes the journal and returns its last checkpoint, nil if there
// is none.
func openJournal(path string) (*journal, *checkpoint, error) {
	f, err := openPlain(path, os.O_CREATE)
	if err != nil {
		return nil, nil, err
	}
	return readJournal(path, f)
}

// readJournal reads an open journal.
func readJournal(path string, f *os.File) (*journal, *checkpoint, error) {
	j := &journal{path: path, f: f}
	all, err := io.ReadAll(f)
	if err != nil {
		return j, nil, err
	}
	var last *checkpoint
	for rest := all; ; {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		c, err := parseCheckpoint(line)
		if !ok || err != nil {
			break
		}
		last = c
		rest, j.end = after, j.end+int64(len(line))+1
	}
	if last == nil && len(bytes.TrimRight(all, "\x00")) > 0 && bytes.Count(all, []byte("\n")) > 0 {
		return j, nil, fmt.Errorf("%s is not a checkpoint of this sink, or damaged; move it away, and the "+
			"file will be "+
			"kept up to its last complete transaction: %w", path, sinks.ErrConfig)
	}
	return j, last, nil
}

func parseCheckpoint(line []byte) (*checkpoint, error) {
	sum, text, ok := bytes.Cut(line, []byte(" "))
	if !ok || string(sum) != checksum(text) {
		return nil, errors.New("wrong checksum")
	}
	c := &checkpoint{}
	return c, json.Unmarshal(text, c)
}

func checksum(text []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}

// write records a checkpoint; it is durable when write returns.
func (j *journal) write(c checkpoint) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	line := append([]byte(checksum(text)+" "), append(text, '\n')...)
	if j.end > maxJournal {
		return j.rewrite(line)
	}
	_, err = j.f.WriteAt(line, j.end)
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		// A later start should not find a checkpoint that nobody was told of.
		return errors.Join(err, j.f.Truncate(j.end))
	}
	j.end += int64(len(line))
	return nil
}

// rewrite replaces the journal by one with a single line.
func (j *journal) rewrite(line []byte) error {
	path := j.path + ".new"
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	err = errors.Join(err, f.Sync())
	if err == nil {
		err = os.Rename(path, j.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_ = j.f.Close()
	j.f, j.end = f, int64(len(line))
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
