package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

const (
	// extractBytes is the largest file that travels as an attachment.
	extractBytes = 48 << 20
	// bombRatio is how much larger than the archive its content may be, beyond bombFloorBytes.
	bombRatio      = 250
	bombFloorBytes = 16 << 20
	longestName    = 4096
	listedEntries  = 20_000
)

type archiveInput struct {
	Path    string           `json:"path" default:"" doc:"absolute path of an archive in one of the unit's roots: zip, tar, tar.gz or gz."`
	Archive *unit.Attachment `json:"archive,omitempty" doc:"or the archive itself."`
}

// entry is a file or directory in an archive.
type entry struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes" doc:"-1: not known before it is unpacked."`
	Kind     string `json:"kind" enum:"file,directory,link,special"`
	mode     fs.FileMode
	contents func() (io.ReadCloser, error)
}

// source is an archive that is open.
type source struct {
	io.ReaderAt
	size  int64
	name  string
	close func() error
}

func (f *files) openArchive(in archiveInput) (*source, error) {
	if (in.Path == "") == (in.Archive == nil) {
		return nil, unit.Errorf(wire.InvalidArgument, "give a path or an archive, one of them")
	}
	if in.Archive != nil {
		nothing := func() error { return nil }
		return &source{in.Archive.Reader(), int64(len(in.Archive.Data)), in.Archive.Name, nothing}, nil
	}
	file, info, err := f.openFile(in.Path)
	if err != nil {
		return nil, err
	}
	return &source{file, info.Size(), in.Path, file.Close}, nil
}

// each calls f with the entries of an archive, in order. What it reads of them is counted by the budget.
func (s *source) each(budget *budget, f func(e *entry) error) error {
	magic := make([]byte, 262)
	n, _ := s.ReadAt(magic, 0)
	magic = magic[:n]
	whole := func() io.Reader { return io.NewSectionReader(s, 0, s.size) }
	switch {
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")) || bytes.HasPrefix(magic, []byte("PK\x05\x06")):
		return s.eachZip(budget, f)
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return s.eachGzip(budget, whole, f)
	case len(magic) >= 262 && string(magic[257:262]) == "ustar":
		return eachTar(budget, budget.reader(whole()), f)
	}
	return unit.Errorf(wire.InvalidArgument, "this is no zip, tar, tar.gz or gz archive")
}

func (s *source) eachZip(budget *budget, f func(e *entry) error) error {
	reader, err := zip.NewReader(s, s.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return damaged(err)
	}
	for _, file := range reader.File {
		info := file.FileInfo()
		found := &entry{Name: file.Name, Bytes: info.Size(), Kind: kindOf(info.Mode()), mode: info.Mode()}
		found.contents = func() (io.ReadCloser, error) {
			contents, err := file.Open()
			if err != nil {
				return nil, damaged(err)
			}
			return struct {
				io.Reader
				io.Closer
			}{budget.reader(contents), contents}, nil
		}
		if err := budget.entry(found, f); err != nil {
			return err
		}
	}
	return nil
}

// eachGzip reads a tar.gz, or a gz, which is an archive of one file.
func (s *source) eachGzip(budget *budget, whole func() io.Reader, f func(e *entry) error) error {
	head, err := gzip.NewReader(whole())
	if err != nil {
		return damaged(err)
	}
	magic := make([]byte, 512)
	n, err := io.ReadFull(head, magic)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return damaged(err)
	}
	contents, err := gzip.NewReader(whole())
	if err != nil {
		return damaged(err)
	}
	if n == 512 && string(magic[257:262]) == "ustar" {
		return eachTar(budget, budget.reader(contents), f)
	}
	name := head.Name
	if name == "" {
		name = strings.TrimSuffix(path.Base(filepath.ToSlash(s.name)), ".gz")
	}
	if name == "" || name == "." || name == "/" {
		name = "data"
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(budget.reader(contents)), nil }
	return budget.entry(&entry{Name: path.Base(name), Bytes: -1, Kind: "file", mode: 0o644, contents: open}, f)
}

func eachTar(budget *budget, from io.Reader, f func(e *entry) error) error {
	reader := tar.NewReader(from)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return damaged(err)
		}
		info := header.FileInfo()
		found := &entry{Name: header.Name, Bytes: header.Size, Kind: kindOf(info.Mode()), mode: info.Mode()}
		if header.Typeflag == tar.TypeLink {
			found.Kind = "link"
		}
		found.contents = func() (io.ReadCloser, error) { return io.NopCloser(reader), nil }
		if err := budget.entry(found, f); err != nil {
			return err
		}
	}
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "link"
	}
	return "special"
}

func damaged(err error) error {
	if known := (*wire.Error)(nil); errors.As(err, &known) {
		return known
	}
	return unit.Errorf(wire.DataLoss, "the archive is damaged: %v", err)
}

// budget is what may come out of an archive: so many bytes, so many entries, and not out of all proportion.
type budget struct {
	ctx     context.Context
	archive int64 // its bytes
	bytes   int64
	entries int
	read    int64
	seen    int
}

func (b *budget) entry(found *entry, f func(e *entry) error) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if b.seen++; b.seen > b.entries {
		return unit.Errorf(wire.ResourceExhausted, "the archive holds more than %d entries", b.entries)
	}
	if len(found.Name) > longestName {
		return unit.Errorf(wire.ResourceExhausted, "a name of %d bytes in the archive: at most %d", len(found.Name), longestName)
	}
	found.Name = strings.ToValidUTF8(found.Name, "\ufffd")
	return f(found)
}

func (b *budget) reader(from io.Reader) io.Reader { return &budgetReader{b, from} }

type budgetReader struct {
	budget *budget
	from   io.Reader
}

// Read reads, and refuses what passes the budget.
func (r *budgetReader) Read(to []byte) (int, error) {
	n, err := r.from.Read(to)
	b := r.budget
	b.read += int64(n)
	switch {
	case b.ctx.Err() != nil:
		return n, b.ctx.Err()
	case b.read > b.bytes:
		return n, unit.Errorf(wire.ResourceExhausted, "the archive unpacks to more than %d bytes", b.bytes)
	case b.read > bombFloorBytes && b.read > b.archive*bombRatio:
		return n, unit.Errorf(wire.ResourceExhausted, "the archive of %d bytes unpacks to more than %d times that: it looks like a bomb", b.archive, bombRatio)
	}
	return n, err
}

func (f *files) budget(ctx context.Context, s *source, bytes int64) *budget {
	return &budget{ctx: ctx, archive: s.size, bytes: min(bytes, f.settings.UnpackedBytes), entries: f.settings.UnpackedFiles}
}

// listing is what is in an archive.
type listing struct {
	Entries []entry `json:"entries"`
}

func (f *files) list(ctx context.Context, in archiveInput) (listing, error) {
	source, err := f.openArchive(in)
	if err != nil {
		return listing{}, err
	}
	defer source.close()
	found := listing{}
	limits := f.budget(ctx, source, f.settings.UnpackedBytes)
	limits.entries = min(limits.entries, listedEntries)
	err = source.each(limits, func(e *entry) error {
		found.Entries = append(found.Entries, *e)
		return nil
	})
	return found, err
}

type extractInput struct {
	archiveInput
	Name string `json:"name" doc:"of the file in the archive, as it is listed."`
}

func (f *files) extract(ctx context.Context, in extractInput) (*unit.Attachment, error) {
	source, err := f.openArchive(in.archiveInput)
	if err != nil {
		return nil, err
	}
	defer source.close()
	var taken *unit.Attachment
	found := errors.New("found")
	err = source.each(f.budget(ctx, source, f.settings.UnpackedBytes), func(e *entry) error {
		if e.Name != in.Name || e.Kind != "file" {
			return nil
		}
		contents, err := e.contents()
		if err != nil {
			return err
		}
		defer contents.Close()
		if taken, err = wire.ReadAttachment(contents, "", extractBytes); err != nil {
			return damaged(err)
		}
		taken.Name = path.Base(e.Name)
		return found
	})
	if err != nil && err != found {
		return nil, err
	}
	if taken == nil {
		return nil, unit.Errorf(wire.NotFound, "no file '%s' in the archive: list it", in.Name)
	}
	return taken, nil
}
