package wire_test

import (
	"errors"
	"fmt"

	"smol.local/smol/wire"
)

// Errors carry a code, by which programs decide.
func ExampleErrorf() {
	err := fmt.Errorf("while paging: %w", wire.Errorf(wire.NotFound, "no page 9: there are 3").With("pages", 3))
	fmt.Println(errors.Is(err, wire.NotFound), wire.AsError(err).Details["pages"])
	// Output: true 3
}

// A session says what may be sent when; the bytes go wherever bytes go.
func ExampleSession() {
	session := wire.NewSession(wire.Peer, wire.DefaultLimits)
	frame, err := session.AppendSend(nil, &wire.Hello{Protocol: wire.ProtocolVersion, Name: "example"}, 0)
	fmt.Printf("%s %v\n", frame[8:], err)
	_, err = session.AppendSend(nil, &wire.Ping{}, 0)
	fmt.Println(err)
	// Output:
	// {"type":"hello","protocol":1,"name":"example"} <nil>
	// FAILED_PRECONDITION: ping can't be sent by the peer while greeting
}
