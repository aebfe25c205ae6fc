package bridge

import (
	"bytes"
	"context"
	_ "embed" // For the runner.
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/internal/codec"
	"smol.local/smol/internal/jsonscan"
	"smol.local/smol/wire"
)

//go:embed runner.py
var runnerScript string

// largestResult bounds what a script may return.
const largestResult = 64 << 20

// Context returns a context with which [client.Call] reaches this Smol. A connection that can't be made fails there.
func (s *Smol) Context(ctx context.Context) context.Context {
	connection, err := s.Client(ctx)
	if err != nil {
		return ctx
	}
	return client.NewContext(ctx, connection)
}

// RunScript runs a Python script of files against the running Smol: it calls its function main(s, *arguments), where
// s is a client, and returns what that returns. main may be asynchronous. The script may import the other files.
// What it prints goes to the log. It is killed when the context ends.
func RunScript[Out any](ctx context.Context, s *Smol, files fs.FS, name string, arguments ...any) (Out, error) {
	var out Out
	result, err := s.runScript(ctx, files, name, arguments)
	if err != nil {
		return out, err
	}
	plan, err := codec.For(reflect.TypeFor[Out]())
	if err == nil {
		err = plan.Decode(result, nil, reflect.ValueOf(&out).Elem())
	}
	return out, err
}

func (s *Smol) runScript(ctx context.Context, files fs.FS, name string, arguments []any) ([]byte, error) {
	if _, err := fs.Stat(files, name); err != nil {
		return nil, wire.Errorf(wire.NotFound, "no script %s: %v", name, err)
	}
	if arguments == nil {
		arguments = []any{}
	}
	input, attachments, err := codec.Encode(arguments)
	if err == nil && len(attachments) > 0 {
		err = wire.Errorf(wire.InvalidArgument, "a script takes JSON, no attachments")
	}
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "smol-script-")
	if err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "%v", err)
	}
	defer os.RemoveAll(directory)
	if err := os.CopyFS(directory, files); err != nil {
		return nil, wire.Errorf(wire.FailedPrecondition, "the scripts can't be written: %v", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "%v", err)
	}
	defer reader.Close()
	log := &tail{to: s.options.Log}
	command := exec.CommandContext(ctx, s.runtime.python, "-c", runnerScript, filepath.Join(directory, name))
	command.Dir, command.Env = directory, append(s.environ(), "PYTHONDONTWRITEBYTECODE=1")
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), log, log
	command.ExtraFiles = []*os.File{writer}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	err = command.Start()
	writer.Close()
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "%s can't be run: %v", name, err)
	}
	answer := make(chan []byte, 1)
	go func() {
		data, _ := io.ReadAll(io.LimitReader(reader, largestResult+1))
		answer <- data
	}()
	ended := command.Wait()
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // What it left behind in its group.
	if ctx.Err() != nil {
		return nil, wire.AsError(ctx.Err())
	}
	var said []byte
	select {
	case said = <-answer:
	case <-time.After(time.Second): // Somebody else holds its end open.
	}
	return readAnswer(name, said, ended, log)
}

// readAnswer takes apart what the runner said.
func readAnswer(name string, said []byte, ended error, log *tail) (value []byte, err error) {
	if len(said) > largestResult {
		return nil, wire.Errorf(wire.ResourceExhausted, "%s returned more than %d bytes", name, largestResult)
	}
	if problem := jsonscan.Check(said); problem != nil {
		return nil, wire.Errorf(wire.Internal, "%s ended without a result (%v)%s", name, ended, log.lines())
	}
	problem := jsonscan.Object(said, func(member, content []byte) error {
		if string(member) == "value" {
			value = content
			return nil
		}
		message := &wire.ErrorMessage{Code: wire.Internal, Details: wire.Raw("{}")}
		err = message.Error()
		return jsonscan.Object(content, func(member, content []byte) (problem error) {
			switch string(member) {
			case "code":
				var code string
				code, problem = jsonscan.String(content)
				message.Code = wire.Code(code)
			case "message":
				message.Message, problem = jsonscan.String(content)
			case "details":
				message.Details = content
			}
			err = message.Error()
			return problem
		})
	})
	if problem != nil {
		return nil, wire.Errorf(wire.Internal, "%s: %v", name, problem)
	}
	return value, err
}
