package unit

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"strings"

	"smol.local/smol/internal/caller"
	"smol.local/smol/internal/codec"
	"smol.local/smol/wire"
)

// Errorf makes an error with a status code, which the caller sees: what was wrong, with which value, what to do.
func Errorf(code wire.Code, format string, arguments ...any) *wire.Error {
	return wire.Errorf(code, format, arguments...)
}

// call is what the context of an operation knows of its call, and of the unit that serves it.
type call struct {
	worker *worker
	id     uint64
	key    string
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	found, _ := ctx.Value(callKey{}).(*call)
	return found
}

// Progress tells the caller how far this call has come: 0 to 1, or below 0 when unknown.
func Progress(ctx context.Context, fraction float64, message string) {
	if c := callOf(ctx); c != nil && c.id != 0 && c.worker.conn.Writable() == nil {
		_ = c.worker.conn.Send(&wire.Progress{ID: c.id, Fraction: fraction, Message: message})
	}
}

// Key returns the idempotency key of the call, or nothing.
func Key(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.key
	}
	return ""
}

// Trace returns the W3C traceparent of the call, or nothing.
func Trace(ctx context.Context) string { return caller.TraceOf(ctx) }

// Log returns the unit's logger, which writes to the log of the host.
func Log(ctx context.Context) *slog.Logger {
	if c := callOf(ctx); c != nil {
		return c.worker.log
	}
	return slog.Default()
}

// Publish tells whoever subscribed to UNIT.topic; it waits while the host does not keep up. data is what JSON can
// carry, without attachments.
func Publish(ctx context.Context, topic string, data any) error {
	c := callOf(ctx)
	if c == nil {
		return nil
	}
	encoded, attachments, err := codec.Encode(data)
	if err != nil {
		return err
	}
	if len(attachments) > 0 {
		return wire.Errorf(wire.InvalidArgument, "an event of '%s' with attachments: events carry JSON only", topic)
	}
	for full := c.worker.conn.Writable(); full != nil; full = c.worker.conn.Writable() {
		select {
		case <-full:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.worker.conn.Send(&wire.Publish{Topic: c.worker.spec.Name + "." + topic, Data: encoded})
}

// Settings decodes the unit's table [units.NAME] of smol.toml into a struct, whose tags are those of operations.
// It fails for a key that the struct does not have.
func Settings(ctx context.Context, into any) error {
	value := reflect.ValueOf(into).Elem()
	plan, err := codec.For(value.Type())
	if err != nil {
		return err
	}
	var settings wire.Raw
	if c := callOf(ctx); c != nil {
		settings = c.worker.spec.Settings
	}
	if err := plan.DecodeArguments(settings, nil, value); err != nil {
		said := strings.ReplaceAll(wire.AsError(err).Message, "argument", "key")
		return wire.Errorf(wire.FailedPrecondition, "[units.%s] in smol.toml: %s", nameOf(ctx), said)
	}
	return nil
}

func nameOf(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.worker.spec.Name
	}
	return "NAME"
}

// DataDir returns the unit's directory for what must be kept; it is made on first use.
func DataDir(ctx context.Context) (string, error) {
	return directory(ctx, func(spec *Spec) string { return spec.DataDir })
}

// CacheDir returns a directory shared by all units for what may be lost and made again.
func CacheDir(ctx context.Context) (string, error) {
	return directory(ctx, func(spec *Spec) string { return spec.CacheDir })
}

func directory(ctx context.Context, of func(spec *Spec) string) (string, error) {
	c := callOf(ctx)
	if c == nil || of(&c.worker.spec) == "" {
		return "", wire.Errorf(wire.FailedPrecondition, "this context is not that of a unit with a directory")
	}
	path := of(&c.worker.spec)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", wire.Errorf(wire.FailedPrecondition, "%v", err)
	}
	return path, nil
}
