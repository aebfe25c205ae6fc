package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

type packInput struct {
	Paths  []string `json:"paths" min:"1" max:"1000" doc:"absolute paths of files and directories in the unit's roots."`
	Format string   `json:"format" enum:"zip,tar,tar.gz,gz" default:"zip" doc:"gz takes one file."`
	Target string   `json:"target" default:"" doc:"absolute path of the archive, in a writable directory; empty: the archive is the answer, up to 48 MiB."`
}

// packed is an archive that was made.
type packed struct {
	Files   int              `json:"files"`
	Bytes   int64            `json:"bytes" doc:"of the files."`
	Skipped int              `json:"skipped" doc:"links and special files."`
	Size    int64            `json:"size" doc:"of the archive, in bytes."`
	Archive *unit.Attachment `json:"archive,omitempty"`
}

// packer puts files into an archive of one format.
type packer interface {
	add(name string, info fs.FileInfo) (io.Writer, error)
	close() error
}

func (f *files) pack(ctx context.Context, in packInput) (packed, error) {
	if in.Target == "" {
		buffer := &limited{to: &bytes.Buffer{}, limit: extractBytes}
		done, err := f.packTo(ctx, in, buffer)
		if err == nil {
			done.Archive = &unit.Attachment{Data: buffer.to.(*bytes.Buffer).Bytes(), MediaType: "application/" + in.Format, Name: "archive." + in.Format}
		}
		return done, err
	}
	place, inside, err := f.locate(in.Target, true)
	if err != nil {
		return packed{}, err
	}
	file, err := place.root.OpenFile(inside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return packed{}, explain(place, inside, err)
	}
	done, err := f.packTo(ctx, in, &limited{to: file, limit: 1 << 62})
	if closing := file.Close(); err == nil && closing != nil {
		err = explain(place, inside, closing)
	}
	if err != nil {
		_ = place.root.Remove(inside)
	}
	return done, err
}

func (f *files) packTo(ctx context.Context, in packInput, to *limited) (packed, error) {
	var done packed
	archive := newPacker(in.Format, to)
	for _, path := range in.Paths {
		if err := f.packTree(ctx, archive, path, in.Format, &done); err != nil {
			return done, err
		}
	}
	if err := archive.close(); err != nil {
		return done, err
	}
	done.Size = to.written
	return done, nil
}

// packTree packs a file, or a directory with what is in it, under its last name.
func (f *files) packTree(ctx context.Context, archive packer, path, format string, done *packed) error {
	place, inside, err := f.locate(path, false)
	if err != nil {
		return err
	}
	base := filepath.Dir(inside)
	if inside == "." {
		base = "."
	}
	return fs.WalkDir(place.root.FS(), filepath.ToSlash(inside), func(each string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return explain(place, each, err)
		}
		if entry.IsDir() {
			return nil
		}
		if !entry.Type().IsRegular() {
			done.Skipped++
			return nil
		}
		if format == "gz" && done.Files == 1 {
			return unit.Errorf(wire.InvalidArgument, "gz takes one file: use tar.gz")
		}
		name, err := filepath.Rel(base, each)
		if err != nil {
			return err
		}
		return place.packFile(ctx, archive, each, filepath.ToSlash(name), done)
	})
}

func (p *place) packFile(ctx context.Context, archive packer, path, name string, done *packed) error {
	file, info, err := p.read(path)
	if err != nil {
		return err
	}
	defer file.Close()
	to, err := archive.add(name, info)
	if err != nil {
		return err
	}
	// A file that grows meanwhile is packed as far as it went, as the archive has said its size already.
	count, err := copyWithin(ctx, to, io.LimitReader(file, info.Size()), silent)
	if err == nil && count != info.Size() {
		err = unit.Errorf(wire.Aborted, "'%s' became shorter while it was packed: try again", p.name(path))
	}
	done.Files++
	done.Bytes += count
	return err
}

// limited refuses to write beyond a limit.
type limited struct {
	to      io.Writer
	limit   int64
	written int64
}

// Write implements [io.Writer].
func (l *limited) Write(data []byte) (int, error) {
	if l.written += int64(len(data)); l.written > l.limit {
		return 0, unit.Errorf(wire.ResourceExhausted, "the archive is larger than %d bytes: give a target", l.limit)
	}
	return l.to.Write(data)
}

func newPacker(format string, to io.Writer) packer {
	switch format {
	case "tar":
		return &tarPacker{archive: tar.NewWriter(to)}
	case "tar.gz":
		zipped := gzip.NewWriter(to)
		return &tarPacker{tar.NewWriter(zipped), zipped}
	case "gz":
		return &gzipPacker{gzip.NewWriter(to)}
	}
	return &zipPacker{zip.NewWriter(to)}
}

type zipPacker struct{ archive *zip.Writer }

func (p *zipPacker) add(name string, info fs.FileInfo) (io.Writer, error) {
	header, err := zip.FileInfoHeader(info)
	if err != nil {
		return nil, err
	}
	header.Name, header.Method = name, zip.Deflate
	return p.archive.CreateHeader(header)
}

func (p *zipPacker) close() error { return p.archive.Close() }

type tarPacker struct {
	archive *tar.Writer
	zipped  *gzip.Writer
}

func (p *tarPacker) add(name string, info fs.FileInfo) (io.Writer, error) {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(),
	}
	return p.archive, p.archive.WriteHeader(header)
}

func (p *tarPacker) close() error {
	err := p.archive.Close()
	if p.zipped != nil && err == nil {
		err = p.zipped.Close()
	}
	return err
}

type gzipPacker struct{ archive *gzip.Writer }

func (p *gzipPacker) add(name string, info fs.FileInfo) (io.Writer, error) {
	p.archive.Name, p.archive.ModTime = name, info.ModTime()
	return p.archive, nil
}

func (p *gzipPacker) close() error { return p.archive.Close() }
