package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	prefixBytes = 8

	// MinHeaderBytes is the least header limit that a side may set: an error always fits.
	MinHeaderBytes = 16 * 1024
	// MaxBytes is the greatest length that a prefix can say.
	MaxBytes = 1<<32 - 1

	windowBytes = 64 * 1024
	// chunkBytes is how much of a body is believed before it is there.
	chunkBytes = 4 << 20
)

// Limits are the largest header and body that one side accepts, in bytes.
type Limits struct {
	HeaderBytes uint32
	BodyBytes   uint32
}

// DefaultLimits hold where nothing else is said.
var DefaultLimits = Limits{HeaderBytes: 1 << 20, BodyBytes: 64 << 20}

// Within is what both sides accept.
func (l Limits) Within(other Limits) Limits {
	return Limits{min(l.HeaderBytes, other.HeaderBytes), min(l.BodyBytes, other.BodyBytes)}
}

// Frame is one frame. Discarded is the length of a body over the limit, which was thrown away.
type Frame struct {
	Header    []byte
	Body      []byte
	Discarded int64
}

func (f *Frame) bodyBytes() int64 { return int64(len(f.Body)) + f.Discarded }

// Reader turns a byte stream into frames.
type Reader struct {
	limits Limits
	from   *bufio.Reader
	prefix [prefixBytes]byte
}

// NewReader reads frames from a stream, by the limits of this side.
func NewReader(from io.Reader, limits Limits) *Reader {
	return &Reader{limits: limits, from: bufio.NewReaderSize(from, windowBytes)}
}

// Next returns the next frame, whose memory is the caller's. It fails with io.EOF at an orderly end, with
// io.ErrUnexpectedEOF at an end inside a frame, and with an *Error when the stream can't be followed further.
func (r *Reader) Next() (Frame, error) {
	if _, err := io.ReadFull(r.from, r.prefix[:]); err != nil {
		return Frame{}, err
	}
	headerBytes := binary.BigEndian.Uint32(r.prefix[:4])
	bodyBytes := binary.BigEndian.Uint32(r.prefix[4:])
	if headerBytes == 0 {
		return Frame{}, Errorf(InvalidArgument, "a frame with an empty header: every frame carries a JSON header")
	}
	if headerBytes > r.limits.HeaderBytes {
		return Frame{}, headerTooLarge(headerBytes, r.limits.HeaderBytes)
	}
	var frame Frame
	var err error
	if frame.Header, err = r.take(headerBytes); err != nil {
		return Frame{}, err
	}
	if bodyBytes > r.limits.BodyBytes {
		frame.Discarded = int64(bodyBytes)
		_, err = io.CopyN(io.Discard, r.from, frame.Discarded)
		return frame, inside(err)
	}
	if bodyBytes > 0 {
		frame.Body, err = r.take(bodyBytes)
	}
	return frame, err
}

// take reads so many bytes. What a peer only claims to send takes no memory beyond a chunk.
func (r *Reader) take(count uint32) ([]byte, error) {
	if count <= chunkBytes {
		data := make([]byte, count)
		_, err := io.ReadFull(r.from, data)
		return data, inside(err)
	}
	data := make([]byte, chunkBytes, chunkBytes)
	for read := 0; ; {
		n, err := io.ReadFull(r.from, data[read:])
		if read += n; err != nil {
			return nil, inside(err)
		}
		if read == int(count) {
			return data, nil
		}
		// Half of it has come, so the rest is likely to.
		size := min(4*len(data), int(count))
		data = append(make([]byte, 0, size), data...)[:size]
	}
}

func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func headerTooLarge(bytes, limit uint32) *Error {
	return Errorf(ResourceExhausted, "%d bytes of JSON: the limit is %d; send large values as attachments", bytes, limit).
		With("limit_bytes", limit)
}

func bodyTooLarge(bytes int64, limit uint32) *Error {
	return Errorf(ResourceExhausted, "%d bytes of attachments: the limit is %d a message", bytes, limit).
		With("limit_bytes", limit)
}

// appendFrame appends the prefix and the header of a message whose body follows.
func appendFrame(to []byte, message Message, bodyBytes int64) []byte {
	start := len(to)
	to = append(to, make([]byte, prefixBytes)...)
	to = appendMessage(to, message)
	binary.BigEndian.PutUint32(to[start:], uint32(len(to)-start-prefixBytes))
	binary.BigEndian.PutUint32(to[start+4:], uint32(bodyBytes))
	return to
}

func (l Limits) check() error {
	if l.HeaderBytes < MinHeaderBytes {
		return fmt.Errorf("limits: header_bytes of %d: at least %d", l.HeaderBytes, MinHeaderBytes)
	}
	return nil
}
