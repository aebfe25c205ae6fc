package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

type unpackInput struct {
	archiveInput
	Target    string `json:"target" doc:"absolute path of a directory in one of the writable ones."`
	Overwrite bool   `json:"overwrite" default:"false" doc:"replace files that are there."`
}

// unpacked is what was written.
type unpacked struct {
	Files       int   `json:"files"`
	Directories int   `json:"directories"`
	Bytes       int64 `json:"bytes"`
}

func (f *files) unpack(ctx context.Context, in unpackInput) (unpacked, error) {
	source, err := f.openArchive(in.archiveInput)
	if err != nil {
		return unpacked{}, err
	}
	defer source.close()
	place, target, err := f.locate(in.Target, true)
	if err != nil {
		return unpacked{}, err
	}
	// All names are looked at before the first is written.
	err = source.each(f.budget(ctx, source, f.settings.UnpackedBytes), func(e *entry) error {
		return checkEntry(e)
	})
	if err != nil {
		return unpacked{}, err
	}
	var done unpacked
	if err := place.makeDirectories(target); err != nil {
		return done, err
	}
	err = source.each(f.budget(ctx, source, f.settings.UnpackedBytes), func(e *entry) error {
		if err := checkEntry(e); err != nil { // The archive may be another one by now.
			return err
		}
		name := filepath.Join(target, filepath.Clean(e.Name))
		if e.Kind == "directory" {
			done.Directories++
			return place.makeDirectories(name)
		}
		if err := place.makeDirectories(filepath.Dir(name)); err != nil {
			return err
		}
		written, err := place.write(ctx, name, e, in.Overwrite)
		done.Files++
		done.Bytes += written
		return err
	})
	return done, err
}

// checkEntry refuses what is neither a file nor a directory within the target.
func checkEntry(e *entry) error {
	if e.Kind == "link" || e.Kind == "special" {
		return unit.Errorf(wire.InvalidArgument, "'%s' in the archive is a %s: only files and directories are unpacked", e.Name, e.Kind)
	}
	if !filepath.IsLocal(e.Name) || strings.ContainsAny(e.Name, "\\\x00") {
		return unit.Errorf(wire.InvalidArgument, "'%s' in the archive leads out of its directory", e.Name)
	}
	return nil
}

// write writes a file of an archive; one that could not be written whole is removed.
func (p *place) write(ctx context.Context, name string, e *entry, overwrite bool) (int64, error) {
	contents, err := e.contents()
	if err != nil {
		return 0, err
	}
	defer contents.Close()
	if overwrite { // Anew, so that a link that is there is replaced and not followed.
		if info, err := p.root.Lstat(name); err == nil && !info.IsDir() {
			_ = p.root.Remove(name)
		}
	}
	file, err := p.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.mode.Perm()|0o600)
	if err != nil {
		return 0, explain(p, name, err)
	}
	written, err := copyWithin(ctx, file, contents, silent)
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		_ = p.root.Remove(name)
		return 0, damagedOrFull(p, name, err)
	}
	return written, nil
}

func damagedOrFull(p *place, name string, err error) error {
	if inner := (*fs.PathError)(nil); errors.As(err, &inner) {
		return explain(p, name, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return damaged(err)
}
