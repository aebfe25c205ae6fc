package main

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

const blockBytes = 1 << 20

var blocks = sync.Pool{New: func() any { block := make([]byte, blockBytes); return &block }}

type hashInput struct {
	Path      string           `json:"path" default:"" doc:"absolute path of a file in one of the unit's roots."`
	Data      *unit.Attachment `json:"data,omitempty" doc:"or the bytes themselves."`
	Algorithm string           `json:"algorithm" enum:"sha256,sha512,crc32" default:"sha256" doc:"which hash; crc32 is no protection."`
}

// digest is a hash of a content.
type digest struct {
	Algorithm string  `json:"algorithm"`
	Digest    string  `json:"digest" doc:"hexadecimal."`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
}

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha512":
		return sha512.New()
	case "crc32":
		return crc32.NewIEEE()
	}
	return sha256.New()
}

func (f *files) hash(ctx context.Context, in hashInput) (digest, error) {
	started := time.Now()
	sum := newHash(in.Algorithm)
	var from io.Reader
	size := int64(0)
	switch {
	case (in.Path == "") == (in.Data == nil):
		return digest{}, unit.Errorf(wire.InvalidArgument, "give a path or data, one of them")
	case in.Data != nil:
		from, size = in.Data.Reader(), int64(len(in.Data.Data))
	default:
		file, info, err := f.openFile(in.Path)
		if err != nil {
			return digest{}, err
		}
		defer file.Close()
		from, size = file, info.Size()
	}
	count, err := copyWithin(ctx, sum, from, func(done int64) {
		unit.Progress(ctx, float64(done)/float64(max(size, done, 1)), "")
	})
	if err != nil {
		return digest{}, unit.Errorf(wire.AsError(err).Code, "'%s' can't be read: %v", in.Path, err)
	}
	return digest{in.Algorithm, hex.EncodeToString(sum.Sum(nil)), count, time.Since(started).Seconds()}, nil
}

// copyWithin copies until the end, or until the context ends. progress is told every 64 MiB.
func copyWithin(ctx context.Context, to io.Writer, from io.Reader, progress func(done int64)) (int64, error) {
	block := blocks.Get().(*[]byte)
	defer blocks.Put(block)
	count, told := int64(0), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return count, err
		}
		n, err := from.Read(*block)
		if n > 0 {
			if _, err := to.Write((*block)[:n]); err != nil {
				return count, err
			}
			if count += int64(n); count-told >= 64<<20 {
				told = count
				progress(count)
			}
		}
		if err == io.EOF {
			return count, nil
		}
		if err != nil {
			return count, err
		}
	}
}

func silent(int64) {}
