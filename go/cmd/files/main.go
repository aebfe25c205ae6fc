// The unit files: content hashes, duplicates, logs that grow, archives.
//
// It touches no file until [units.files] in smol.toml names directories: roots may be read, writable may be read and
// written. Whatever leads out of them, a symbolic link included, is refused. Attachments need no root.
package main

import (
	"context"

	"smol.local/smol/unit"
)

func main() { newUnit().Main() }

func newUnit() *unit.Unit {
	f := &files{}
	u := unit.New("Hashes files, finds duplicates, follows logs, packs and unpacks archives.", f)
	unit.Operation(u, "hash", "Hash the content of a file.", f.hash, unit.ReadOnly)
	unit.Operation(u, "duplicates", `Find files with the same content in a directory and below.

Symbolic links are not followed; names of one file (hard links) count once. Only files of the same size are read.`,
		f.duplicates, unit.ReadOnly)
	unit.Stream(u, "follow", `Follow a file that grows: its last lines, then each new one.

A file that was truncated or replaced, as logs are when they rotate, is followed from its new beginning.`,
		f.follow, unit.ReadOnly)
	unit.Operation(u, "list", "List what is in an archive.", f.list, unit.ReadOnly)
	unit.Operation(u, "extract", "Take one file out of an archive.", f.extract, unit.ReadOnly)
	unit.Operation(u, "unpack", `Unpack an archive into a directory, which is made if it is not there.

Names that lead out of the directory, links and devices are refused before anything is written. What was
unpacked before a limit was met stays.`,
		f.unpack, unit.Destructive)
	unit.Operation(u, "pack", `Pack files and directories into an archive.

Symbolic links and special files are left out and counted.`, f.pack)
	return u
}

// settings is the table [units.files] of smol.toml.
type settings struct {
	Roots         []string `json:"roots,omitempty"`
	Writable      []string `json:"writable,omitempty"`
	UnpackedBytes int64    `json:"unpacked_bytes" default:"1073741824" min:"1"`
	UnpackedFiles int      `json:"unpacked_files" default:"10000" min:"1"`
}

// files is the unit.
type files struct {
	settings settings
	roots    []*place
}

// Provision opens the roots.
func (f *files) Provision(ctx context.Context) error {
	if err := unit.Settings(ctx, &f.settings); err != nil {
		return err
	}
	for _, path := range f.settings.Writable {
		if err := f.open(path, true); err != nil {
			return err
		}
	}
	for _, path := range f.settings.Roots {
		if err := f.open(path, false); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the roots.
func (f *files) Close() error {
	for _, place := range f.roots {
		place.root.Close()
	}
	return nil
}
