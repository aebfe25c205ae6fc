package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

type vector struct {
	Name     string
	Role     string
	Limits   map[string]uint32
	Truncate bool
	State    string
	Steps    []step
}

type step struct {
	Receive  string
	Messages []map[string]any
	Answers  []map[string]any
	Closed   *string
	Send     map[string]any
	Body     string
	Legal    bool
}

// stream is the transport's side of a connection: what is read is given, what is written is kept.
type stream struct {
	net.Conn
	from    io.Reader
	mu      sync.Mutex
	written bytes.Buffer
	closed  bool
}

func (s *stream) Read(to []byte) (int, error) { return s.from.Read(to) }

func (s *stream) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.Write(data)
}

func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// player plays a vector and notes what the implementation does.
type player struct {
	t      *testing.T
	stream *stream
	conn   *Conn
	heard  []map[string]any
	ended  error
}

func newPlayer(t *testing.T, v vector) *player {
	role := Host
	if v.Role == "peer" {
		role = Peer
	}
	limits := DefaultLimits
	if v.Limits != nil {
		limits = Limits{v.Limits["header_bytes"], v.Limits["body_bytes"]}
	}
	p := &player{t: t, stream: &stream{}}
	p.conn = NewConn(p.stream, role, limits, p)
	return p
}

func (p *player) Receive(_ *Conn, message Message, body []byte) {
	heard := plainMessage(message)
	heard["body"] = hex.EncodeToString(body)
	p.heard = append(p.heard, heard)
}

func (p *player) Closed(_ *Conn, err error) { p.ended = err }

// feed gives bytes to the connection, and returns what its reader ends with.
func (p *player) feed(data []byte, split bool) error {
	p.stream.from = bytes.NewReader(data)
	if split {
		p.stream.from = iotest.OneByteReader(p.stream.from)
	}
	p.conn.reader = NewReader(p.stream, p.conn.reader.limits)
	err := p.conn.read()
	p.settle()
	return err
}

// settle waits until what was sent is written.
func (p *player) settle() {
	for {
		p.conn.mu.Lock()
		writing := p.conn.writing
		p.conn.mu.Unlock()
		if !writing {
			return
		}
		runtime.Gosched()
	}
}

func (p *player) answered() []map[string]any {
	var answers []map[string]any
	reader := NewReader(bytes.NewReader(p.stream.written.Bytes()), DefaultLimits)
	for {
		frame, err := reader.Next()
		if err == io.EOF {
			p.stream.written.Reset()
			return answers
		}
		if err != nil {
			p.t.Fatalf("what was written is no frame: %v", err)
		}
		message, err := DecodeMessage(frame.Header)
		if err != nil {
			p.t.Fatalf("what was written is no message: %v", err)
		}
		answers = append(answers, plainMessage(message))
	}
}

func (p *player) play(v vector, split bool) {
	for number, step := range v.Steps {
		if step.Send != nil {
			p.send(number, step)
			continue
		}
		p.heard = nil
		err := p.feed(unhex(p.t, step.Receive), split)
		answers := p.answered()
		if step.Closed != nil {
			if len(answers) == 0 {
				p.t.Fatalf("step %d: nothing was said, and %s was due (%v)", number, *step.Closed, err)
			}
			farewell := answers[len(answers)-1]
			answers = answers[:len(answers)-1]
			assertAlike(p.t, number, []map[string]any{farewell}, []map[string]any{{"type": "error", "id": 0., "code": *step.Closed}})
			if !p.stream.closed {
				p.t.Errorf("step %d: the connection stays open", number)
			}
		}
		assertAlike(p.t, number, p.heard, step.Messages)
		assertAlike(p.t, number, answers, step.Answers)
	}
	if state := p.conn.session.state.String(); v.State != "" && state != v.State {
		p.t.Errorf("the state is %s, not %s", state, v.State)
	}
}

func (p *player) send(number int, step step) {
	before := snapshot(p.conn.session)
	message := unchecked(p.t, step.Send)
	err := p.conn.Send(message, unhex(p.t, step.Body))
	p.settle()
	if (err == nil) != step.Legal {
		p.t.Fatalf("step %d: legal is %v, got %v", number, step.Legal, err)
	}
	if err != nil && (p.stream.written.Len() > 0 || !reflect.DeepEqual(before, snapshot(p.conn.session))) {
		p.t.Errorf("step %d: a message that was refused left traces", number)
	}
	p.stream.written.Reset()
}

func snapshot(s *Session) []any {
	return []any{s.state, maps.Clone(s.calls), maps.Clone(s.granted), maps.Clone(s.serving), maps.Clone(s.streaming)}
}

// unchecked makes a message to be sent, also one that no decoder would let through.
func unchecked(t *testing.T, fields map[string]any) Message {
	id, hasID := fields["id"].(float64)
	if hasID && id == 0 {
		fields["id"] = 1
	}
	header, _ := json.Marshal(fields)
	message, err := DecodeMessage(header)
	if err != nil {
		t.Fatal(err)
	}
	if call, is := message.(*Call); is {
		call.ID = uint64(id)
	}
	return message
}

// plainMessage returns a message as JSON objects, with its defaults.
func plainMessage(message Message) map[string]any {
	var plain map[string]any
	header := appendMessage(nil, message)
	if err := json.Unmarshal(header, &plain); err != nil {
		panic(fmt.Sprintf("%s: %v", header, err))
	}
	return plain
}

var defaults = map[string]any{
	"arguments": map[string]any{}, "attachments": []any{}, "budget_ms": 0., "credit": 0., "trace": "", "key": "",
	"value": nil, "id": 0., "code": "INTERNAL", "message": "", "details": map[string]any{}, "fraction": -1., "reason": "",
	"data": nil, "dropped": 0., "nonce": 0., "name": "", "units": []any{}, "media_type": "application/octet-stream",
	"limits": map[string]any{"header_bytes": 1048576., "body_bytes": 67108864.}, "body": "",
	"version": "0", "summary": "", "operations": []any{}, "description": "", "input": map[string]any{},
	"output": map[string]any{}, "streaming": false, "idempotent": false, "read_only": false, "destructive": false,
}

func assertAlike(t *testing.T, number int, found, wanted []map[string]any) {
	t.Helper()
	if len(found) != len(wanted) {
		t.Fatalf("step %d: found %v, wanted %v", number, found, wanted)
	}
	for i := range wanted {
		if difference := alike(found[i], wanted[i]); difference != "" {
			t.Fatalf("step %d: found %v, wanted %v: %s", number, found[i], wanted[i], difference)
		}
	}
}

// alike tells in what found lacks something of wanted, after defaults.
func alike(found, wanted any) string {
	switch wanted := wanted.(type) {
	case map[string]any:
		object, _ := found.(map[string]any)
		for name, value := range wanted {
			have, present := object[name]
			if !present {
				have = defaults[name]
			}
			if name == "name" && value == nil && !present {
				continue // Of an attachment.
			}
			if difference := alike(have, value); difference != "" {
				return name + ": " + difference
			}
		}
		return ""
	case []any:
		list, _ := found.([]any)
		if len(list) != len(wanted) {
			return fmt.Sprintf("%v is not %v", found, wanted)
		}
		for i := range wanted {
			if difference := alike(list[i], wanted[i]); difference != "" {
				return difference
			}
		}
		return ""
	}
	if !reflect.DeepEqual(found, wanted) {
		return fmt.Sprintf("%v is not %v", found, wanted)
	}
	return ""
}

func unhex(t *testing.T, text string) []byte {
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func loadVectors(t testing.TB) map[string][]vector {
	files, _ := filepath.Glob("../../tests/wire/*.json")
	if len(files) == 0 {
		t.Fatal("no golden vectors in ../../tests/wire")
	}
	vectors := map[string][]vector{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var cases []vector
		if err := json.Unmarshal(data, &cases); err != nil {
			t.Fatal(err)
		}
		vectors[strings.TrimSuffix(filepath.Base(file), ".json")] = cases
	}
	return vectors
}

func eachVector(t *testing.T, test func(t *testing.T, v vector)) {
	for group, cases := range loadVectors(t) {
		for _, v := range cases {
			t.Run(group+"/"+v.Name, func(t *testing.T) { test(t, v) })
		}
	}
}

func TestAVectorGivesWhatItSays(t *testing.T) {
	eachVector(t, func(t *testing.T, v vector) { newPlayer(t, v).play(v, false) })
}

func TestAVectorGivesTheSameInPieces(t *testing.T) {
	eachVector(t, func(t *testing.T, v vector) { newPlayer(t, v).play(v, true) })
}

func TestAVectorCutAtAnyByteIsWaitedForAndThenReported(t *testing.T) {
	eachVector(t, func(t *testing.T, v vector) {
		if !v.Truncate {
			t.SkipNow()
		}
		last := len(v.Steps) - 1
		for v.Steps[last].Send != nil {
			last--
		}
		data := unhex(t, v.Steps[last].Receive)
		for count := range data {
			p := newPlayer(t, v)
			p.play(vector{Steps: v.Steps[:last]}, false)
			p.heard = nil
			err := p.feed(data[:count], false)
			if wanted := v.Steps[last].Messages; len(p.heard) > len(wanted) {
				t.Fatalf("cut at byte %d: more was heard than was said", count)
			} else {
				assertAlike(t, last, p.heard, wanted[:len(p.heard)])
			}
			if orderly := atBorder(data, count); (err == io.EOF) != orderly || (!orderly && !errors.Is(err, Unavailable)) {
				t.Fatalf("cut at byte %d: %v", count, err)
			}
		}
	})
}

func atBorder(data []byte, count int) bool {
	reader := NewReader(bytes.NewReader(data[:count]), DefaultLimits)
	for {
		if _, err := reader.Next(); err != nil {
			return err == io.EOF
		}
	}
}

func TestTheVectorsMeetEveryMessageType(t *testing.T) {
	met := map[string]bool{}
	note := func(messages ...map[string]any) {
		for _, message := range messages {
			if kind, is := message["type"].(string); is {
				met[kind] = true
			}
		}
	}
	for _, cases := range loadVectors(t) {
		for _, v := range cases {
			for _, step := range v.Steps {
				note(step.Messages...)
				note(step.Answers...)
				note(step.Send)
			}
		}
	}
	for kind := KindHello; kind < kindCount; kind++ {
		if !met[kind.String()] {
			t.Errorf("no vector has %s", kind)
		}
	}
}

// FuzzSession feeds bytes to both sides: they may be refused, never crash, and what is passed on can be sent on.
func FuzzSession(f *testing.F) {
	for _, cases := range loadVectors(f) {
		for _, v := range cases {
			var data []byte
			for _, step := range v.Steps {
				part, _ := hex.DecodeString(step.Receive)
				data = append(data, part...)
			}
			f.Add(data, v.Role == "host")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, host bool) {
		role := Peer
		if host {
			role = Host
		}
		session := NewSession(role, Limits{HeaderBytes: MinHeaderBytes, BodyBytes: 64})
		reader := NewReader(bytes.NewReader(data), session.limits)
		for session.State() != Closed {
			frame, err := reader.Next()
			if err != nil {
				return
			}
			var message Message
			if frame.Discarded > 0 {
				message, _, err = session.Oversized(&frame)
			} else {
				message, err = session.Receive(&frame)
			}
			if err != nil {
				session.Refuse(nil, AsError(err))
				return
			}
			if message == nil || message.Kind() == KindUnknown {
				continue
			}
			header := appendMessage(nil, message)
			again, err := DecodeMessage(header)
			if err != nil {
				t.Fatalf("%q was taken, and %q is refused: %v", frame.Header, header, err)
			}
			if !bytes.Equal(header, appendMessage(nil, again)) {
				t.Fatalf("%q becomes %q", header, appendMessage(nil, again))
			}
		}
	})
}
