package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // For the two scripts.
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"smol.local/smol/wire"
)

//go:embed probe.py
var probeScript string

const (
	stampFile     = "ready.json"
	probeSeconds  = 30
	installMinute = 30
)

var candidates = []string{"python3", "python3.13", "python3.12", "python3.11", "python"}

// runtimeEnvironment is a Python that can run Smol.
type runtimeEnvironment struct {
	python     string
	pythonPath string // where Smol is, if it is not installed
}

// found is what probe.py says of a Python.
type found struct {
	Version    [2]int   `json:"version"`
	Executable string   `json:"executable"`
	Smol       string   `json:"smol"`
	Lacking    []string `json:"lacking"`
}

// prepare finds or makes the Python that runs Smol.
func prepare(ctx context.Context, options *Options) (*runtimeEnvironment, error) {
	carried, err := readWheel(options.Wheel)
	if err != nil {
		return nil, err
	}
	if carried == nil {
		return installed(ctx, options)
	}
	key := sha256.Sum256(append(carried.data, runtime.GOARCH+options.Python...))
	home := filepath.Join(options.Home, hex.EncodeToString(key[:8]))
	if ready := readStamp(home); ready != nil {
		return ready, nil
	}
	if err := os.MkdirAll(options.Home, 0o700); err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "no place for Smol: %v", err)
	}
	unlock, err := lock(ctx, home+".lock", func() { options.Progress("waiting for another process to get Smol ready") })
	if err != nil {
		return nil, err
	}
	defer unlock()
	if ready := readStamp(home); ready != nil {
		return ready, nil
	}
	if err := os.RemoveAll(home); err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "what is left of an attempt before: %v", err)
	}
	ready, err := carried.install(ctx, options, home)
	if err != nil {
		_ = os.RemoveAll(home)
		return nil, err
	}
	return ready, writeStamp(home, ready)
}

// install makes the wheel runnable: with a Python that meets its requirements, else in an environment made for it.
func (w *wheel) install(ctx context.Context, options *Options, home string) (*runtimeEnvironment, error) {
	python, err := choose(ctx, options, w.requires)
	if err != nil {
		return nil, err
	}
	if len(python.Lacking) == 0 {
		options.Progress(fmt.Sprintf("using %s, which has what Smol requires", python.Executable))
		sources := filepath.Join(home, "sources")
		return &runtimeEnvironment{python.Executable, sources}, w.unpack(sources)
	}
	options.Progress(fmt.Sprintf("making an environment with %s, which lacks %s", python.Executable, strings.Join(python.Lacking, ", ")))
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "%v", err)
	}
	file := filepath.Join(home, w.name)
	if err := os.WriteFile(file, w.data, 0o600); err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "%v", err)
	}
	defer os.Remove(file)
	venv := filepath.Join(home, "venv")
	inside := filepath.Join(venv, "bin", "python")
	for _, command := range [][]string{
		{python.Executable, "-m", "venv", venv},
		{inside, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=1", file},
	} {
		if err := follow(ctx, options, command); err != nil {
			return nil, wire.Errorf(wire.FailedPrecondition,
				"%s lacks %s, and an environment that has it could not be made: %v",
				python.Executable, strings.Join(python.Lacking, ", "), err).With("lacking", python.Lacking)
		}
	}
	made, err := probe(ctx, inside, w.requires)
	if err == nil && len(made.Lacking) > 0 {
		err = wire.Errorf(wire.FailedPrecondition, "the environment in %s was made and still lacks %s", venv, strings.Join(made.Lacking, ", "))
	}
	return &runtimeEnvironment{python: inside}, err
}

// installed finds a Python in which Smol is installed, for a program that carries none.
func installed(ctx context.Context, options *Options) (*runtimeEnvironment, error) {
	python, err := choose(ctx, options, []string{"smol"})
	if err != nil {
		return nil, err
	}
	if len(python.Lacking) > 0 {
		return nil, wire.Errorf(wire.FailedPrecondition,
			"this program carries no wheel of Smol, and %s has none: build it with the wheel, or install Smol there", python.Executable)
	}
	return &runtimeEnvironment{python: python.Executable}, nil
}

// choose returns the first Python that meets the requirements, else the first that is new enough.
func choose(ctx context.Context, options *Options, requires []string) (*found, error) {
	names := candidates
	if options.Python != "" {
		names = []string{options.Python}
	}
	var best *found
	var reasons []string
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		python, err := probe(ctx, path, requires)
		switch {
		case ctx.Err() != nil:
			return nil, wire.AsError(ctx.Err())
		case err != nil:
			reasons = append(reasons, wire.AsError(err).Message)
		case python.Version[0] != 3 || python.Version[1] < 11:
			reasons = append(reasons, fmt.Sprintf("%s is Python %d.%d", path, python.Version[0], python.Version[1]))
		case len(python.Lacking) == 0:
			return python, nil
		case best == nil:
			best = python
		}
	}
	if best != nil {
		return best, nil
	}
	reason := "none is on the PATH"
	if len(reasons) > 0 {
		reason = strings.Join(reasons, "; ")
	} else if options.Python != "" {
		reason = options.Python + " is not there"
	}
	return nil, wire.Errorf(wire.FailedPrecondition, "Smol needs Python 3.11 or later (%s): install one", reason)
}

// probe asks a Python what it is and what it lacks.
func probe(ctx context.Context, python string, requires []string) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, probeSeconds*time.Second)
	defer cancel()
	var problems bytes.Buffer
	command := exec.CommandContext(ctx, python, append([]string{"-E", "-c", probeScript}, requires...)...)
	command.Dir = "/" // Nothing to be imported by mistake.
	command.Stderr = &problems
	command.WaitDelay = time.Second
	output, err := command.Output()
	var python3 found
	if err == nil {
		err = json.Unmarshal(output, &python3)
	}
	if err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "%s does not work: %v%s", python, err, (&tail{kept: problems.Bytes()}).lines())
	}
	return &python3, nil
}

// follow runs a command and tells its lines.
func follow(ctx context.Context, options *Options, arguments []string) error {
	ctx, cancel := context.WithTimeout(ctx, installMinute*time.Minute)
	defer cancel()
	last := &tail{to: &lines{told: options.Progress}}
	command := exec.CommandContext(ctx, arguments[0], arguments[1:]...)
	command.Stdout, command.Stderr = last, last
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %w%s", strings.Join(arguments[:3], " "), err, last.lines())
	}
	return nil
}

// lines tells whole lines.
type lines struct {
	told func(line string)
	rest []byte
}

// Write implements [io.Writer].
func (l *lines) Write(data []byte) (int, error) {
	l.rest = append(l.rest, data...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 {
			return len(data), nil
		}
		l.told(strings.TrimSpace(string(l.rest[:end])))
		l.rest = l.rest[end+1:]
	}
}

// readStamp returns the environment in a directory if it is whole and its Python is still there.
func readStamp(home string) *runtimeEnvironment {
	var stamp struct{ Python, Path string }
	data, err := os.ReadFile(filepath.Join(home, stampFile))
	if err != nil || json.Unmarshal(data, &stamp) != nil {
		return nil
	}
	if _, err := os.Stat(stamp.Python); err != nil {
		return nil
	}
	return &runtimeEnvironment{stamp.Python, stamp.Path}
}

// writeStamp says, last of all, that the directory is whole.
func writeStamp(home string, ready *runtimeEnvironment) error {
	data, err := json.Marshal(map[string]string{"Python": ready.python, "Path": ready.pythonPath})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(home, stampFile), data, 0o600)
}

// lock waits until no other process holds the lock.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "%v", err)
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, wire.Errorf(wire.FailedPrecondition, "%s can't be locked: %v", path, err)
		}
		if !told {
			waiting()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			file.Close()
			return nil, wire.AsError(ctx.Err())
		}
	}
}
