package pgserver

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// logTail keeps the end of the server's log and passes whole lines on.
type logTail struct {
	logger *slog.Logger

	mu   sync.Mutex
	text []byte
	line []byte // the unfinished last line
}

const logTailBytes = 64 << 10

func newLogTail(logger *slog.Logger) *logTail { return &logTail{logger: logger} }

// Write is for the process's output; it never fails.
func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - logTailBytes; over > 0 {
		l.text = append(l.text[:0], l.text[over:]...)
	}
	if !l.logger.Enabled(context.Background(), slog.LevelDebug) {
		return len(p), nil
	}
	l.line = append(l.line, p...)
	for {
		line, rest, found := bytes.Cut(l.line, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.logger.Debug("postgres: " + string(line))
		l.line = append(l.line[:0], rest...)
	}
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func (l *logTail) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text, []byte(text))
}

func (l *logTail) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = l.text[:0]
}
