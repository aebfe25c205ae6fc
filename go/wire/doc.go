// Package wire is the protocol of Smol: frames, messages, sessions and limits, and connections that
// speak it. docs/reference/wire.md is normative; the golden vectors in tests/wire hold for this
// package as for every other implementation.
//
// Most programs want [smol.local/smol/client] to call units, or [smol.local/smol/unit] to write one.
package wire
