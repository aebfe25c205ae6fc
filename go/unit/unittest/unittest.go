// Package unittest serves a unit to a client within a test, over the wire but without a host process.
package unittest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

// Serve runs a unit under a name and returns a client that can call it until the test ends. Calls of the unit to
// other units fail with NOT_FOUND; those to itself arrive. settings is its table of smol.toml as JSON, or empty.
func Serve(t testing.TB, name string, u *unit.Unit, settings string) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	spec := unit.Spec{
		Name: name, DataDir: t.TempDir(), CacheDir: t.TempDir(), Settings: wire.Raw(settings), LogLevel: "error",
	}
	between := newRelay()
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx, between.worker.peer, spec) }()
	select {
	case <-between.worker.greeted:
	case <-between.worker.gone:
		t.Fatalf("the unit did not get ready: %v", <-ended)
	}
	made, err := client.Over(ctx, between.client.peer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = between.worker.conn.Send(&wire.Drain{})
		made.Close()
		between.client.conn.Close()
		if err := <-ended; err != nil {
			t.Errorf("the unit ended with %v", err)
		}
		between.worker.conn.Close()
	})
	return made
}

// relay is a host that knows one worker and one client.
type relay struct {
	worker, client *side

	mu      sync.Mutex
	answers map[*side]map[uint64]origin // of calls that were passed on
	passed  map[*side]map[uint64]uint64 // from a caller's id to that of the worker
}

type origin struct {
	from *side
	id   uint64
}

// side is one of the two connections.
type side struct {
	relay   *relay
	conn    *wire.Conn
	peer    net.Conn
	greeted chan struct{}
	gone    chan struct{}
}

func newRelay() *relay {
	r := &relay{answers: map[*side]map[uint64]origin{}, passed: map[*side]map[uint64]uint64{}}
	for _, to := range []**side{&r.worker, &r.client} {
		ours, theirs := net.Pipe()
		s := &side{relay: r, peer: theirs, greeted: make(chan struct{}), gone: make(chan struct{})}
		s.conn = wire.NewConn(ours, wire.Host, wire.DefaultLimits, s)
		r.answers[s], r.passed[s] = map[uint64]origin{}, map[uint64]uint64{}
		*to = s
		go s.conn.Run()
	}
	return r
}

// Closed implements [wire.Handler].
func (s *side) Closed(*wire.Conn, error) { close(s.gone) }

// Receive implements [wire.Handler].
func (s *side) Receive(_ *wire.Conn, message wire.Message, body []byte) {
	r := s.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := message.(type) {
	case *wire.Hello:
		_ = s.conn.Send(&wire.Welcome{Protocol: wire.ProtocolVersion, Name: "test"})
		close(s.greeted)
	case *wire.Call:
		onward := *m
		onward.ID = r.worker.conn.NextID()
		r.answers[r.worker][onward.ID] = origin{s, m.ID}
		r.passed[s][m.ID] = onward.ID
		if err := r.worker.conn.Send(&onward, body); err != nil {
			_ = s.conn.Send(wire.Failure(m.ID, wire.AsError(err)))
		}
	case *wire.Cancel:
		if id, known := r.passed[s][m.ID]; known && r.worker.conn.InFlight(id) {
			_ = r.worker.conn.Send(&wire.Cancel{ID: id, Reason: m.Reason})
		}
	case *wire.Credit:
		if id, known := r.passed[s][m.ID]; known && r.worker.conn.InFlight(id) {
			_ = r.worker.conn.Send(&wire.Credit{ID: id, Items: m.Items})
		}
	case *wire.Result:
		r.back(s, m.ID, func(id uint64) wire.Message { return &wire.Result{ID: id, Value: m.Value, Attachments: m.Attachments} }, body)
	case *wire.Item:
		to := r.answers[s][m.ID]
		_ = to.from.conn.Send(&wire.Item{ID: to.id, Value: m.Value, Attachments: m.Attachments}, body)
	case *wire.Progress:
		to := r.answers[s][m.ID]
		_ = to.from.conn.Send(&wire.Progress{ID: to.id, Fraction: m.Fraction, Message: m.Message})
	case *wire.ErrorMessage:
		if m.ID != 0 {
			r.back(s, m.ID, func(id uint64) wire.Message { return wire.Failure(id, m.Error()) }, nil)
		}
	case *wire.End:
		r.back(s, m.ID, func(id uint64) wire.Message { return &wire.End{ID: id} }, nil)
	}
}

// back passes a last answer on to whoever called.
func (r *relay) back(s *side, id uint64, answer func(id uint64) wire.Message, body []byte) {
	to, known := r.answers[s][id]
	if !known {
		return
	}
	delete(r.answers[s], id)
	delete(r.passed[to.from], to.id)
	_ = to.from.conn.Send(answer(to.id), body)
}
