package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

const (
	pollInterval = 100 * time.Millisecond
	// longestLine is where a line is cut: what follows is the next one.
	longestLine = 64 * 1024
	// tailBytes is how far back the last lines are looked for.
	tailBytes = 1 << 20
)

type followInput struct {
	Path  string `json:"path" doc:"absolute path of a file in one of the unit's roots."`
	Lines int    `json:"lines" default:"10" min:"0" max:"10000" doc:"how many of the last lines to begin with."`
	Until string `json:"until" default:"" max:"1000" doc:"end behind the first line that contains this; empty: never."`
}

// line is one line of a file.
type line struct {
	Text   string `json:"text" doc:"without its end; bytes that are not UTF-8 become U+FFFD."`
	Offset int64  `json:"offset" doc:"in the file, of its first byte."`
	Reset  bool   `json:"reset,omitempty" doc:"the file began anew: it was truncated or replaced."`
}

// follower reads a file that grows.
type follower struct {
	place  *place
	path   string
	file   *os.File
	info   fs.FileInfo
	offset int64 // of rest
	rest   []byte
	reset  bool
}

func (f *files) follow(ctx context.Context, in followInput) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		place, inside, err := f.locate(in.Path, false)
		if err != nil {
			yield(line{}, err)
			return
		}
		follower := &follower{place: place, path: inside}
		if err := follower.begin(in.Lines); err != nil {
			yield(line{}, err)
			return
		}
		defer func() { follower.file.Close() }()
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for {
			for {
				next, found, err := follower.next()
				if err != nil {
					yield(line{}, err)
					return
				}
				if !found {
					break
				}
				if !yield(next, nil) || (in.Until != "" && strings.Contains(next.Text, in.Until)) {
					return
				}
			}
			if follower.replaced() {
				continue
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// begin opens the file and goes to its last lines.
func (f *follower) begin(lines int) (err error) {
	if f.file, f.info, err = f.place.read(f.path); err != nil {
		return err
	}
	size := f.info.Size()
	start := max(0, size-tailBytes)
	tail := make([]byte, size-start)
	n, err := f.file.ReadAt(tail, start)
	if err != nil && err != io.EOF {
		f.file.Close()
		return unit.Errorf(wire.FailedPrecondition, "'%s' can't be read: %v", f.place.name(f.path), err)
	}
	tail = tail[:n]
	at := len(tail)
	for wanted := lines; wanted > 0 && at > 0; wanted-- {
		at = bytes.LastIndexByte(tail[:at-1], '\n') + 1
	}
	if lines == 0 { // From the end on, but with the line that is not whole yet.
		at = bytes.LastIndexByte(tail, '\n') + 1
	}
	f.offset = start + int64(at)
	_, err = f.file.Seek(f.offset, io.SeekStart)
	return err
}

// next returns the next whole line, if there is one.
func (f *follower) next() (line, bool, error) {
	for {
		if end := bytes.IndexByte(f.rest, '\n'); end >= 0 {
			return f.take(end, end+1), true, nil
		}
		if len(f.rest) >= longestLine {
			return f.take(longestLine, longestLine), true, nil
		}
		block := make([]byte, longestLine)
		n, err := f.file.Read(block)
		f.rest = append(f.rest, block[:n]...)
		if n == 0 || err == io.EOF {
			return line{}, false, nil
		}
		if err != nil {
			return line{}, false, unit.Errorf(wire.FailedPrecondition, "'%s' can't be read: %v", f.place.name(f.path), err)
		}
	}
}

func (f *follower) take(text, size int) line {
	taken := line{strings.ToValidUTF8(strings.TrimSuffix(string(f.rest[:text]), "\r"), "\ufffd"), f.offset, f.reset}
	f.rest, f.offset, f.reset = f.rest[size:], f.offset+int64(size), false
	return taken
}

// replaced reports whether the file began anew, and then goes to its beginning.
func (f *follower) replaced() bool {
	if now, err := f.file.Stat(); err == nil && now.Size() < f.offset+int64(len(f.rest)) {
		if _, err := f.file.Seek(0, io.SeekStart); err == nil {
			f.offset, f.rest, f.reset = 0, nil, true
			return true
		}
	}
	file, info, err := f.place.read(f.path)
	if err != nil {
		return false // Between two files, or for good: the reader decides how long to wait.
	}
	if os.SameFile(info, f.info) {
		file.Close()
		return false
	}
	f.file.Close()
	f.file, f.info, f.offset, f.rest, f.reset = file, info, 0, nil, true
	return true
}
