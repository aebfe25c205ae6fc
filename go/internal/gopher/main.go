// The unit gopher does what a test tells it, good or bad.
package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

type gopher struct{ stopped atomic.Int64 }

type settings struct {
	Manner string `json:"manner" default:"good" enum:"good,refuse,panic,crash,slow"`
}

type textInput struct {
	Text string `json:"text"`
}

type secondsInput struct {
	Seconds float64 `json:"seconds"`
}

type forwardInput struct {
	Operation string         `json:"operation"`
	Arguments map[string]any `json:"arguments,omitempty"`
}

type countInput struct {
	Items        int     `json:"items"`
	PauseSeconds float64 `json:"pause_seconds" default:"0"`
}

// health is what a worker holds.
type health struct {
	Goroutines  int   `json:"goroutines"`
	Descriptors int   `json:"descriptors"`
	Stopped     int64 `json:"stopped"`
	PID         int   `json:"pid"`
}

// Provision misbehaves as it is told.
func (g *gopher) Provision(ctx context.Context) error {
	var manners settings
	if err := unit.Settings(ctx, &manners); err != nil {
		return err
	}
	fmt.Println("this goes to the log, not to the wire")
	switch manners.Manner {
	case "refuse":
		return unit.Errorf(wire.FailedPrecondition, "its device is missing: plug it in")
	case "panic":
		panic("on purpose")
	case "crash":
		os.Exit(3)
	case "slow":
		<-ctx.Done()
	}
	return nil
}

func (g *gopher) echo(_ context.Context, in textInput) (string, error) { return in.Text, nil }

func (g *gopher) reverse(_ context.Context, in struct {
	Data *unit.Attachment `json:"data"`
}) (*unit.Attachment, error) {
	data := in.Data.Data
	for i, j := 0, len(data)-1; i < j; i, j = i+1, j-1 {
		data[i], data[j] = data[j], data[i]
	}
	return in.Data, nil
}

func (g *gopher) sleep(ctx context.Context, in secondsInput) (string, error) {
	unit.Progress(ctx, 0.5, "half")
	select {
	case <-time.After(time.Duration(in.Seconds * float64(time.Second))):
		return "slept", nil
	case <-ctx.Done():
		g.stopped.Add(1)
		return "", ctx.Err()
	}
}

func (g *gopher) count(ctx context.Context, in countInput) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		defer g.stopped.Add(1)
		for i := range in.Items {
			time.Sleep(time.Duration(in.PauseSeconds * float64(time.Second)))
			if !yield(i, nil) {
				return
			}
		}
	}
}

func (g *gopher) sum(ctx context.Context, in forwardInput) (float64, error) {
	sum := 0.0
	for item, err := range client.Stream[float64](ctx, in.Operation, in.Arguments) {
		if err != nil {
			return 0, err
		}
		sum += item
	}
	return sum, nil
}

func (g *gopher) forward(ctx context.Context, in forwardInput) (any, error) {
	return client.Call[any](ctx, in.Operation, in.Arguments)
}

func (g *gopher) fail(context.Context, struct{}) (struct{}, error) {
	return struct{}{}, unit.Errorf(wire.FailedPrecondition, "told to fail").With("hint", "none")
}

func (g *gopher) bug(context.Context, struct{}) (struct{}, error) {
	var none *gopher
	none.stopped.Add(1)
	return struct{}{}, nil
}

func (g *gopher) die(context.Context, struct{}) (struct{}, error) {
	os.Exit(7)
	return struct{}{}, nil
}

func (g *gopher) shout(_ context.Context, in textInput) (struct{}, error) {
	fmt.Println(in.Text)
	return struct{}{}, nil
}

func (g *gopher) announce(ctx context.Context, in countInput) (struct{}, error) {
	for i := range in.Items {
		if err := unit.Publish(ctx, "news", i); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

func (g *gopher) health(context.Context, struct{}) (health, error) {
	descriptors, err := os.ReadDir("/proc/self/fd")
	return health{runtime.NumGoroutine(), len(descriptors), g.stopped.Load(), os.Getpid()}, err
}

func main() {
	g := &gopher{}
	u := unit.New("Does what a test tells it, in Go.", g)
	unit.Operation(u, "echo", "Return the text.", g.echo, unit.ReadOnly)
	unit.Operation(u, "reverse", "Return the bytes in reverse.", g.reverse)
	unit.Operation(u, "sleep", "Wait.", g.sleep)
	unit.Stream(u, "count", "Count from 0.", g.count)
	unit.Operation(u, "sum", "Add the items of another unit's stream.", g.sum)
	unit.Operation(u, "forward", "Call another operation.", g.forward)
	unit.Operation(u, "fail", "Fail as units should.", g.fail)
	unit.Operation(u, "bug", "Fail as they do.", g.bug)
	unit.Operation(u, "die", "End the worker.", g.die)
	unit.Operation(u, "shout", "Write to standard output.", g.shout)
	unit.Operation(u, "announce", "Publish events.", g.announce)
	unit.Operation(u, "health", "Tell what the worker holds.", g.health, unit.ReadOnly)
	u.Main()
}
