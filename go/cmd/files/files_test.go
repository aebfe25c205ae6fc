package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/unit"
	"smol.local/smol/unit/unittest"
	"smol.local/smol/wire"
)

// desk is a unit with a directory to read, one to write, and one that it must not touch.
type desk struct {
	context.Context
	read, write, outside string
}

func newDesk(t *testing.T) *desk {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{read: filepath.Join(top, "read"), write: filepath.Join(top, "write"), outside: filepath.Join(top, "read-not")}
	for _, path := range []string{d.read, d.write, d.outside} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, d.outside, "secret", "secret")
	table, _ := json.Marshal(map[string]any{"roots": []string{d.read}, "writable": []string{d.write}, "unpacked_bytes": 64 << 20, "unpacked_files": 100})
	d.Context = client.NewContext(context.Background(), unittest.Serve(t, "files", newUnit(), string(table)))
	return d
}

func put(t *testing.T, directory, name, text string) string {
	t.Helper()
	path := filepath.Join(directory, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileIsHashed(t *testing.T) {
	d := newDesk(t)
	path := put(t, d.read, "a", "abc")
	for algorithm, wanted := range map[string]string{
		"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"crc32":  "352441c2",
	} {
		for _, in := range []client.Args{{"path": path}, {"data": &unit.Attachment{Data: []byte("abc")}}} {
			in["algorithm"] = algorithm
			found, err := client.Call[digest](d, "files.hash", in)
			if err != nil || found.Digest != wanted || found.Bytes != 3 {
				t.Errorf("%v: %+v, %v", in, found, err)
			}
		}
	}
}

func TestNothingLeadsOutOfTheRoots(t *testing.T) {
	d := newDesk(t)
	for name, target := range map[string]string{"link": d.outside + "/secret", "up": "../read-not/secret", "directory": d.outside} {
		if err := os.Symlink(target, filepath.Join(d.read, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(d.read, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]wire.Code{
		d.outside + "/secret":                    wire.PermissionDenied,
		d.read + "/../read-not/secret":           wire.PermissionDenied,
		d.read + "/link":                         wire.PermissionDenied,
		d.read + "/up":                           wire.PermissionDenied,
		d.read + "/directory/secret":             wire.PermissionDenied,
		"/etc/passwd":                            wire.PermissionDenied,
		"read/a":                                 wire.InvalidArgument,
		d.read + "/not-there":                    wire.NotFound,
		d.read + "/pipe":                         wire.InvalidArgument,
		d.read:                                   wire.InvalidArgument,
		"":                                       wire.InvalidArgument,
		d.read + "/\x00":                         wire.FailedPrecondition,
		d.read + "/" + strings.Repeat("x", 5000): wire.FailedPrecondition,
	} {
		if _, err := client.Call[digest](d, "files.hash", client.Args{"path": path}); !errors.Is(err, code) {
			t.Errorf("%.80q: %v, not %s", path, err, code)
		}
	}
	if found, err := client.Call[digest](d, "files.hash", client.Args{"path": d.read + "/link"}); err == nil {
		t.Errorf("%v", found)
	}
}

func TestAUnitWithoutRootsSaysWhatToDo(t *testing.T) {
	ctx := client.NewContext(context.Background(), unittest.Serve(t, "files", newUnit(), ""))
	_, err := client.Call[digest](ctx, "files.hash", client.Args{"path": "/etc/passwd"})
	if !errors.Is(err, wire.PermissionDenied) || !strings.Contains(err.Error(), "'roots' of [units.files] in smol.toml") {
		t.Error(err)
	}
}

func TestDuplicatesAreFoundByContent(t *testing.T) {
	d := newDesk(t)
	large := strings.Repeat("x", 100_000)
	put(t, d.read, "a/1", large+"1")
	put(t, d.read, "b/2", large+"1")
	put(t, d.read, "b/3", large+"2")
	put(t, d.read, "c", "same")
	put(t, d.read, "d", "same")
	put(t, d.read, "e", "same")
	put(t, d.read, "f", "")
	put(t, d.read, "g", "")
	if err := os.Link(filepath.Join(d.read, "b/3"), filepath.Join(d.read, "b/4")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("c", filepath.Join(d.read, "link")); err != nil {
		t.Fatal(err)
	}
	found, err := client.Call[duplicatesFound](d, "files.duplicates", client.Args{"path": d.read})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("same"))
	if found.Files != 9 || len(found.Groups) != 2 || found.WastedBytes != 100_001+8 ||
		len(found.Groups[0].Paths) != 2 || found.Groups[1].Digest != hex.EncodeToString(sum[:]) || len(found.Groups[1].Paths) != 3 {
		t.Errorf("%+v", found)
	}
	if _, err := client.Call[any](d, "files.duplicates", client.Args{"path": d.read, "max_files": 3}); !errors.Is(err, wire.ResourceExhausted) {
		t.Error(err)
	}
	if _, err := client.Call[any](d, "files.duplicates", client.Args{"path": d.read + "/none"}); !errors.Is(err, wire.NotFound) {
		t.Error(err)
	}
}

func TestALogIsFollowedThroughTruncationAndRotation(t *testing.T) {
	d := newDesk(t)
	path := put(t, d.read, "log", "one\ntwo\nthr")
	appendTo := func(text string) {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = file.WriteString(text)
		}
		if err != nil {
			t.Error(err)
		}
		file.Close()
	}
	var heard []string
	for line, err := range client.Stream[line](d, "files.follow", client.Args{"path": path, "lines": 2, "until": "end"}) {
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, fmt.Sprint(line.Text, line.Reset))
		switch line.Text {
		case "two":
			appendTo("ee\n")
		case "three":
			put(t, d.read, "log", "x\n")
		case "x":
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			put(t, d.read, "log", "y\nend\n")
		}
	}
	if got := strings.Join(heard, " "); got != "twofalse threefalse xtrue ytrue endfalse" {
		t.Error(got)
	}
}

func TestAFollowerEndsWithItsReader(t *testing.T) {
	d := newDesk(t)
	path := put(t, d.read, "log", "one\n")
	for range client.Stream[line](d, "files.follow", client.Args{"path": path}) {
		break
	}
	ctx, cancel := context.WithTimeout(d, 50*time.Millisecond)
	defer cancel()
	var last error
	for _, err := range client.Stream[line](ctx, "files.follow", client.Args{"path": path, "lines": 0}) {
		last = err
	}
	if !errors.Is(last, wire.DeadlineExceeded) {
		t.Error(last)
	}
}

func TestWhatIsPackedIsUnpackedAsItWas(t *testing.T) {
	d := newDesk(t)
	put(t, d.read, "tree/a", "alpha")
	put(t, d.read, "tree/b/c", strings.Repeat("gamma", 10_000))
	if err := os.Symlink("a", filepath.Join(d.read, "tree/link")); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"zip", "tar", "tar.gz"} {
		made, err := client.Call[packed](d, "files.pack", client.Args{"paths": []string{d.read + "/tree"}, "format": format})
		if err != nil || made.Files != 2 || made.Skipped != 1 || made.Size != int64(len(made.Archive.Data)) {
			t.Fatalf("%s: %+v, %v", format, made, err)
		}
		target := d.write + "/" + format
		back, err := client.Call[unpacked](d, "files.unpack", client.Args{"archive": made.Archive, "target": target})
		if err != nil || back.Files != 2 || back.Bytes != 50_005 {
			t.Fatalf("%s: %+v, %v", format, back, err)
		}
		if text, _ := os.ReadFile(target + "/tree/b/c"); string(text) != strings.Repeat("gamma", 10_000) {
			t.Errorf("%s: tree/b/c is other than it was", format)
		}
		if _, err := client.Call[any](d, "files.unpack", client.Args{"archive": made.Archive, "target": target}); !errors.Is(err, wire.AlreadyExists) {
			t.Errorf("%s: %v", format, err)
		}
		if _, err := client.Call[any](d, "files.unpack", client.Args{"archive": made.Archive, "target": target, "overwrite": true}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		one, err := client.Call[*unit.Attachment](d, "files.extract", client.Args{"archive": made.Archive, "name": "tree/a"})
		if err != nil || string(one.Data) != "alpha" {
			t.Errorf("%s: %v, %v", format, one, err)
		}
	}
	_, err := client.Call[packed](d, "files.pack", client.Args{"paths": []string{d.read + "/tree/a"}, "format": "gz", "target": d.write + "/a.gz"})
	if err != nil {
		t.Fatal(err)
	}
	found, err := client.Call[listing](d, "files.list", client.Args{"path": d.write + "/a.gz"})
	if err != nil || len(found.Entries) != 1 || found.Entries[0].Name != "a" {
		t.Errorf("%+v, %v", found, err)
	}
	for _, target := range []string{d.read + "/x", d.outside + "/x", "/tmp/x", d.write + "/../read/x"} {
		if _, err := client.Call[any](d, "files.pack", client.Args{"paths": []string{d.read}, "target": target}); !errors.Is(err, wire.PermissionDenied) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func zipOf(t *testing.T, entries map[string]string, mode os.FileMode) *unit.Attachment {
	var data bytes.Buffer
	archive := zip.NewWriter(&data)
	for name, text := range entries {
		header := &zip.FileHeader{Name: name, Method: zip.Deflate}
		header.SetMode(mode)
		to, err := archive.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = to.Write([]byte(text))
	}
	archive.Close()
	return &unit.Attachment{Data: data.Bytes()}
}

func tarOf(t *testing.T, headers ...*tar.Header) *unit.Attachment {
	var data bytes.Buffer
	archive := tar.NewWriter(&data)
	for _, header := range headers {
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
	}
	archive.Flush()
	archive.Close()
	return &unit.Attachment{Data: data.Bytes()}
}

func TestHostileArchivesAreRefusedAndWriteNothing(t *testing.T) {
	d := newDesk(t)
	many := map[string]string{}
	for i := range 101 {
		many[fmt.Sprint(i)] = ""
	}
	var bomb bytes.Buffer
	zipped, _ := gzip.NewWriterLevel(&bomb, 9)
	zeroes := make([]byte, 1<<20)
	for range 100 {
		_, _ = zipped.Write(zeroes)
	}
	zipped.Close()
	good := zipOf(t, map[string]string{"a": strings.Repeat("abc", 1000)}, 0o644)
	for name, c := range map[string]struct {
		archive *unit.Attachment
		code    wire.Code
	}{
		"up":        {zipOf(t, map[string]string{"../evil": "x"}, 0o644), wire.InvalidArgument},
		"absolute":  {zipOf(t, map[string]string{"/tmp/evil": "x"}, 0o644), wire.InvalidArgument},
		"windows":   {zipOf(t, map[string]string{`..\evil`: "x"}, 0o644), wire.InvalidArgument},
		"link":      {zipOf(t, map[string]string{"l": "/etc"}, os.ModeSymlink|0o777), wire.InvalidArgument},
		"tar link":  {tarOf(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"}), wire.InvalidArgument},
		"hard link": {tarOf(t, &tar.Header{Typeflag: tar.TypeLink, Name: "l", Linkname: "/etc/passwd"}), wire.InvalidArgument},
		"device":    {tarOf(t, &tar.Header{Typeflag: tar.TypeChar, Name: "d"}), wire.InvalidArgument},
		"many":      {zipOf(t, many, 0o644), wire.ResourceExhausted},
		"bomb":      {&unit.Attachment{Data: bomb.Bytes(), Name: "b.gz"}, wire.ResourceExhausted},
		"text":      {&unit.Attachment{Data: []byte("hello")}, wire.InvalidArgument},
		"empty":     {&unit.Attachment{}, wire.InvalidArgument},
		"cut":       {&unit.Attachment{Data: good.Data[:len(good.Data)-5]}, wire.DataLoss},
	} {
		target := d.write + "/" + name
		_, err := client.Call[any](d, "files.unpack", client.Args{"archive": c.archive, "target": target})
		if !errors.Is(err, c.code) {
			t.Errorf("%s: %v, not %s", name, err, c.code)
		}
		if left, _ := filepath.Glob(target + "/*"); len(left) > 0 {
			t.Errorf("%s left %v", name, left)
		}
	}
}

func TestAFileThatOverwritesALinkReplacesIt(t *testing.T) {
	d := newDesk(t)
	victim := put(t, d.write, "victim", "as it was")
	if err := os.Mkdir(d.write+"/in", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, d.write+"/in/a"); err != nil {
		t.Fatal(err)
	}
	archive := zipOf(t, map[string]string{"a": "new"}, 0o644)
	if _, err := client.Call[any](d, "files.unpack", client.Args{"archive": archive, "target": d.write + "/in", "overwrite": true}); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(victim); string(text) != "as it was" {
		t.Errorf("the file behind the link is now %q", text)
	}
	// A directory that is a link out of the root is not written through.
	if err := os.Symlink(d.outside, d.write+"/out"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Call[any](d, "files.unpack", client.Args{"archive": archive, "target": d.write + "/out"}); !errors.Is(err, wire.PermissionDenied) {
		t.Error(err)
	}
}
