// Package unit is for writing units of Smol in Go.
//
// A unit is a struct whose methods are registered as typed operations. From their types and struct tags follow
// the schema, the checks and every way in: command line, HTTP, MCP, Python, Go.
//
//	type Greeter struct{}
//
//	type GreetInput struct {
//		Name  string `json:"name" doc:"whom to greet."`
//		Times int    `json:"times" default:"1" min:"1" max:"10" doc:"how often."`
//	}
//
//	func (g *Greeter) Greet(ctx context.Context, in GreetInput) (string, error) {
//		return strings.Repeat("hello "+in.Name+" ", in.Times), nil
//	}
//
//	func main() {
//		g := &Greeter{}
//		u := unit.New("Greets people.", g)
//		unit.Operation(u, "greet", "Greet somebody.", g.Greet, unit.ReadOnly)
//		u.Main()
//	}
//
// Tags of a field: json (its name; omitempty makes it optional), doc, default, min and max (of a number, the
// characters of a text, the elements of a list), above and below, pattern, enum (separated by commas). A field is
// required unless it has a default, is a pointer or says omitempty. Bytes are *[Attachment].
//
// The context of an operation ends with its deadline or when nobody waits for the answer any more. With it
// [smol.local/smol/client.Call] calls other units.
package unit

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"regexp"
	"strings"

	"smol.local/smol/internal/codec"
	"smol.local/smol/wire"
)

// Attachment is bytes that travel beside the JSON of a call or its result.
type Attachment = wire.Attachment

// Flag tells the host what it may do with an operation.
type Flag uint8

// The flags.
const (
	// Idempotent: running it twice is as good as once, so that the host may retry it on another worker.
	Idempotent Flag = 1 << iota
	// ReadOnly: it changes nothing. Implies Idempotent.
	ReadOnly
	// Destructive: it may delete or overwrite what can't be brought back.
	Destructive
)

// A unit may have any of these: to get ready, to check, to run beside the calls, to release what it took.
type (
	// Provisioner gets ready: opens files, loads small things. Its error refuses to start.
	Provisioner interface {
		Provision(ctx context.Context) error
	}
	// Validator checks what Provision made, without side effects.
	Validator interface{ Validate() error }
	// Server runs beside the calls for as long as the worker lives. Its error ends the worker.
	Server interface {
		Serve(ctx context.Context) error
	}
	// Closer releases what Provision took, also if that has failed.
	Closer interface{ Close() error }
)

// Unit is a set of operations that is served under one name, which the host gives.
type Unit struct {
	summary    string
	life       any
	operations []*operation
	problem    error
}

// operation is one registered operation.
type operation struct {
	wire.OperationDescription
	input, output *codec.Plan // output is nil for no result
	in            reflect.Type
	run           func(ctx context.Context, in reflect.Value) (any, error)
	stream        func(ctx context.Context, in reflect.Value, yield func(any, error) bool)
}

// New makes a unit. summary is its line in lists; life is the struct that may be a [Provisioner], [Validator],
// [Server] or [Closer], or nil.
func New(summary string, life any) *Unit { return &Unit{summary: summary, life: life} }

// Operation registers an operation. doc is what people read: its first paragraph in lists. In is a struct of the
// arguments, Out what JSON can carry: struct{} for no result.
func Operation[In, Out any](
	u *Unit, name, doc string, f func(ctx context.Context, in In) (Out, error), flags ...Flag,
) {
	added := add[In, Out](u, name, doc, flags)
	added.run = func(ctx context.Context, in reflect.Value) (any, error) {
		return f(ctx, in.Interface().(In))
	}
}

// Stream registers a streaming operation: f yields items until it is done or has failed. When its loop is told to
// stop, nobody takes more.
func Stream[In, Item any](
	u *Unit, name, doc string, f func(ctx context.Context, in In) iter.Seq2[Item, error], flags ...Flag,
) {
	added := add[In, Item](u, name, doc, flags)
	added.Streaming = true
	added.stream = func(ctx context.Context, in reflect.Value, yield func(any, error) bool) {
		for item, err := range f(ctx, in.Interface().(In)) {
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

func add[In, Out any](u *Unit, name, doc string, flags []Flag) *operation {
	added := &operation{in: reflect.TypeFor[In]()}
	summary, description, _ := strings.Cut(strings.TrimSpace(doc), "\n\n")
	added.Name, added.Summary = name, strings.Join(strings.Fields(summary), " ")
	added.Description = strings.TrimSpace(description)
	for _, flag := range flags {
		added.Idempotent = added.Idempotent || flag&(Idempotent|ReadOnly) != 0
		added.ReadOnly = added.ReadOnly || flag&ReadOnly != 0
		added.Destructive = added.Destructive || flag&Destructive != 0
	}
	u.note(name, added.plan(reflect.TypeFor[Out]()))
	if !namePattern.MatchString(name) {
		u.note(name, fmt.Errorf("an operation's name is a small letter, then small letters, digits and '_'"))
	}
	for _, other := range u.operations {
		if other.Name == name {
			u.note(name, fmt.Errorf("it is registered twice"))
		}
	}
	u.operations = append(u.operations, added)
	return added
}

func (o *operation) plan(out reflect.Type) (err error) {
	if o.in.Kind() != reflect.Struct {
		return fmt.Errorf("its input is %v: arguments have names, take a struct", o.in)
	}
	if o.input, err = codec.For(o.in); err == nil && out != reflect.TypeFor[struct{}]() {
		o.output, err = codec.For(out)
	}
	return err
}

func (u *Unit) note(name string, err error) {
	if err != nil && u.problem == nil {
		u.problem = wire.Errorf(wire.FailedPrecondition, "operation %q can't be described: %v", name, err)
	}
}

// Check reports what is wrong with the registered operations: types that JSON can't carry, names taken twice.
// [Unit.Main] tells the host the same; a test says it sooner.
func (u *Unit) Check() error { return u.problem }

// Describe returns what the unit tells its host: its operations with their schemas.
func (u *Unit) Describe(name, version string) (wire.UnitDescription, error) {
	return u.describe(name, version, true), u.problem
}

// describe returns the description; schemas cost the host memory, and it asks for them once.
func (u *Unit) describe(name, version string, schemas bool) wire.UnitDescription {
	description := wire.UnitDescription{Name: name, Version: version, Summary: u.summary}
	for _, operation := range u.operations {
		said := operation.OperationDescription
		if schemas && operation.input != nil {
			said.Input = operation.input.Schema("Input", true)
			said.Output = wire.Raw(`{"type":"null"}`)
			if operation.output != nil {
				said.Output = operation.output.Schema("", false)
			}
		}
		description.Operations = append(description.Operations, said)
	}
	return description
}

func (u *Unit) find(name string) (*operation, error) {
	names := make([]string, 0, len(u.operations))
	for _, operation := range u.operations {
		if operation.Name == name {
			return operation, nil
		}
		names = append(names, operation.Name)
	}
	return nil, wire.Errorf(wire.NotFound, "no operation '%.80s'%s; known: %s",
		name, wire.Nearest(name, names), strings.Join(names, ", "))
}
