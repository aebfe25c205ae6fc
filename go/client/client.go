// Package client calls the units of a running Smol from Go.
//
//	type Evaluation struct {
//		Exact string `json:"exact"`
//	}
//	answer, err := client.Call[Evaluation](ctx, "math.evaluate", client.Args{"expression": "2/3"})
//
// A call is bounded by the deadline of its context, or by a minute. Errors are *[wire.Error]; errors.Is(err,
// wire.NotFound) asks for a code. Inside a unit the same functions call other units, within the deadline of
// the call that is served.
package client

import (
	"context"
	"iter"
	"net"
	"reflect"
	"sync"
	"time"

	"smol.local/smol/internal/caller"
	"smol.local/smol/internal/codec"
	"smol.local/smol/internal/jsonscan"
	"smol.local/smol/wire"
)

const handshakeSeconds = 10

// Args are arguments by name. A struct does as well.
type Args = map[string]any

// Attachment is bytes that travel beside the JSON of a call or its result.
type Attachment = wire.Attachment

// Event is something that happened. Data is of plain JSON types; Dropped is how many events were lost just before.
type Event struct {
	Topic   string
	Data    any
	Dropped uint64
}

// Client is a connection to a host. It is safe for concurrent use.
type Client struct {
	caller   *caller.Caller
	conn     *wire.Conn
	welcomed chan error
	once     sync.Once
}

// Connect connects to the host that listens at a Unix socket; an empty path stands for $SMOL_SOCKET, or where
// 'smol serve' puts it. It fails with UNAVAILABLE when no host listens there.
func Connect(ctx context.Context, socket string) (*Client, error) {
	if socket == "" {
		socket = DefaultSocket()
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeSeconds*time.Second)
	defer cancel()
	stream, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, wire.Errorf(wire.Unavailable, "no host listens at %s (%v): start one with 'smol serve'", socket, err)
	}
	return greet(ctx, stream, socket)
}

// Over connects over a stream whose other end is a host.
func Over(ctx context.Context, stream net.Conn) (*Client, error) {
	return greet(ctx, stream, "the other end")
}

func greet(ctx context.Context, stream net.Conn, where string) (*Client, error) {
	client := &Client{welcomed: make(chan error, 1)}
	client.conn = wire.NewConn(stream, wire.Peer, wire.DefaultLimits, (*handler)(client))
	client.caller = caller.New(client.conn)
	go client.conn.Run()
	// If it can't be sent, the connection is over, and its end says why.
	_ = client.conn.Send(&wire.Hello{Protocol: wire.ProtocolVersion, Name: "go"})
	var err error
	select {
	case err = <-client.welcomed:
	case <-ctx.Done():
		err = wire.Errorf(wire.Unavailable, "the host at %s does not answer", where)
	}
	if err != nil {
		client.conn.Close()
		return nil, err
	}
	return client, nil
}

// FromCaller makes a client of a connection that belongs to somebody else, as that of a worker does.
func FromCaller(calls *caller.Caller) *Client { return &Client{caller: calls} }

// Close hangs up; calls in flight fail with UNAVAILABLE.
func (c *Client) Close() {
	if c.conn != nil {
		c.conn.Close()
		<-c.conn.Done()
	}
}

// Closed is closed once the connection has ended. It is nil for a client inside a unit.
func (c *Client) Closed() <-chan struct{} {
	if c.conn == nil {
		return nil
	}
	return c.conn.Done()
}

// Option is something more about one call.
type Option func(*caller.Request)

// Key sets the idempotency key, which the operation is handed.
func Key(key string) Option { return func(r *caller.Request) { r.Key = key } }

// OnProgress is told how far the call has come, by the goroutine that reads: it must not block. The fraction is
// 0 to 1, or below 0 when unknown.
func OnProgress(told func(fraction float64, message string)) Option {
	return func(r *caller.Request) { r.OnProgress = told }
}

// Call calls an operation and decodes its result into out, a pointer; nil throws it away. in is a struct or
// [Args], nil for no arguments; *Attachment values in it travel as attachments.
func (c *Client) Call(ctx context.Context, operation string, in, out any, options ...Option) error {
	request, err := newRequest(ctx, operation, in, options)
	if err != nil {
		return err
	}
	reply, err := c.caller.Call(ctx, request)
	if err != nil || out == nil {
		return err
	}
	return decode(reply, reflect.ValueOf(out).Elem())
}

// Stream calls a streaming operation. Leaving the loop cancels it. An error is the last thing that it yields.
func (c *Client) Stream(ctx context.Context, operation string, in any, options ...Option) iter.Seq2[any, error] {
	return stream[any](ctx, c, operation, in, options)
}

// Events follows a topic until the context ends; * at its end stands for any rest. ready, if not nil, is called
// once the host has taken the subscription.
func (c *Client) Events(ctx context.Context, topic string, ready func()) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		acknowledged := false
		for event, err := range c.caller.Subscribe(ctx, topic) {
			if err == nil && !acknowledged {
				if acknowledged = true; ready != nil {
					ready()
				}
				continue
			}
			if !yield(Event{event.Topic, wire.Plain(event.Data), event.Dropped}, err) {
				return
			}
		}
	}
}

// Describe tells what a unit offers.
func (c *Client) Describe(ctx context.Context, unit string) (Description, error) {
	var description Description
	err := c.Call(ctx, "lifecycle.describe", Args{"unit": unit}, &description)
	return description, err
}

// Description is what a unit offers.
type Description struct {
	Name       string      `json:"name"`
	Version    string      `json:"version" default:"0"`
	Summary    string      `json:"summary" default:""`
	Operations []Operation `json:"operations,omitempty"`
}

// Operation is one operation of a unit. Input and Output are JSON Schemas.
type Operation struct {
	Name        string         `json:"name"`
	Summary     string         `json:"summary" default:""`
	Description string         `json:"description" default:""`
	Input       map[string]any `json:"input,omitempty"`
	Output      map[string]any `json:"output,omitempty"`
	Streaming   bool           `json:"streaming,omitempty"`
	Idempotent  bool           `json:"idempotent,omitempty"`
	ReadOnly    bool           `json:"read_only,omitempty"`
	Destructive bool           `json:"destructive,omitempty"`
}

// Call calls an operation with the client of the context (see [NewContext]), and decodes its result into an Out:
// a struct, a basic type, or any for plain JSON types. Results that nobody wants are a struct{}.
func Call[Out any](ctx context.Context, operation string, in any, options ...Option) (Out, error) {
	var out Out
	client, err := fromContext(ctx)
	if err != nil {
		return out, err
	}
	if reflect.TypeFor[Out]() == reflect.TypeFor[struct{}]() {
		return out, client.Call(ctx, operation, in, nil, options...)
	}
	return out, client.Call(ctx, operation, in, &out, options...)
}

// Stream calls a streaming operation with the client of the context, as [Call] does.
func Stream[Item any](ctx context.Context, operation string, in any, options ...Option) iter.Seq2[Item, error] {
	client, err := fromContext(ctx)
	if err != nil {
		return func(yield func(Item, error) bool) {
			var none Item
			yield(none, err)
		}
	}
	return stream[Item](ctx, client, operation, in, options)
}

func stream[Item any](ctx context.Context, c *Client, operation string, in any, options []Option) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var none Item
		request, err := newRequest(ctx, operation, in, options)
		if err != nil {
			yield(none, err)
			return
		}
		for reply, err := range c.caller.Stream(ctx, request) {
			var item Item
			if err == nil {
				err = decode(reply, reflect.ValueOf(&item).Elem())
			}
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

func newRequest(ctx context.Context, operation string, in any, options []Option) (caller.Request, error) {
	request := caller.Request{Operation: operation, Trace: caller.TraceOf(ctx)}
	if in != nil {
		arguments, attachments, err := codec.Encode(in)
		if err != nil {
			return request, err
		}
		if kind := jsonscan.Kind(arguments); kind != "object" {
			return request, wire.Errorf(wire.InvalidArgument, "arguments are an object, by name, not %s", kind)
		}
		request.Arguments, request.Attachments = arguments, attachments
	}
	for _, option := range options {
		option(&request)
	}
	return request, nil
}

func decode(reply caller.Reply, into reflect.Value) error {
	plan, err := codec.For(into.Type())
	if err != nil {
		return wire.Errorf(wire.InvalidArgument, "%v", err)
	}
	return plan.Decode(reply.Value, reply.Attachments, into)
}

// handler is the client as its connection sees it.
type handler Client

func (h *handler) Receive(conn *wire.Conn, message wire.Message, body []byte) {
	switch m := message.(type) {
	case *wire.Welcome:
		(*Client)(h).settle(nil)
	case *wire.Call:
		_ = conn.Send(wire.Failure(m.ID, wire.Errorf(wire.Unimplemented, "this side is a client: it serves no unit")))
	default:
		h.caller.Handle(message, body)
	}
}

func (h *handler) Closed(_ *wire.Conn, err error) { (*Client)(h).lost(err) }

func (c *Client) lost(err error) {
	c.caller.Fail(err)
	if err == nil {
		err = wire.Errorf(wire.Unavailable, "the host hung up")
	}
	c.settle(err)
}

// settle ends the handshake, once.
func (c *Client) settle(err error) {
	c.once.Do(func() { c.welcomed <- err })
}
