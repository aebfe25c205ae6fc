// The command driver calls units from Go, for tests and benchmarks, and writes what it met as JSON.
//
//	driver call OPERATION ARGUMENTS [SECONDS]
//	driver stream OPERATION ARGUMENTS [TAKE]
//	driver reverse OPERATION BYTES
//	driver load OPERATION CALLS GOROUTINES
//	driver rate OPERATION ARGUMENTS GOROUTINES SECONDS
//	driver events TOPIC COUNT OPERATION ARGUMENTS
//	driver script PYTHON WHEELS HOME SCRIPT ARGUMENTS...
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"smol.local/smol/bridge"
	"smol.local/smol/client"
	"smol.local/smol/wire"
)

func main() {
	answer, err := run(os.Args[1:])
	if err != nil {
		known := wire.AsError(err)
		answer = map[string]any{"code": known.Code, "message": known.Message, "details": known.Details}
	}
	data, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(data))
}

func run(arguments []string) (any, error) {
	word := func(i int) string {
		if i < len(arguments) {
			return arguments[i]
		}
		return ""
	}
	number := func(i, otherwise int) int {
		if value, err := strconv.Atoi(word(i)); err == nil {
			return value
		}
		return otherwise
	}
	ctx := context.Background()
	if word(0) == "script" {
		return script(ctx, arguments[1:])
	}
	connection, err := client.Connect(ctx, "")
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	ctx = client.NewContext(ctx, connection)
	switch word(0) {
	case "call":
		ctx, cancel := context.WithTimeout(ctx, time.Duration(number(3, 60))*time.Second)
		defer cancel()
		progress := []string{}
		value, err := client.Call[any](ctx, word(1), json.RawMessage(word(2)), client.OnProgress(func(fraction float64, message string) {
			progress = append(progress, fmt.Sprint(fraction, " ", message))
		}))
		return map[string]any{"value": value, "progress": progress}, err
	case "stream":
		return stream(ctx, word(1), word(2), number(3, 1<<30))
	case "reverse":
		return reverse(ctx, word(1), number(2, 0))
	case "load":
		return load(ctx, word(1), number(2, 0), number(3, 1))
	case "rate":
		return rate(ctx, word(1), word(2), number(3, 1), time.Duration(number(4, 1))*time.Second)
	case "events":
		return events(ctx, connection, word(1), number(2, 1), word(3), word(4))
	}
	return nil, wire.Errorf(wire.InvalidArgument, "no command %q", word(0))
}

func stream(ctx context.Context, operation, arguments string, take int) (any, error) {
	items := []any{}
	for item, err := range client.Stream[any](ctx, operation, json.RawMessage(arguments)) {
		if err != nil {
			return nil, err
		}
		if items = append(items, item); len(items) == take {
			break
		}
	}
	return map[string]any{"items": items}, nil
}

func reverse(ctx context.Context, operation string, size int) (any, error) {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i % 251)
	}
	back, err := client.Call[*client.Attachment](ctx, operation, client.Args{"data": &client.Attachment{Data: data}})
	if err != nil {
		return nil, err
	}
	slices.Reverse(back.Data)
	return map[string]any{"bytes": len(back.Data), "same": bytes.Equal(data, back.Data)}, nil
}

// load makes calls that each must come back with the text they were sent.
func load(ctx context.Context, operation string, calls, goroutines int) (any, error) {
	before := runtime.NumGoroutine()
	var next, wrong, failed atomic.Int64
	var reason atomic.Value
	var group sync.WaitGroup
	for range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			for number := next.Add(1); number <= int64(calls); number = next.Add(1) {
				text := fmt.Sprint("call ", number)
				back, err := client.Call[string](ctx, operation, client.Args{"text": text})
				if err != nil {
					failed.Add(1)
					reason.Store(err.Error())
				} else if back != text {
					wrong.Add(1)
				}
			}
		}()
	}
	group.Wait()
	return map[string]any{
		"wrong": wrong.Load(), "failed": failed.Load(), "reason": reason.Load(),
		"leaked": runtime.NumGoroutine() - before,
	}, nil
}

func rate(ctx context.Context, operation, arguments string, goroutines int, during time.Duration) (any, error) {
	var count atomic.Int64
	var problem atomic.Value
	var group sync.WaitGroup
	started := time.Now()
	end := started.Add(during)
	for range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(end) {
				if _, err := client.Call[json.RawMessage](ctx, operation, json.RawMessage(arguments)); err != nil {
					problem.Store(err)
					return
				}
				count.Add(1)
			}
		}()
	}
	group.Wait()
	if err, failed := problem.Load().(error); failed {
		return nil, err
	}
	return map[string]any{"per_second": float64(count.Load()) / time.Since(started).Seconds()}, nil
}

// events subscribes, calls an operation that publishes, and takes so many events.
func events(ctx context.Context, connection *client.Client, topic string, count int, operation, arguments string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	taken := []any{}
	ready := func() {
		go func() { _, _ = client.Call[any](ctx, operation, json.RawMessage(arguments)) }()
	}
	for event, err := range connection.Events(ctx, topic, ready) {
		if err != nil {
			return nil, err
		}
		if taken = append(taken, event.Data); len(taken) == count {
			break
		}
	}
	return map[string]any{"events": taken}, nil
}

// script runs a Smol of its own and a script against it.
func script(ctx context.Context, arguments []string) (any, error) {
	smol, err := bridge.Start(ctx, bridge.Options{
		Python: arguments[0], Wheel: os.DirFS(arguments[1]), Home: arguments[2],
	})
	if err != nil {
		return nil, err
	}
	defer smol.Stop()
	var rest []any
	for _, argument := range arguments[4:] {
		rest = append(rest, argument)
	}
	value, err := bridge.RunScript[any](ctx, smol, os.DirFS(filepath.Dir(arguments[3])), filepath.Base(arguments[3]), rest...)
	return map[string]any{"value": value}, err
}
