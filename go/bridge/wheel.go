package bridge

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"smol.local/smol/wire"
)

// largestFile bounds what is unpacked from the wheel, which is this program's own.
const largestFile = 64 << 20

// wheel is the wheel that the program carries.
type wheel struct {
	name     string
	data     []byte
	requires []string
}

var requirement = regexp.MustCompile(`(?m)^Requires-Dist: (.+?)\r?$`)

// readWheel finds the wheel and what it requires; nil if there is none.
func readWheel(from fs.FS) (*wheel, error) {
	if from == nil {
		return nil, nil
	}
	var names []string
	err := fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".whl") && strings.HasPrefix(entry.Name(), "smol-") {
			names = append(names, path)
		}
		return err
	})
	if err != nil || len(names) == 0 {
		return nil, err
	}
	if len(names) > 1 {
		return nil, wire.Errorf(wire.FailedPrecondition, "this program carries %d wheels of Smol: %s", len(names), strings.Join(names, ", "))
	}
	data, err := fs.ReadFile(from, names[0])
	if err != nil {
		return nil, err
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, wire.Errorf(wire.DataLoss, "the wheel %s is damaged: %v", names[0], err)
	}
	carried := &wheel{name: filepath.Base(names[0]), data: data}
	for _, file := range archive.File {
		if strings.HasSuffix(file.Name, ".dist-info/METADATA") {
			metadata, err := readFile(file)
			if err != nil {
				return nil, err
			}
			head, _, _ := bytes.Cut(metadata, []byte("\n\n"))
			for _, match := range requirement.FindAllSubmatch(head, -1) {
				if text := string(match[1]); !strings.Contains(text, "extra ==") {
					carried.requires = append(carried.requires, text)
				}
			}
		}
	}
	return carried, nil
}

func readFile(file *zip.File) ([]byte, error) {
	contents, err := file.Open()
	if err != nil {
		return nil, err
	}
	defer contents.Close()
	return io.ReadAll(io.LimitReader(contents, largestFile))
}

// unpack writes the files of the wheel into a directory.
func (w *wheel) unpack(directory string) error {
	archive, err := zip.NewReader(bytes.NewReader(w.data), int64(len(w.data)))
	if err != nil {
		return err
	}
	for _, file := range archive.File {
		if !filepath.IsLocal(file.Name) || strings.HasSuffix(file.Name, "/") {
			continue
		}
		contents, err := readFile(file)
		path := filepath.Join(directory, file.Name)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, contents, 0o600)
		}
		if err != nil {
			return wire.Errorf(wire.FailedPrecondition, "Smol can't be unpacked: %v", err)
		}
	}
	return nil
}
