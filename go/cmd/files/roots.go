package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

// place is a directory that may be touched. The kernel and os.Root see to it that nothing leads out of it.
type place struct {
	path     string
	root     *os.Root
	writable bool
}

func (f *files) open(path string, writable bool) error {
	if !filepath.IsAbs(path) {
		return unit.Errorf(wire.FailedPrecondition, "[units.files]: '%s' is a relative path: give an absolute one", path)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return unit.Errorf(wire.FailedPrecondition, "[units.files]: %v", err)
	}
	f.roots = append(f.roots, &place{filepath.Clean(path), root, writable})
	return nil
}

// locate returns the root that a path is in, and the path in it. Of several the first that allows what is wanted.
func (f *files) locate(path string, write bool) (*place, string, error) {
	if !filepath.IsAbs(path) {
		return nil, "", unit.Errorf(wire.InvalidArgument, "'%s' is a relative path; the unit can't know from where: give an absolute one", path)
	}
	readable := false
	for _, place := range f.roots {
		inside, err := filepath.Rel(place.path, filepath.Clean(path))
		if err != nil || inside == ".." || strings.HasPrefix(inside, "../") {
			continue
		}
		if place.writable || !write {
			return place, inside, nil
		}
		readable = true
	}
	if readable {
		return nil, "", unit.Errorf(wire.PermissionDenied, "'%s' may be read only: put its directory into 'writable' of [units.files] in smol.toml", path)
	}
	key := "roots"
	if write {
		key = "writable"
	}
	return nil, "", unit.Errorf(wire.PermissionDenied, "'%s' is in no directory that this unit may touch: put one into '%s' of [units.files] in smol.toml", path, key)
}

// read opens a regular file. Neither a pipe nor a device can make it wait.
func (p *place) read(path string) (*os.File, fs.FileInfo, error) {
	file, err := p.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, explain(p, path, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = unit.Errorf(wire.InvalidArgument, "'%s' is no regular file", p.name(path))
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// openFile finds and opens a regular file.
func (f *files) openFile(path string) (*os.File, fs.FileInfo, error) {
	place, inside, err := f.locate(path, false)
	if err != nil {
		return nil, nil, err
	}
	return place.read(inside)
}

func (p *place) name(path string) string { return filepath.Join(p.path, path) }

// explain gives an error of the file system its status code.
func explain(p *place, path string, err error) error {
	name := p.name(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return unit.Errorf(wire.NotFound, "'%s' does not exist", name)
	case errors.Is(err, fs.ErrExist):
		return unit.Errorf(wire.AlreadyExists, "'%s' is there already: choose another name, or overwrite", name)
	case errors.Is(err, fs.ErrPermission):
		return unit.Errorf(wire.PermissionDenied, "'%s' may not be touched by this user", name)
	case strings.Contains(err.Error(), "escapes from parent"):
		return unit.Errorf(wire.PermissionDenied, "'%s' leads out of '%s'", name, p.path)
	case errors.Is(err, syscall.ENOSPC):
		return unit.Errorf(wire.ResourceExhausted, "no space left for '%s'", name)
	}
	return unit.Errorf(wire.FailedPrecondition, "'%s': %v", name, err)
}

// makeDirectories makes a directory in the root and those above it.
func (p *place) makeDirectories(path string) error {
	if path == "." || path == "" {
		return nil
	}
	info, err := p.root.Stat(path)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		return unit.Errorf(wire.AlreadyExists, "'%s' is there and is no directory", p.name(path))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return explain(p, path, err)
	}
	if err := p.makeDirectories(filepath.Dir(path)); err != nil {
		return err
	}
	if err := p.root.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return explain(p, path, err)
	}
	return nil
}
