package client_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/wire"
)

// clear unsets what says where a host is.
func clear(t *testing.T) {
	for _, name := range []string{"SMOL_SOCKET", "SMOL_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, "")
	}
}

func TestTheDefaultSocketIsWherePythonPutsIt(t *testing.T) {
	clear(t)
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/5")
	if socket := client.DefaultSocket(); socket != "/run/user/5/smol/smol.sock" {
		t.Error(socket)
	}
	t.Setenv("SMOL_HOME", "/srv/smol")
	if socket := client.DefaultSocket(); socket != "/srv/smol/run/smol.sock" {
		t.Error(socket)
	}
	t.Setenv("SMOL_SOCKET", "here/s")
	if socket := client.DefaultSocket(); !filepath.IsAbs(socket) || !strings.HasSuffix(socket, "/here/s") {
		t.Error(socket)
	}
	clear(t)
	if socket := client.DefaultSocket(); os.Geteuid() == 0 && socket != "/run/smol/smol.sock" {
		t.Error(socket)
	}
}

func TestWithoutAHostItIsSaidHowToStartOne(t *testing.T) {
	clear(t)
	t.Setenv("SMOL_SOCKET", filepath.Join(t.TempDir(), "s"))
	_, err := client.Call[any](context.Background(), "math.evaluate", nil)
	if !errors.Is(err, wire.Unavailable) || !strings.Contains(err.Error(), "smol serve") {
		t.Error(err)
	}
	for _, err := range client.Stream[any](context.Background(), "math.evaluate", nil) {
		if !errors.Is(err, wire.Unavailable) {
			t.Error(err)
		}
	}
}

// host accepts connections that a function deals with.
func host(t *testing.T, deal func(conn net.Conn)) string {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go deal(conn)
		}
	}()
	return path
}

// behaved is a host that welcomes and then does nothing.
type behaved struct{}

func (behaved) Receive(conn *wire.Conn, message wire.Message, _ []byte) {
	if message.Kind() == wire.KindHello {
		_ = conn.Send(&wire.Welcome{Protocol: wire.ProtocolVersion})
	}
}
func (behaved) Closed(*wire.Conn, error) {}

func TestAHostThatMisbehavesIsNotWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		deal func(conn net.Conn)
		code wire.Code
	}{
		"mute":     {func(conn net.Conn) { time.Sleep(5 * time.Second) }, wire.Unavailable},
		"hangs up": {func(conn net.Conn) { conn.Close() }, wire.Unavailable},
		"babbles":  {func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, wire.ResourceExhausted},
		"is newer": {func(conn net.Conn) {
			_, _ = conn.Write([]byte("\x00\x00\x00\x1f\x00\x00\x00\x00" + `{"type":"welcome","protocol":2}`))
		}, wire.Unimplemented},
		"refuses": {func(conn net.Conn) {
			wire.NewConn(conn, wire.Host, wire.DefaultLimits, behaved{}).Refuse(wire.Errorf(wire.ResourceExhausted, "full"))
		}, wire.ResourceExhausted},
		"cut short": {func(conn net.Conn) { _, _ = conn.Write([]byte("\x00\x00")); conn.Close() }, wire.Unavailable},
	} {
		patience := 10 * time.Second
		if name == "mute" {
			patience = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := client.Connect(ctx, host(t, c.deal)); !errors.Is(err, c.code) {
			t.Errorf("%s: %v, not %s", name, err, c.code)
		}
	}
}

func TestCallsFailAtOnceWhenTheHostGoes(t *testing.T) {
	goes := make(chan struct{})
	path := host(t, func(conn net.Conn) {
		go wire.NewConn(conn, wire.Host, wire.DefaultLimits, behaved{}).Run()
		<-goes
		conn.Close()
	})
	c, err := client.Connect(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.AfterFunc(20*time.Millisecond, func() { close(goes) })
	if err := c.Call(context.Background(), "math.evaluate", nil, nil); !errors.Is(err, wire.Unavailable) {
		t.Error(err)
	}
	<-c.Closed()
	if err := c.Call(context.Background(), "math.evaluate", nil, nil); !errors.Is(err, wire.Unavailable) {
		t.Error(err)
	}
}

func TestTheSharedConnectionIsMadeAnew(t *testing.T) {
	clear(t)
	connections := make(chan net.Conn, 10)
	t.Setenv("SMOL_SOCKET", host(t, func(conn net.Conn) {
		connections <- conn
		wire.NewConn(conn, wire.Host, wire.DefaultLimits, behaved{}).Run()
	}))
	for range 2 {
		for end := time.Now().Add(10 * time.Second); ; {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			_, err := client.Call[any](ctx, "math.evaluate", nil)
			cancel()
			if errors.Is(err, wire.DeadlineExceeded) && len(connections) > 0 {
				break // It reached a host, which never answers.
			}
			if time.Now().After(end) { // The end of the connection before may not have been noticed yet.
				t.Fatal(err)
			}
		}
		(<-connections).Close()
	}
}

func TestArgumentsThatCanNotBeSentAreRefusedBeforeTheyAre(t *testing.T) {
	c, err := client.Connect(context.Background(), host(t, func(conn net.Conn) {
		wire.NewConn(conn, wire.Host, wire.DefaultLimits, behaved{}).Run()
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	circle := map[string]any{}
	circle["x"] = circle
	for name, in := range map[string]any{
		"a list": []int{1}, "a number": 5, "bytes": client.Args{"x": []byte("y")}, "a channel": client.Args{"x": make(chan int)}, "a circle": circle,
	} {
		if err := c.Call(context.Background(), "a.b", in, nil); !errors.Is(err, wire.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := client.Args{"x": strings.Repeat("x", 2<<20)}
	if err := c.Call(context.Background(), "a.b", large, nil); !errors.Is(err, wire.ResourceExhausted) {
		t.Error(err)
	}
}
