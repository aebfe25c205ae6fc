package unit_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"smol.local/smol/unit"
	"smol.local/smol/wire"
)

// lonely is a host by hand: it keeps what a unit says.
type lonely struct {
	conn   *wire.Conn
	heard  chan wire.Message
	closed chan error
}

func (l *lonely) Receive(_ *wire.Conn, message wire.Message, _ []byte) { l.heard <- message }
func (l *lonely) Closed(_ *wire.Conn, err error)                       { l.closed <- err }

// next returns the next message of a kind.
func (l *lonely) next(t *testing.T, kind wire.Kind) wire.Message {
	t.Helper()
	for {
		select {
		case message := <-l.heard:
			if message.Kind() == kind {
				return message
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no %s came", kind)
		}
	}
}

// run runs a unit with a host by hand. ended is told what Run returns.
func run(t *testing.T, u *unit.Unit, spec unit.Spec) (host *lonely, ended chan error) {
	ours, theirs := net.Pipe()
	host = &lonely{heard: make(chan wire.Message, 100), closed: make(chan error, 1)}
	host.conn = wire.NewConn(ours, wire.Host, wire.DefaultLimits, host)
	go host.conn.Run()
	ended = make(chan error, 1)
	spec.Name, spec.LogLevel = "probe", "error"
	go func() { ended <- u.Run(context.Background(), theirs, spec) }()
	t.Cleanup(host.conn.Close)
	return host, ended
}

func (l *lonely) welcome(t *testing.T) *wire.Hello {
	t.Helper()
	hello := l.next(t, wire.KindHello).(*wire.Hello)
	if err := l.conn.Send(&wire.Welcome{Protocol: wire.ProtocolVersion}); err != nil {
		t.Fatal(err)
	}
	return hello
}

func within(t *testing.T, ended chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("it did not end")
	}
	return nil
}

func TestAWorkerThatDrainsFinishesWhatItHasAndTakesNoMore(t *testing.T) {
	u, p := newProbe()
	host, ended := run(t, u, unit.Spec{})
	host.welcome(t)
	_ = host.conn.Send(&wire.Call{ID: 1, Operation: "probe.sleep", Arguments: wire.Raw(`{"seconds":0.2}`)})
	_ = host.conn.Send(&wire.Drain{})
	_ = host.conn.Send(&wire.Call{ID: 2, Operation: "probe.echo", Arguments: wire.Raw(`{"text":"x"}`)})
	if refused := host.next(t, wire.KindError).(*wire.ErrorMessage); refused.ID != 2 || refused.Code != wire.Unavailable {
		t.Errorf("%+v", refused)
	}
	if result := host.next(t, wire.KindResult).(*wire.Result); result.ID != 1 || string(result.Value) != `"slept"` {
		t.Errorf("%+v", result)
	}
	if err := within(t, ended); err != nil || !p.closed.Load() {
		t.Error(err)
	}
}

func TestAWorkerWhoseHostGoesEndsAndCancelsItsCalls(t *testing.T) {
	u, p := newProbe()
	host, ended := run(t, u, unit.Spec{})
	host.welcome(t)
	_ = host.conn.Send(&wire.Call{ID: 1, Operation: "probe.sleep", Arguments: wire.Raw(`{"seconds":60}`)})
	_ = host.conn.Send(&wire.Call{ID: 2, Operation: "probe.echo", Arguments: wire.Raw(`{"text":"x"}`)})
	host.next(t, wire.KindResult)
	host.conn.Close()
	if err := within(t, ended); err != nil || p.stopped.Load() != 1 || !p.closed.Load() {
		t.Errorf("%v, %d stopped", err, p.stopped.Load())
	}
}

func TestADescriptionIsGivenWithoutGettingReady(t *testing.T) {
	u, _ := newProbe()
	host, ended := run(t, u, unit.Spec{DescribeOnly: true, Settings: wire.Raw(`{"refuse":true}`)})
	hello := host.welcome(t)
	if len(hello.Units) != 1 || hello.Units[0].Name != "probe" || len(hello.Units[0].Operations[0].Input) == 0 {
		t.Errorf("%+v", hello)
	}
	host.conn.Close()
	_ = within(t, ended)
	host, ended = run(t, u, unit.Spec{})
	if hello := host.welcome(t); len(hello.Units[0].Operations[0].Input) != 0 {
		t.Error("schemas are said where nobody asked for them")
	}
	host.conn.Close()
	_ = within(t, ended)
}

type server struct {
	err   error
	panic bool
	slow  bool
}

func (s *server) Serve(ctx context.Context) error {
	if s.panic {
		panic("on purpose")
	}
	if s.err == nil {
		<-ctx.Done()
	}
	return s.err
}

func (s *server) Provision(ctx context.Context) error {
	if s.slow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func TestAServiceThatStopsEndsItsWorkerWithTheReason(t *testing.T) {
	for told, life := range map[string]*server{"no port left": {err: errors.New("no port left")}, "on purpose": {panic: true}} {
		host, ended := run(t, unit.New("", life), unit.Spec{})
		host.welcome(t)
		farewell := host.next(t, wire.KindError).(*wire.ErrorMessage)
		if farewell.ID != 0 || !strings.Contains(farewell.Message, told) {
			t.Errorf("%+v", farewell)
		}
		if err := within(t, ended); !errors.Is(err, wire.Internal) {
			t.Error(err)
		}
	}
	host, ended := run(t, unit.New("", &server{}), unit.Spec{})
	host.welcome(t)
	_ = host.conn.Send(&wire.Drain{})
	if err := within(t, ended); err != nil {
		t.Error(err)
	}
}

func TestAUnitThatGetsReadyStopsWhenItsHostGoes(t *testing.T) {
	host, ended := run(t, unit.New("", &server{slow: true}), unit.Spec{})
	time.Sleep(10 * time.Millisecond)
	host.conn.Close()
	if err := within(t, ended); !errors.Is(err, wire.Unavailable) {
		t.Error(err)
	}
}

func TestAStreamSendsNoMoreThanItsCredit(t *testing.T) {
	u, _ := newProbe()
	host, _ := run(t, u, unit.Spec{})
	host.welcome(t)
	_ = host.conn.Send(&wire.Call{ID: 1, Operation: "probe.count", Arguments: wire.Raw(`{"items":10}`), Credit: 2})
	for range 2 {
		host.next(t, wire.KindItem)
	}
	select {
	case message := <-host.heard:
		t.Errorf("%+v came without credit", message)
	case <-time.After(50 * time.Millisecond):
	}
	_ = host.conn.Send(&wire.Credit{ID: 1, Items: 100})
	for range 8 {
		host.next(t, wire.KindItem)
	}
	host.next(t, wire.KindEnd)
}
