package bridge

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"smol.local/smol/wire"
)

// tailLines are kept of what a process writes, to say why it ended.
const tailLines = 12

// runHost runs the host from its start to its end. ready is called once it serves. When the context ends, it is
// drained.
func (s *Smol) runHost(ctx context.Context, ready func()) error {
	runtime.LockOSThread() // The kernel ends the host with the thread that started it.
	defer runtime.UnlockOSThread()
	reader, writer, err := os.Pipe()
	if err != nil {
		return wire.Errorf(wire.Unavailable, "the host could not be started: %v", err)
	}
	defer reader.Close()
	log := &tail{to: s.options.Log}
	arguments := append([]string{"-P", "-m", "smol.cli.main", "serve", "--ready-fd", "3"}, s.options.Arguments...)
	command := exec.Command(s.runtime.python, arguments...)
	command.Env = s.environ()
	command.ExtraFiles = []*os.File{writer}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = ownGroup()
	command.WaitDelay = time.Second // What it leaves behind may hold its output.
	err = command.Start()
	writer.Close()
	if err != nil {
		return wire.Errorf(wire.Unavailable, "the host could not be started: %v", err)
	}
	s.mu.Lock()
	s.process = command.Process
	s.starts++
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	served := make(chan bool, 1)
	go func() {
		n, _ := reader.Read(make([]byte, 1))
		served <- n == 1
	}()
	late := time.NewTimer(readySeconds * time.Second)
	defer late.Stop()
	for {
		select {
		case ok := <-served:
			if served = nil; ok {
				late.Stop()
				ready()
			}
		case <-late.C:
			endGroup(command.Process, ended)
			return wire.Errorf(wire.Unavailable, "the host did not serve within %d s", readySeconds)
		case <-ended:
			return wire.Errorf(wire.Unavailable, "the host ended (%s)%s", command.ProcessState, log.lines())
		case <-ctx.Done():
			drain(command.Process, ended)
			return nil
		}
	}
}

// drain asks a process to end in good order, and ends it if it does not.
func drain(process *os.Process, ended <-chan error) {
	_ = process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(drainSeconds * time.Second):
		endGroup(process, ended)
	}
}

// endGroup kills a process with its group, and waits for it.
func endGroup(process *os.Process, ended <-chan error) {
	_ = syscall.Kill(-process.Pid, syscall.SIGKILL)
	<-ended
}

// tail passes on what is written and keeps the last lines.
type tail struct {
	to io.Writer

	mu   sync.Mutex
	kept []byte
}

// Write implements [io.Writer].
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	t.kept = append(t.kept, data...)
	if len(t.kept) > 8192 {
		t.kept = append([]byte(nil), t.kept[len(t.kept)-4096:]...)
	}
	t.mu.Unlock()
	return t.to.Write(data)
}

// lines returns the last lines, to be put behind a message.
func (t *tail) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.kept), []byte("\n"))
	text := string(bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")))
	if strings.TrimSpace(text) == "" {
		return ""
	}
	return ":\n" + text
}
