package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

// headBytes are hashed first: most files of one size differ there.
const headBytes = 16 * 1024

type duplicatesInput struct {
	Path     string `json:"path" doc:"absolute path of a directory in one of the unit's roots."`
	MinBytes int64  `json:"min_bytes" default:"1" min:"0" doc:"smaller files are passed over."`
	MaxFiles int    `json:"max_files" default:"200000" min:"1" max:"5000000" doc:"more files than this are refused."`
	Limit    int    `json:"limit" default:"1000" min:"1" max:"10000" doc:"how many groups to return, those that waste most first."`
}

// sameness is a group of files with the same content.
type sameness struct {
	Digest string   `json:"digest" doc:"SHA-256, hexadecimal."`
	Bytes  int64    `json:"bytes" doc:"of each."`
	Paths  []string `json:"paths"`
}

// duplicatesFound is what a scan has found.
type duplicatesFound struct {
	Files       int        `json:"files"`
	Bytes       int64      `json:"bytes"`
	WastedBytes int64      `json:"wasted_bytes" doc:"what all but one of each group take."`
	Groups      []sameness `json:"groups"`
	More        int        `json:"more" doc:"groups beyond the limit."`
	Unreadable  int        `json:"unreadable"`
}

// candidate is a file that may have duplicates.
type candidate struct {
	path   string
	bytes  int64
	digest string
}

// inode names a file whatever its names are.
type inode struct{ device, number uint64 }

func (f *files) duplicates(ctx context.Context, in duplicatesInput) (duplicatesFound, error) {
	place, inside, err := f.locate(in.Path, false)
	if err != nil {
		return duplicatesFound{}, err
	}
	var found duplicatesFound
	bySize, err := place.bySize(ctx, inside, in, &found)
	if err != nil {
		return found, err
	}
	unit.Progress(ctx, 0.1, "sizes are known")
	// First the head of each file, then the whole content of those that still look alike.
	heads := place.regroup(ctx, bySize, headBytes, &found)
	unit.Progress(ctx, 0.4, "heads are known")
	groups := place.regroup(ctx, heads, -1, &found)
	if err := ctx.Err(); err != nil {
		return found, err
	}
	for _, group := range groups {
		paths := make([]string, len(group))
		for i, each := range group {
			paths[i] = place.name(each.path)
		}
		slices.Sort(paths)
		found.Groups = append(found.Groups, sameness{group[0].digest, group[0].bytes, paths})
		found.WastedBytes += group[0].bytes * int64(len(group)-1)
	}
	slices.SortFunc(found.Groups, func(a, b sameness) int {
		wasted := cmp.Compare(b.Bytes*int64(len(b.Paths)-1), a.Bytes*int64(len(a.Paths)-1))
		return cmp.Or(wasted, cmp.Compare(a.Paths[0], b.Paths[0]))
	})
	found.More = max(0, len(found.Groups)-in.Limit)
	found.Groups = found.Groups[:len(found.Groups)-found.More]
	return found, nil
}

// bySize returns the files that have another of the same size, in groups.
func (p *place) bySize(ctx context.Context, top string, in duplicatesInput, found *duplicatesFound) ([][]candidate, error) {
	groups := map[int64][]candidate{}
	seen := map[inode]bool{}
	err := fs.WalkDir(p.root.FS(), filepath.ToSlash(top), func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if path == filepath.ToSlash(top) {
				return explain(p, path, err)
			}
			found.Unreadable++
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			found.Unreadable++
			return nil
		}
		if found.Files++; found.Files > in.MaxFiles {
			return unit.Errorf(wire.ResourceExhausted, "'%s' holds more than %d files: raise max_files, or scan a part of it", p.name(top), in.MaxFiles)
		}
		found.Bytes += info.Size()
		if status, ok := info.Sys().(*syscall.Stat_t); ok && status.Nlink > 1 {
			id := inode{uint64(status.Dev), status.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		if info.Size() >= in.MinBytes {
			groups[info.Size()] = append(groups[info.Size()], candidate{path: path, bytes: info.Size()})
		}
		return nil
	})
	var several [][]candidate
	for _, group := range groups {
		if len(group) > 1 {
			several = append(several, group)
		}
	}
	return several, err
}

// regroup parts groups by a hash of the first bytes of each file, all of them if count is negative.
func (p *place) regroup(ctx context.Context, groups [][]candidate, count int64, found *duplicatesFound) [][]candidate {
	var work []*candidate
	for _, group := range groups {
		for i := range group {
			work = append(work, &group[i])
		}
	}
	var waiting sync.WaitGroup
	next := make(chan *candidate)
	for range max(1, runtime.GOMAXPROCS(0)) {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			for each := range next {
				each.digest = p.digest(ctx, each, count)
			}
		}()
	}
	for i, each := range work {
		if ctx.Err() != nil {
			break
		}
		if count < 0 && i%256 == 0 {
			unit.Progress(ctx, 0.4+0.6*float64(i)/float64(len(work)), each.path)
		}
		next <- each
	}
	close(next)
	waiting.Wait()
	var parted [][]candidate
	for _, group := range groups {
		byDigest := map[string][]candidate{}
		for _, each := range group {
			if each.digest == "" {
				found.Unreadable++
				continue
			}
			byDigest[each.digest] = append(byDigest[each.digest], each)
		}
		for _, same := range byDigest {
			if len(same) > 1 {
				parted = append(parted, same)
			}
		}
	}
	return parted
}

// digest hashes a file; empty when it can't be read, or has changed its size.
func (p *place) digest(ctx context.Context, each *candidate, count int64) string {
	file, info, err := p.read(each.path)
	if err != nil {
		return ""
	}
	defer file.Close()
	var from io.Reader = file
	if count >= 0 {
		from = io.LimitReader(file, count)
	}
	sum := sha256.New()
	if _, err := copyWithin(ctx, sum, from, silent); err != nil || info.Size() != each.bytes {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}
