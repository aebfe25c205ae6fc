package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// copyBytes is the size up to which a body is copied behind its header, to leave in one system call.
	copyBytes = 16 * 1024
	// highWaterBytes is how much may wait to be written before a stream pauses.
	highWaterBytes = 1 << 20
	// lingerSeconds is how long whoever is hung up on has to read what was sent to it before.
	lingerSeconds = 5
)

// Handler is told what comes in over a connection, in order, by the goroutine that reads: it must not block,
// and above all not wait for an answer over the same connection.
type Handler interface {
	// Receive is given a legal message; pings and unknown types have been answered already.
	Receive(conn *Conn, message Message, body []byte)
	// Closed is told once, and nothing follows. A nil error means an orderly end.
	Closed(conn *Conn, err error)
}

// Conn is one end of a connection: a session over a stream. It sends refusals where the protocol asks for
// them and tells its handler the rest. It does not reconnect, retry or interpret calls.
//
// It always reads, and sending never blocks: what the other side does not read yet is kept.
type Conn struct {
	stream  net.Conn
	raw     syscall.RawConn // nil: writes that must not block go through a goroutine
	handler Handler
	reader  *Reader

	mu       sync.Mutex
	session  *Session
	queue    [][]byte // what waits to be written
	queued   int
	writing  bool
	tail     []byte        // the last buffer of the queue, if more may be appended to it
	drained  chan struct{} // closed when less than highWaterBytes wait; nil while nobody waits for it
	hungUp   bool          // nothing more is read or sent
	broken   bool          // nothing can be written any more
	ended    bool          // the stream is closed
	err      error         // why
	released chan struct{}
}

// NewConn makes a connection over a stream, which it then owns. Nothing happens before [Conn.Run].
func NewConn(stream net.Conn, role Role, limits Limits, handler Handler) *Conn {
	c := &Conn{
		stream: stream, handler: handler, reader: NewReader(stream, limits),
		session: NewSession(role, limits), released: make(chan struct{}),
	}
	if raw, ok := stream.(syscall.Conn); ok {
		c.raw, _ = raw.SyscallConn()
	}
	return c
}

// Run reads until the end of the connection, which it then tells the handler of.
func (c *Conn) Run() {
	err := c.read()
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	err = c.err
	if !c.hungUp { // Else what was sent before is still being written.
		c.hungUp = true
		c.endLocked()
	}
	c.session.state = Closed
	c.mu.Unlock()
	if err == io.EOF {
		err = nil
	}
	c.handler.Closed(c, err)
	close(c.released)
}

// Done is closed once the handler has been told of the end.
func (c *Conn) Done() <-chan struct{} { return c.released }

// read takes frames until the end; io.EOF is an orderly one.
func (c *Conn) read() error {
	for {
		frame, err := c.reader.Next()
		if err != nil {
			return c.readFailed(err)
		}
		if err := c.receive(&frame); err != nil {
			return err
		}
	}
}

func (c *Conn) readFailed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var problem *Error
	switch {
	case errors.As(err, &problem):
		c.refuseLocked(problem)
		return problem
	case err == io.EOF || c.hungUp:
		return io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Errorf(Unavailable, "the connection broke in mid-frame")
	}
	return Errorf(Unavailable, "the connection broke: %v", err)
}

// receive handles one frame; an error ends the connection.
func (c *Conn) receive(frame *Frame) error {
	c.mu.Lock()
	if c.session.state == Closed {
		c.mu.Unlock()
		return io.EOF
	}
	var message Message
	var problem *Error
	var err error
	if frame.Discarded > 0 {
		message, problem, err = c.session.Oversized(frame)
	} else {
		message, err = c.session.Receive(frame)
	}
	if err != nil {
		refusal := AsError(err)
		c.refuseLocked(refusal)
		c.mu.Unlock()
		return refusal
	}
	switch m := message.(type) {
	case nil:
	case *Ping:
		_ = c.sendLocked(&Pong{m.Nonce}, nil)
		message = nil
	case *Unknown:
		_ = c.sendLocked(Failure(uint64(m.ID), Errorf(Unimplemented, "unknown message type '%.80s'", m.Type)), nil)
		message = nil
	case *Call:
		if problem != nil {
			_ = c.sendLocked(Failure(m.ID, problem), nil)
			message = nil
		}
	case *ErrorMessage:
		if frame.Discarded > 0 && c.session.InFlight(m.ID) {
			_ = c.sendLocked(&Cancel{ID: m.ID}, nil)
		}
	}
	closed := c.session.state == Closed
	c.flushLocked()
	c.mu.Unlock()
	if message != nil {
		c.handler.Receive(c, message, frame.Body)
	}
	if farewell, is := message.(*ErrorMessage); is && closed {
		c.Close()
		return farewell.Error()
	}
	return nil
}

// Send sends a message with the parts of its body. It fails with what [Session.AppendSend] says, or with
// UNAVAILABLE when the connection is gone. The parts must not be changed before the call has ended.
func (c *Conn) Send(message Message, body ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.sendLocked(message, body); err != nil {
		return err
	}
	c.flushLocked()
	return nil
}

// NextID returns a fresh id for a call.
func (c *Conn) NextID() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.NextID()
}

// InFlight reports whether a call of this side waits for its answer.
func (c *Conn) InFlight(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.InFlight(id)
}

// CreditOf is [Session.CreditOf].
func (c *Conn) CreditOf(id uint64) (items int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.CreditOf(id)
}

// Writable returns a channel that is closed once the other side keeps up with what is sent to it; nil if it does.
func (c *Conn) Writable() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued < highWaterBytes || c.ended {
		return nil
	}
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	return c.drained
}

// Close hangs up once everything sent has been written, or the other side took too long to read it.
func (c *Conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked()
}

// Refuse says why the connection ends, and hangs up.
func (c *Conn) Refuse(err *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hungUp {
		c.refuseLocked(err)
	}
}

func (c *Conn) refuseLocked(err *Error) {
	if c.err == nil {
		c.err = err
	}
	c.enqueue(c.session.Refuse(nil, err))
	c.closeLocked()
}

func (c *Conn) closeLocked() {
	if c.hungUp {
		return
	}
	c.hungUp = true
	c.session.state = Closed
	c.flushLocked()
	if len(c.queue) == 0 && !c.writing {
		c.endLocked()
		return
	}
	time.AfterFunc(lingerSeconds*time.Second, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.endLocked()
	})
}

func (c *Conn) endLocked() {
	if !c.ended {
		c.ended = true
		c.queue, c.tail, c.queued = nil, nil, 0
		c.releaseLocked()
		_ = c.stream.Close()
	}
}

// breakLocked: the other side takes nothing more. What it said last may still be read, a reason above all.
func (c *Conn) breakLocked() {
	c.broken = true
	c.queue, c.tail, c.queued = nil, nil, 0
	c.releaseLocked()
	_ = c.stream.SetReadDeadline(time.Now().Add(lingerSeconds * time.Second))
}

func (c *Conn) releaseLocked() {
	if c.drained != nil && (c.queued < highWaterBytes || c.ended) {
		close(c.drained)
		c.drained = nil
	}
}

func (c *Conn) sendLocked(message Message, body [][]byte) error {
	if c.hungUp || c.ended || c.broken {
		if c.err != nil && c.err != io.EOF {
			return Errorf(Unavailable, "the connection is closed: %v", c.err)
		}
		return Errorf(Unavailable, "the connection is closed")
	}
	var bodyBytes int64
	for _, part := range body {
		bodyBytes += int64(len(part))
	}
	before := len(c.tail)
	frame, err := c.session.AppendSend(c.tail, message, bodyBytes)
	if err != nil {
		return err
	}
	if c.tail == nil {
		c.queue = append(c.queue, nil)
	}
	if bodyBytes <= copyBytes {
		for _, part := range body {
			frame = append(frame, part...)
		}
		body = nil
	}
	c.queue[len(c.queue)-1], c.tail = frame, frame
	c.queued += len(frame) - before
	for _, part := range body {
		if len(part) > 0 {
			c.enqueue(part)
		}
	}
	return nil
}

// enqueue appends a buffer that is not to be changed.
func (c *Conn) enqueue(buffer []byte) {
	c.queue = append(c.queue, buffer)
	c.queued += len(buffer)
	c.tail = nil
}

// flushLocked writes what it can without blocking, and leaves the rest to a goroutine.
func (c *Conn) flushLocked() {
	if c.writing || len(c.queue) == 0 || c.ended {
		return
	}
	c.tail = nil
	if c.raw != nil {
		c.writeNow()
	}
	if len(c.queue) > 0 && !c.ended {
		c.writing = true
		go c.writeRest()
	}
}

// writeNow writes until the system takes no more.
func (c *Conn) writeNow() {
	_ = c.raw.Write(func(descriptor uintptr) bool {
		for len(c.queue) > 0 {
			n, err := syscall.Write(int(descriptor), c.queue[0])
			if err == syscall.EINTR {
				continue
			}
			if err != nil {
				return true // Whatever it is, the goroutine that writes the rest meets it too.
			}
			c.queued -= n
			if c.queue[0] = c.queue[0][n:]; len(c.queue[0]) == 0 {
				c.queue[0] = nil
				c.queue = c.queue[1:]
			}
		}
		c.queue = nil
		return true
	})
	c.releaseLocked()
}

// writeRest writes until nothing waits any more.
func (c *Conn) writeRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && !c.ended {
		buffers := net.Buffers(c.queue)
		size := c.queued
		c.queue, c.tail = nil, nil
		c.mu.Unlock()
		_, err := buffers.WriteTo(c.stream)
		c.mu.Lock()
		if err != nil {
			c.breakLocked()
			break
		}
		if !c.ended {
			c.queued -= size
			c.releaseLocked()
		}
	}
	c.writing = false
	if c.hungUp {
		c.endLocked()
	}
}
