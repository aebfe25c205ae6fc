// Package bridge carries and runs Smol inside a Go program: from a wheel that the program embeds to a host that
// serves, is restarted when it crashes and drained at the end.
//
//	//go:embed smol-*.whl
//	var wheel embed.FS
//
//	s, err := bridge.Start(ctx, bridge.Options{Wheel: wheel})
//	...
//	defer s.Stop()
//	answer, err := client.Call[any](s.Context(ctx), "math.evaluate", client.Args{"expression": "2/3"})
//
// The machine needs Python 3.11 or later. Where it has what Smol requires, the wheel runs with it as it is;
// else a virtual environment is made once, which needs a package index.
package bridge

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/wire"
)

const (
	// readySeconds is how long a host may take to serve.
	readySeconds = 60
	// drainSeconds is how long it has to end in good order.
	drainSeconds = 20
	// restartPeriod bounds restarts: more than so many within it, and Smol has failed.
	restartPeriod   = time.Minute
	restartsDefault = 5
	firstPause      = 200 * time.Millisecond
	longestPause    = 10 * time.Second
)

// Options say what to run and how.
type Options struct {
	// Wheel holds the wheel of Smol, smol-*.whl. Nil, or without a wheel: a Python is used in which Smol is installed.
	Wheel fs.FS
	// Home is where the wheel is unpacked and its environment is made; default: box in the user's directory of Smol.
	Home string
	// Python is the interpreter; default: the first on the PATH that fits.
	Python string
	// Socket is where the host listens; default: where every client looks.
	Socket string
	// Environ are settings of Smol, as SMOL_HOST_LOG_LEVEL=debug, on top of this process's environment.
	Environ []string
	// Arguments follow 'smol serve'.
	Arguments []string
	// Log is given what the host writes; default: standard error.
	Log io.Writer
	// Progress is told what happens before the host serves, in lines for people.
	Progress func(line string)
	// MaxRestarts is how many crashes within a minute are forgiven; 0: five, negative: none.
	MaxRestarts int
}

// Smol is a host that this program runs.
type Smol struct {
	options Options
	runtime *runtimeEnvironment

	stop    context.CancelFunc
	stopped chan struct{} // closed when the host is gone for good

	mu      sync.Mutex
	err     error
	starts  int
	process *os.Process
	client  *client.Client
}

// Start gets Smol ready, starts its host and waits until it serves. It fails with FAILED_PRECONDITION when this
// machine lacks something, which the message names, and with UNAVAILABLE when the host does not start.
func Start(ctx context.Context, options Options) (*Smol, error) {
	if options.Progress == nil {
		options.Progress = func(string) {}
	}
	if options.Log == nil {
		options.Log = os.Stderr
	}
	if options.MaxRestarts == 0 {
		options.MaxRestarts = restartsDefault
	}
	if options.Socket == "" {
		options.Socket = client.DefaultSocket()
	}
	if options.Home == "" {
		options.Home = defaultHome()
	}
	prepared, err := prepare(ctx, &options)
	if err != nil {
		return nil, err
	}
	s := &Smol{options: options, runtime: prepared, stopped: make(chan struct{})}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	first := make(chan error, 1)
	go s.supervise(life, first)
	select {
	case err = <-first:
	case <-ctx.Done():
		err = wire.AsError(ctx.Err())
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Socket returns where the host listens.
func (s *Smol) Socket() string { return s.options.Socket }

// Python returns the interpreter that runs the host.
func (s *Smol) Python() string { return s.runtime.python }

// Done is closed when the host is gone for good: stopped, or crashed too often, which Err tells.
func (s *Smol) Done() <-chan struct{} { return s.stopped }

// Err returns why the host is gone; nil while it runs and after Stop.
func (s *Smol) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Starts returns how often the host was started.
func (s *Smol) Starts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

// Client returns a connection to the host, which all callers share; another one once the host was restarted.
func (s *Smol) Client(ctx context.Context) (*client.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		select {
		case <-s.client.Closed():
		default:
			return s.client, nil
		}
	}
	made, err := client.Connect(ctx, s.options.Socket)
	if err == nil {
		s.client = made
	}
	return made, err
}

// Stop drains the host and waits until it is gone. It may be called more than once.
func (s *Smol) Stop() {
	s.stop()
	<-s.stopped
	s.mu.Lock()
	connection := s.client
	s.client = nil
	s.mu.Unlock()
	if connection != nil {
		connection.Close()
	}
}

// supervise runs the host until it is told to stop or crashes too often. first is told how the first start went.
func (s *Smol) supervise(ctx context.Context, first chan<- error) {
	defer close(s.stopped)
	var crashes []time.Time
	pause, served := firstPause, false
	ready := func() {
		if !served {
			served = true
			first <- nil
		}
	}
	for {
		started := time.Now()
		err := s.runHost(ctx, ready)
		if ctx.Err() != nil {
			return
		}
		if !served { // That is for whoever starts it.
			first <- err
			return
		}
		if time.Since(started) > restartPeriod {
			pause = firstPause
		}
		crashes = append(slices.DeleteFunc(crashes, func(at time.Time) bool { return time.Since(at) > restartPeriod }), time.Now())
		if len(crashes) > s.options.MaxRestarts {
			s.mu.Lock()
			s.err = wire.Errorf(wire.Unavailable, "the host crashed %d times within a minute; the last time: %s", len(crashes), wire.AsError(err).Message)
			s.mu.Unlock()
			return
		}
		s.options.Progress("the host ended (" + wire.AsError(err).Message + ") and is started again")
		select {
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		case <-ctx.Done():
			return
		}
	}
}

// environ is what the host and scripts find in their environment.
func (s *Smol) environ() []string {
	environ := slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "PYTHONPATH=") || strings.HasPrefix(entry, "PYTHONHOME=")
	})
	if s.runtime.pythonPath != "" {
		environ = append(environ, "PYTHONPATH="+s.runtime.pythonPath)
	}
	return append(append(environ, s.options.Environ...), "SMOL_SOCKET="+s.options.Socket)
}

func defaultHome() string {
	if home := os.Getenv("SMOL_HOME"); home != "" {
		return filepath.Join(home, "box")
	}
	if data := os.Getenv("XDG_DATA_HOME"); data != "" {
		return filepath.Join(data, "smol", "box")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "share", "smol", "box")
}
