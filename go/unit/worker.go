package unit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/internal/caller"
	"smol.local/smol/internal/codec"
	"smol.local/smol/wire"
)

// closeSeconds is how long calls that were cancelled because the worker ends have to clean up.
const closeSeconds = 1

// largeBytes is a body whose memory is given back once no call needs it, rather than when Go would come to it.
const largeBytes = 4 << 20

// Spec is what a worker is told by its host.
type Spec struct {
	Name         string // of the unit
	Version      string
	DataDir      string
	CacheDir     string
	Settings     wire.Raw // the unit's table of smol.toml, as JSON
	DescribeOnly bool     // say what the unit offers, without getting ready
	LogFormat    string   // text or json
	LogLevel     string
}

// worker serves one unit over one connection.
type worker struct {
	unit   *Unit
	spec   Spec
	log    *slog.Logger
	conn   *wire.Conn
	caller *caller.Caller
	base   context.Context // of everything; ends with the connection
	stop   context.CancelFunc

	welcomed chan struct{}
	finished chan struct{}

	mu       sync.Mutex
	serving  map[uint64]*serving
	draining bool
	large    bool // a call had a large body since memory was given back
	done     bool
	err      error
	calls    sync.WaitGroup
}

// serving is a call in progress.
type serving struct {
	cancel context.CancelFunc
	credit chan struct{} // holds at most one sign that items may be sent
}

// Run serves the unit over a stream whose other end is a host, until told to stop. Most units use [Unit.Main].
func (u *Unit) Run(ctx context.Context, stream net.Conn, spec Spec) error {
	w := &worker{
		unit: u, spec: spec, log: newLogger(spec), serving: map[uint64]*serving{},
		welcomed: make(chan struct{}), finished: make(chan struct{}),
	}
	w.base, w.stop = context.WithCancel(ctx)
	w.conn = wire.NewConn(stream, wire.Peer, wire.DefaultLimits, w)
	w.caller = caller.New(w.conn)
	w.base = context.WithValue(client.NewContext(w.base, client.FromCaller(w.caller)), callKey{}, &call{worker: w})
	go w.conn.Run()
	err := w.live()
	if err != nil && !errors.Is(err, errHostGone) {
		w.conn.Refuse(wire.AsError(err))
	}
	w.close()
	<-w.conn.Done()
	return err
}

var errHostGone = wire.Errorf(wire.Unavailable, "the host went away before the unit was ready")

// live gets the unit ready and serves it to the end.
func (w *worker) live() error {
	if w.unit.problem != nil {
		return w.unit.problem
	}
	if !w.spec.DescribeOnly {
		if err := w.prepare(); err != nil {
			return err
		}
	}
	hello := &wire.Hello{
		Protocol: wire.ProtocolVersion, Name: w.spec.Name,
		Units: []wire.UnitDescription{w.unit.describe(w.spec.Name, w.spec.Version, w.spec.DescribeOnly)},
	}
	if err := w.conn.Send(hello); err != nil {
		return err
	}
	select {
	case <-w.welcomed:
	case <-w.finished:
		return w.failure()
	}
	if server, is := w.unit.life.(Server); is && !w.spec.DescribeOnly {
		w.calls.Add(1)
		go w.serve(server)
	}
	<-w.finished
	return w.failure()
}

func (w *worker) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// finish ends the worker, once.
func (w *worker) finish(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.done, w.err = true, err
		close(w.finished)
	}
}

func (w *worker) prepare() error {
	ready := make(chan error, 1)
	go func() { ready <- guard(func() error { return w.provision() }) }()
	select {
	case err := <-ready:
		return err
	case <-w.finished:
		w.stop()
		select {
		case <-ready:
		case <-time.After(closeSeconds * time.Second):
		}
		return errHostGone
	}
}

func (w *worker) provision() error {
	if provisioner, is := w.unit.life.(Provisioner); is {
		if err := provisioner.Provision(w.base); err != nil {
			return err
		}
	}
	if validator, is := w.unit.life.(Validator); is {
		return validator.Validate()
	}
	return nil
}

func (w *worker) serve(server Server) {
	defer w.calls.Done()
	err := guard(func() error { return server.Serve(w.base) })
	if err != nil && w.base.Err() == nil {
		w.log.Error("serve failed", "error", err)
		w.finish(wire.Errorf(wire.Internal, "the unit stopped serving: %v", err))
	}
}

// close cancels what still runs, gives it a moment, and releases what the unit took.
func (w *worker) close() {
	w.stop()
	ended := make(chan struct{})
	go func() { w.calls.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(closeSeconds * time.Second):
		w.log.Warn("calls did not stop when they were cancelled; they are left behind")
	}
	if closer, is := w.unit.life.(Closer); is && !w.spec.DescribeOnly {
		if err := guard(closer.Close); err != nil {
			w.log.Error("close failed", "error", err)
		}
	}
	w.conn.Close()
}

// guard turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", problem, debug.Stack())
			err = wire.Errorf(wire.Internal, "panic: %v", problem)
		}
	}()
	return f()
}

// Receive implements [wire.Handler].
func (w *worker) Receive(_ *wire.Conn, message wire.Message, body []byte) {
	switch m := message.(type) {
	case *wire.Call:
		w.begin(m, body)
	case *wire.Cancel:
		if found := w.find(m.ID); found != nil {
			found.cancel()
		}
	case *wire.Credit:
		if found := w.find(m.ID); found != nil {
			select {
			case found.credit <- struct{}{}:
			default:
			}
		}
	case *wire.Welcome:
		close(w.welcomed)
	case *wire.Drain:
		w.mu.Lock()
		w.draining = true
		idle := len(w.serving) == 0
		w.mu.Unlock()
		if idle {
			w.finish(nil)
		}
	default:
		w.caller.Handle(message, body)
	}
}

// Closed implements [wire.Handler].
func (w *worker) Closed(_ *wire.Conn, err error) {
	w.caller.Fail(err)
	w.finish(err)
	w.stop()
}

func (w *worker) find(id uint64) *serving {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serving[id]
}

func (w *worker) begin(m *wire.Call, body []byte) {
	w.mu.Lock()
	refused := w.draining || w.done
	if refused {
		w.mu.Unlock()
		_ = w.conn.Send(wire.Failure(m.ID, wire.Errorf(wire.Unavailable, "the worker is draining: try again in a moment")))
		return
	}
	ctx, cancel := w.base, context.CancelFunc(nil)
	if m.BudgetMS > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(min(m.BudgetMS, 1<<40))*time.Millisecond)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	entry := &serving{cancel: cancel, credit: make(chan struct{}, 1)}
	w.serving[m.ID] = entry
	w.calls.Add(1)
	w.mu.Unlock()
	go w.answer(ctx, m, body, entry)
}

func (w *worker) answer(ctx context.Context, m *wire.Call, body []byte, entry *serving) {
	defer w.calls.Done()
	defer entry.cancel()
	ctx = context.WithValue(caller.WithTrace(ctx, m.Trace), callKey{}, &call{worker: w, id: m.ID, key: m.Key})
	err := guard(func() error { return w.run(ctx, m, body, entry) })
	if err != nil {
		failure := wire.AsError(err)
		if failure.Code == wire.Internal {
			w.log.Error("a call failed", "operation", m.Operation, "error", err)
		}
		_ = w.conn.Send(wire.Failure(m.ID, failure))
	}
	w.mu.Lock()
	delete(w.serving, m.ID)
	w.large = w.large || len(body) >= largeBytes
	idle := len(w.serving) == 0
	tidy := idle && w.large
	w.large = w.large && !tidy
	finished := idle && w.draining
	w.mu.Unlock()
	switch {
	case finished:
		w.finish(nil)
	case tidy:
		if full := w.conn.Writable(); full != nil {
			<-full // Until then the answer itself is in memory.
		}
		debug.FreeOSMemory()
	}
}

// run serves a call up to its last answer, or returns the error to be answered.
func (w *worker) run(ctx context.Context, m *wire.Call, body []byte, entry *serving) error {
	name, found := strings.CutPrefix(m.Operation, w.spec.Name+".")
	if !found {
		return wire.Errorf(wire.NotFound, "no operation '%.80s': this worker serves '%s'", m.Operation, w.spec.Name)
	}
	operation, err := w.unit.find(name)
	if err != nil {
		return err
	}
	if operation.Streaming && m.Credit == 0 {
		return wire.Errorf(wire.InvalidArgument, "%s is a stream: call it as one", m.Operation)
	}
	in := reflect.New(operation.in).Elem()
	if err := operation.input.DecodeArguments(m.Arguments, wire.SplitBody(m.Attachments, body), in); err != nil {
		return err
	}
	if operation.Streaming {
		return w.stream(ctx, m, operation, in, entry)
	}
	out, err := operation.run(ctx, in)
	if err != nil {
		return err
	}
	if operation.output == nil {
		out = nil
	}
	value, headers, parts, err := encode(m.Operation, out)
	if err != nil {
		return err
	}
	return w.send(&wire.Result{ID: m.ID, Value: value, Attachments: headers}, parts)
}

func (w *worker) stream(ctx context.Context, m *wire.Call, operation *operation, in reflect.Value, entry *serving) error {
	var failure error
	operation.stream(ctx, in, func(item any, err error) bool {
		if failure = err; failure == nil {
			failure = w.sendItem(ctx, m, item, entry)
		}
		return failure == nil
	})
	if failure == nil {
		failure = ctx.Err()
	}
	if failure != nil {
		return failure
	}
	return w.send(&wire.End{ID: m.ID}, nil)
}

// sendItem waits until the caller takes an item, and sends it.
func (w *worker) sendItem(ctx context.Context, m *wire.Call, item any, entry *serving) error {
	value, headers, parts, err := encode(m.Operation, item)
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		items, open := w.conn.CreditOf(m.ID)
		if !open {
			return wire.Errorf(wire.Unavailable, "the caller is gone")
		}
		wait, full := (<-chan struct{})(entry.credit), w.conn.Writable()
		if items > 0 && full == nil {
			return w.send(&wire.Item{ID: m.ID, Value: value, Attachments: headers}, parts)
		}
		if items > 0 {
			wait = full
		}
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

// send sends an answer. One that can't be of use any more, since the call or the connection is gone, is dropped.
func (w *worker) send(message wire.Message, parts [][]byte) error {
	err := w.conn.Send(message, parts...)
	if errors.Is(err, wire.Unavailable) || errors.Is(err, wire.FailedPrecondition) {
		return nil
	}
	return err
}

func encode(operation string, value any) (wire.Raw, []wire.AttachmentHeader, [][]byte, error) {
	data, attachments, err := codec.Encode(value)
	if err == nil {
		headers, parts, problem := wire.JoinBody(attachments)
		if problem == nil {
			return data, headers, parts, nil
		}
		err = problem
	}
	return nil, nil, nil, wire.Errorf(wire.Internal, "%s returned what can't be sent: %s", operation, wire.AsError(err).Message)
}
