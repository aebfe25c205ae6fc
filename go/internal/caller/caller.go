// Package caller keeps the calls in flight on one connection: what was asked and who waits for it. Clients and
// workers that call other units share it. It never retries.
package caller

import (
	"context"
	"iter"
	"sync"
	"time"

	"smol.local/smol/wire"
)

const (
	streamCredit = 8 // items on their way at once: enough to hide a round trip, few enough to hold in memory
	creditBatch  = 4 // items taken before the credit for them is given back, in one message
	eventsKept   = 256

	// DefaultSeconds is the deadline of a call whose context has none.
	DefaultSeconds = 60
)

// Reply is a result, or one item of a stream.
type Reply struct {
	Value       wire.Raw
	Attachments []*wire.Attachment
}

// Request is what to call. Trace and Key may be empty, OnProgress nil.
type Request struct {
	Operation   string
	Arguments   wire.Raw
	Attachments []*wire.Attachment
	Trace       string
	Key         string
	OnProgress  func(fraction float64, message string)
}

// Event is something that happened. Dropped is how many events were lost just before it.
type Event struct {
	Topic   string
	Data    wire.Raw
	Dropped uint64
}

// Caller makes calls over a connection, whose handler passes it the answers.
type Caller struct {
	conn *wire.Conn

	mu      sync.Mutex
	waiting map[uint64]*inbox
	failure *wire.Error
}

// New makes calls over conn.
func New(conn *wire.Conn) *Caller {
	return &Caller{conn: conn, waiting: map[uint64]*inbox{}}
}

// Call makes a call and waits for its one answer. When the context ends first, the call is cancelled.
func (c *Caller) Call(ctx context.Context, request Request) (Reply, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	id, box, err := c.begin(ctx, request, 0)
	if err != nil {
		return Reply{}, err
	}
	for {
		box.mu.Lock()
		replies, ended, failure := box.replies, box.ended, box.err
		box.mu.Unlock()
		switch {
		case len(replies) > 0:
			return replies[0], nil
		case failure != nil:
			return Reply{}, failure
		case ended:
			return Reply{}, wire.Errorf(wire.InvalidArgument, "%s is a stream: call it as one", request.Operation)
		}
		select {
		case <-box.arrived:
		case <-ctx.Done():
			c.abandon(id, &wire.Cancel{ID: id})
			return Reply{}, gaveUp(ctx, request.Operation)
		}
	}
}

// Stream makes a streaming call. Leaving the loop cancels it.
func (c *Caller) Stream(ctx context.Context, request Request) iter.Seq2[Reply, error] {
	return func(yield func(Reply, error) bool) {
		ctx, cancel := withDeadline(ctx)
		defer cancel()
		id, box, err := c.begin(ctx, request, streamCredit)
		if err != nil {
			yield(Reply{}, err)
			return
		}
		defer c.abandon(id, &wire.Cancel{ID: id}) // Of no effect once it has ended.
		taken := uint32(0)
		for {
			box.mu.Lock()
			replies, ended, failure := box.replies, box.ended, box.err
			box.replies = nil
			box.mu.Unlock()
			for _, reply := range replies {
				if !yield(reply, nil) {
					return
				}
				if taken++; taken == creditBatch && !ended {
					_ = c.conn.Send(&wire.Credit{ID: id, Items: taken}) // Fails if the stream has just ended.
					taken = 0
				}
			}
			if len(replies) > 0 {
				continue
			}
			if ended {
				if failure != nil {
					yield(Reply{}, failure)
				}
				return
			}
			select {
			case <-box.arrived:
			case <-ctx.Done():
				yield(Reply{}, gaveUp(ctx, request.Operation))
				return
			}
		}
	}
}

// Subscribe follows a topic until the context ends or the loop is left. The first pair is a zero event, once the
// host has taken the subscription.
func (c *Caller) Subscribe(ctx context.Context, topic string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		id := c.conn.NextID()
		box := newInbox()
		if err := c.register(id, box); err != nil {
			yield(Event{}, err)
			return
		}
		if err := c.conn.Send(&wire.Subscribe{ID: id, Topic: topic}); err != nil {
			c.forget(id)
			yield(Event{}, err)
			return
		}
		defer c.abandon(id, &wire.Unsubscribe{ID: id})
		for {
			box.mu.Lock()
			events, replies, ended, failure := box.events, box.replies, box.ended, box.err
			box.events, box.replies = nil, nil
			box.mu.Unlock()
			if len(replies) > 0 && !yield(Event{}, nil) {
				return
			}
			for _, event := range events {
				if !yield(event, nil) {
					return
				}
			}
			if ended {
				if failure != nil {
					yield(Event{}, failure)
				}
				return
			}
			select {
			case <-box.arrived:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Handle takes an answer to one of our calls. False when the message is something else.
func (c *Caller) Handle(message wire.Message, body []byte) bool {
	switch m := message.(type) {
	case *wire.Result:
		if box := c.find(m.ID); box != nil {
			subscribed := c.conn.InFlight(m.ID) // The acknowledgement of a subscription, which goes on.
			if !subscribed {
				c.forget(m.ID)
			}
			box.put(Reply{m.Value, wire.SplitBody(m.Attachments, body)}, !subscribed)
		}
	case *wire.ErrorMessage:
		if m.ID == 0 {
			return false
		}
		if box := c.forget(m.ID); box != nil {
			box.finish(m.Error())
		}
	case *wire.Item:
		if box := c.find(m.ID); box != nil {
			box.put(Reply{m.Value, wire.SplitBody(m.Attachments, body)}, false)
		}
	case *wire.End:
		if box := c.forget(m.ID); box != nil {
			box.finish(nil)
		}
	case *wire.Event:
		if box := c.find(m.ID); box != nil {
			box.putEvent(Event{m.Topic, m.Data, m.Dropped})
		}
	case *wire.Progress:
		if box := c.find(m.ID); box != nil && box.onProgress != nil {
			box.onProgress(m.Fraction, m.Message)
		}
	default:
		return false
	}
	return true
}

// Fail ends every call with UNAVAILABLE: the connection is gone.
func (c *Caller) Fail(err error) {
	failure := wire.Errorf(wire.Unavailable, "the host hung up")
	if err != nil {
		failure = wire.Errorf(wire.Unavailable, "the connection ended: %v", err)
	}
	c.mu.Lock()
	boxes := c.waiting
	c.waiting, c.failure = map[uint64]*inbox{}, failure
	c.mu.Unlock()
	for _, box := range boxes {
		box.finish(failure)
	}
}

func (c *Caller) begin(ctx context.Context, request Request, credit uint32) (uint64, *inbox, error) {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	if ctx.Err() != nil || left <= 0 {
		return 0, nil, gaveUp(ctx, request.Operation)
	}
	headers, body, err := wire.JoinBody(request.Attachments)
	if err != nil {
		return 0, nil, err
	}
	id := c.conn.NextID()
	box := newInbox()
	box.onProgress = request.OnProgress
	if err := c.register(id, box); err != nil {
		return 0, nil, err
	}
	call := &wire.Call{
		ID: id, Operation: request.Operation, Arguments: request.Arguments, Attachments: headers,
		BudgetMS: uint64(max(1, left.Milliseconds())), Credit: credit, Trace: request.Trace, Key: request.Key,
	}
	if err := c.conn.Send(call, body...); err != nil {
		c.forget(id)
		return 0, nil, err
	}
	return id, box, nil
}

func (c *Caller) register(id uint64, box *inbox) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return c.failure
	}
	c.waiting[id] = box
	return nil
}

func (c *Caller) find(id uint64) *inbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting[id]
}

func (c *Caller) forget(id uint64) *inbox {
	c.mu.Lock()
	defer c.mu.Unlock()
	box := c.waiting[id]
	delete(c.waiting, id)
	return box
}

// abandon tells the other side that nobody waits any more, if it still means anything to it.
func (c *Caller) abandon(id uint64, farewell wire.Message) {
	if c.forget(id) != nil {
		_ = c.conn.Send(farewell)
	}
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, DefaultSeconds*time.Second)
}

func gaveUp(ctx context.Context, operation string) error {
	if ctx.Err() == context.Canceled {
		return wire.Errorf(wire.Cancelled, "%s was cancelled", operation)
	}
	return wire.Errorf(wire.DeadlineExceeded, "%s did not answer before its deadline", operation)
}

type traceKey struct{}

// WithTrace returns a context whose calls carry a W3C traceparent.
func WithTrace(ctx context.Context, trace string) context.Context {
	if trace == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, trace)
}

// TraceOf returns the traceparent of a context, or nothing.
func TraceOf(ctx context.Context) string {
	trace, _ := ctx.Value(traceKey{}).(string)
	return trace
}
