package bridge

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"smol.local/smol/wire"
)

// fake is a Python that plays its part: it answers the probe, makes environments, and is a host.
const fake = `#!/bin/sh
here="$(dirname "$0")"
home="${FAKE_HOME:-$here}"
case "$1 $2" in
"-E -c") cat "$home/probe$(test "${here##*/}" = bin && echo -inside)" ;;
"-m venv") echo "making $3"; mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") echo "Collecting numpy"; test ! -e "$home/offline" || { echo "ERROR: no index" >&2; exit 1; } ;;
"-P -m")
	echo start >>"$home/starts"
	echo "the host says hello"
	test ! -e "$home/broken" || { echo "cannot bind" >&2; exit 3; }
	sleep 60 3>&- & sleeper=$!
	trap 'echo drained >>"$home/starts"; kill $sleeper; exit 0' TERM
	printf 1 >&3
	exec 3>&-
	wait ;;
esac
`

// bench is a fake Python with its directory, and what was told.
type bench struct {
	Options
	directory string
	mu        sync.Mutex
	told      []string
}

func newBench(t *testing.T, probe, inside string) *bench {
	b := &bench{directory: t.TempDir()}
	t.Setenv("FAKE_HOME", b.directory)
	b.put(t, "python3", fake, 0o755)
	b.put(t, "probe", probe, 0o644)
	b.put(t, "probe-inside", inside, 0o644)
	b.Options = Options{
		Wheel: fstest.MapFS{"payload/smol-1-py3-none-any.whl": {Data: testWheel(t)}}, Home: filepath.Join(b.directory, "home"),
		Python: filepath.Join(b.directory, "python3"), Socket: filepath.Join(b.directory, "s"), Log: &bytes.Buffer{},
		Progress: func(line string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told = append(b.told, line)
		},
	}
	return b
}

func (b *bench) put(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.directory, name), []byte(strings.ReplaceAll(text, "HERE", b.directory)), mode); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) starts() string {
	data, _ := os.ReadFile(filepath.Join(b.directory, "starts"))
	return strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", " ")
}

func (b *bench) story() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.told, "\n")
}

func testWheel(t *testing.T) []byte {
	var data bytes.Buffer
	archive := zip.NewWriter(&data)
	for name, text := range map[string]string{
		"smol/__init__.py":          "",
		"smol-1.dist-info/METADATA": "Name: smol\nRequires-Dist: numpy>=1.26\nRequires-Dist: torch; extra == 'torch'\n\nRequires-Dist: prose\n",
	} {
		to, err := archive.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = to.Write([]byte(text))
	}
	archive.Close()
	return data.Bytes()
}

const (
	whole   = `{"version": [3, 12], "executable": "HERE/python3", "lacking": []}`
	lacking = `{"version": [3, 12], "executable": "HERE/python3", "lacking": ["numpy>=1.26 (missing)"]}`
	old     = `{"version": [3, 9], "executable": "HERE/python3", "lacking": []}`
)

func start(t *testing.T, b *bench) *Smol {
	t.Helper()
	s, err := Start(context.Background(), b.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestAPythonThatHasEverythingRunsTheWheelAsItIs(t *testing.T) {
	b := newBench(t, whole, whole)
	s := start(t, b)
	if !strings.Contains(b.story(), "which has what Smol requires") || s.Python() != b.Python {
		t.Error(b.story())
	}
	sources, _ := filepath.Glob(b.Home + "/*/sources/smol/__init__.py")
	if len(sources) != 1 {
		t.Errorf("the wheel is unpacked to %v", sources)
	}
	s.Stop()
	if b.starts() != "start drained" {
		t.Error(b.starts())
	}
	before := b.story()
	start(t, b)
	if b.story() != before {
		t.Error("it was made ready a second time")
	}
}

func TestAnEnvironmentIsMadeOnceWhereSomethingIsMissing(t *testing.T) {
	b := newBench(t, lacking, whole)
	s := start(t, b)
	if !strings.HasSuffix(s.Python(), "/venv/bin/python") || !strings.Contains(b.story(), "lacks numpy>=1.26 (missing)") || !strings.Contains(b.story(), "Collecting numpy") {
		t.Error(s.Python(), b.story())
	}
	if left, _ := filepath.Glob(b.Home + "/*/*.whl"); len(left) > 0 {
		t.Errorf("%v is left over", left)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for told, prepare := range map[string]func(b *bench){
		"lacks numpy>=1.26 (missing), and an environment that has it could not be made: ": func(b *bench) {
			b.put(t, "offline", "", 0o644)
		},
		"ERROR: no index":                   func(b *bench) { b.put(t, "offline", "", 0o644) },
		"still lacks numpy>=1.26 (missing)": func(b *bench) { b.put(t, "probe-inside", lacking, 0o644) },
		"is Python 3.9":                     func(b *bench) { b.put(t, "probe", old, 0o644) },
		"does not work":                     func(b *bench) { b.put(t, "probe", "nonsense", 0o644) },
		"/not/there is not there":           func(b *bench) { b.Python = "/not/there" },
		"carries 2 wheels":                  func(b *bench) { b.Wheel = fstest.MapFS{"smol-1.whl": {}, "smol-2.whl": {}} },
		"is damaged":                        func(b *bench) { b.Wheel = fstest.MapFS{"smol-1.whl": {Data: []byte("x")}} },
		"carries no wheel":                  func(b *bench) { b.Wheel = fstest.MapFS{"README": {}} },
	} {
		b := newBench(t, lacking, whole)
		prepare(b)
		_, err := Start(context.Background(), b.Options)
		if err == nil || !strings.Contains(err.Error(), told) {
			t.Errorf("%q was due, got %v", told, err)
		}
		if left, _ := filepath.Glob(b.Home + "/*/ready.json"); len(left) > 0 {
			t.Errorf("%s: a stamp is left over", told)
		}
	}
}

func TestTwoThatStartAtOnceMakeOneEnvironment(t *testing.T) {
	b := newBench(t, lacking, whole)
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := prepare(context.Background(), &b.Options); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if count := strings.Count(b.story(), "Collecting numpy"); count != 1 {
		t.Errorf("it was made %d times", count)
	}
}

func TestAHostThatCanNotStartSaysWhy(t *testing.T) {
	b := newBench(t, whole, whole)
	b.put(t, "broken", "", 0o644)
	_, err := Start(context.Background(), b.Options)
	if !errors.Is(err, wire.Unavailable) || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "cannot bind") {
		t.Error(err)
	}
	if b.starts() != "start" {
		t.Error(b.starts())
	}
}

func TestAHostThatCrashesIsStartedAgainUntilItCrashesTooOften(t *testing.T) {
	b := newBench(t, whole, whole)
	b.MaxRestarts = 2
	s := start(t, b)
	for round := 1; round <= 3; round++ {
		eventually(t, "it runs", func() bool { return s.Starts() == round && strings.Count(b.starts(), "start") == round })
		s.mu.Lock()
		process := s.process
		s.mu.Unlock()
		_ = syscall.Kill(-process.Pid, syscall.SIGKILL)
	}
	<-s.Done()
	if err := s.Err(); !errors.Is(err, wire.Unavailable) || !strings.Contains(err.Error(), "crashed 3 times") || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
}

func TestAStartEndsWithItsContext(t *testing.T) {
	b := newBench(t, whole, whole)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Start(ctx, b.Options); !errors.Is(err, wire.Cancelled) {
		t.Error(err)
	}
}

func TestWhatAScriptSaysIsTakenApart(t *testing.T) {
	log := &tail{to: &bytes.Buffer{}}
	_, _ = log.Write([]byte("Traceback\n"))
	if value, err := readAnswer("a.py", []byte(`{"value":{"x":1}}`), nil, log); err != nil || string(value) != `{"x":1}` {
		t.Errorf("%s, %v", value, err)
	}
	_, err := readAnswer("a.py", []byte(`{"error":{"code":"NOT_FOUND","message":"no","details":{"x":1}}}`), nil, log)
	if known := wire.AsError(err); known.Code != wire.NotFound || known.Message != "no" || known.Details["x"] != int64(1) {
		t.Errorf("%#v", err)
	}
	if _, err := readAnswer("a.py", nil, errors.New("exit status 1"), log); err == nil || !strings.Contains(err.Error(), "exit status 1):\nTraceback") {
		t.Error(err)
	}
}
