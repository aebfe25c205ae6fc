package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"smol.local/smol/internal/jsonscan"
)

// Code is a status code: a canonical name of gRPC. It is an error, so that errors.Is(err, wire.NotFound)
// tells whether err carries it.
type Code string

// The status codes, each with what a caller does about it.
const (
	InvalidArgument    Code = "INVALID_ARGUMENT"    // change the argument
	OutOfRange         Code = "OUT_OF_RANGE"        // stop iterating
	NotFound           Code = "NOT_FOUND"           // use another name
	AlreadyExists      Code = "ALREADY_EXISTS"      // use another name, or what is there
	FailedPrecondition Code = "FAILED_PRECONDITION" // change the system's state first
	Aborted            Code = "ABORTED"             // read again, then try again
	PermissionDenied   Code = "PERMISSION_DENIED"   // ask whoever runs this Smol
	Unauthenticated    Code = "UNAUTHENTICATED"     // send a key
	ResourceExhausted  Code = "RESOURCE_EXHAUSTED"  // wait details.retry_after_ms, or ask for less
	Cancelled          Code = "CANCELLED"           // nothing: it was the caller's wish
	DeadlineExceeded   Code = "DEADLINE_EXCEEDED"   // allow more time
	Unimplemented      Code = "UNIMPLEMENTED"       // use another version
	Unavailable        Code = "UNAVAILABLE"         // try again in a moment
	DataLoss           Code = "DATA_LOSS"           // restore from a copy
	Internal           Code = "INTERNAL"            // report a bug
)

// Codes are all status codes.
var Codes = []Code{
	InvalidArgument, OutOfRange, NotFound, AlreadyExists, FailedPrecondition, Aborted, PermissionDenied,
	Unauthenticated, ResourceExhausted, Cancelled, DeadlineExceeded, Unimplemented, Unavailable, DataLoss, Internal,
}

// Error returns the name of the code.
func (c Code) Error() string { return string(c) }

// Retryable reports whether the same call may succeed later as it is.
func (c Code) Retryable() bool {
	return c == Aborted || c == ResourceExhausted || c == Unavailable
}

// Error is what a call can fail with, on either side of it: what was wrong, with which value, and what to do.
// Details are facts for programs, of JSON types.
type Error struct {
	Code    Code
	Message string
	Details map[string]any
}

// Errorf makes an error with a code.
func Errorf(code Code, format string, arguments ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, arguments...)}
}

// With adds a fact to the details, and returns the error.
func (e *Error) With(name string, value any) *Error {
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	e.Details[name] = value
	return e
}

// Error returns the code and the message.
func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Message
}

// Is makes errors.Is work with codes, and with the errors of package context.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == Cancelled
	case context.DeadlineExceeded:
		return e.Code == DeadlineExceeded
	}
	code, ok := target.(Code)
	return ok && code == e.Code
}

// AsError returns err as an error with a code: those of package context have theirs, what has none is internal.
func AsError(err error) *Error {
	if known := (*Error)(nil); errors.As(err, &known) {
		return known
	}
	if code := Code(""); errors.As(err, &code) {
		return &Error{Code: code, Message: err.Error()}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Errorf(Cancelled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(DeadlineExceeded, "the deadline has passed")
	}
	return &Error{Code: Internal, Message: err.Error()}
}

// Nearest is a hint to append to a message: " (did you mean 'x'?)", or nothing when no known name is near.
func Nearest(name string, known []string) string {
	best, found := len(name)/3+1, ""
	for _, candidate := range known {
		if distance := editDistance(name, candidate); distance < best || (distance == best && found == "") {
			best, found = distance, candidate
		}
	}
	if found == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean '%s'?)", found)
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, previous+1, row[j]+1)
		}
	}
	return row[len(b)]
}

const (
	errorCharacters   = 2000
	errorDetailsBytes = 2000
)

// Failure makes the message that carries an error to whoever called, cut to a size that every side accepts.
func Failure(id uint64, err *Error) *ErrorMessage {
	text := strings.ToValidUTF8(err.Message, "\ufffd")
	if utf8.RuneCountInString(text) > errorCharacters {
		text = string([]rune(text)[:errorCharacters]) + "…"
	}
	details, left := []byte{'{'}, errorDetailsBytes
	for name, value := range err.Details {
		encoded, problem := appendAny(append(jsonscan.AppendString(nil, name), ':'), value, 0)
		if problem != nil || len(encoded)+2 > left {
			continue
		}
		left -= len(encoded) + 2
		if len(details) > 1 {
			details = append(details, ',')
		}
		details = append(details, encoded...)
	}
	return &ErrorMessage{ID: id, Code: err.Code, Message: text, Details: append(details, '}')}
}

// Error returns the error that the message carries. A code that is not known counts as internal.
func (m *ErrorMessage) Error() *Error {
	err := &Error{Code: Internal, Message: m.Message}
	for _, code := range Codes {
		if code == m.Code {
			err.Code = code
		}
	}
	if details, ok := decodeAny(m.Details).(map[string]any); ok && len(details) > 0 {
		err.Details = details
	}
	return err
}
