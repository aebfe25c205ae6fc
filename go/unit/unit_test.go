package unit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"smol.local/smol/client"
	"smol.local/smol/unit"
	"smol.local/smol/unit/unittest"
	"smol.local/smol/wire"
)

type probe struct {
	stopped atomic.Int64
	closed  atomic.Bool
}

type box struct {
	_     struct{}         `doc:"Corners in pixels."`
	Left  int              `json:"left"`
	Right int              `json:"right" default:"3"`
	Note  *string          `json:"note"`
	Mask  *unit.Attachment `json:"mask,omitempty"`
}

type everything struct {
	A *int               `json:"a"`
	B []int              `json:"b" min:"1" max:"3" doc:"d"`
	C string             `json:"c" min:"1" pattern:"^a" default:"a"`
	E map[string]float64 `json:"e"`
	F string             `json:"f" enum:"b,a" default:"a"`
	G any                `json:"g,omitempty"`
	H box                `json:"h"`
	I []box              `json:"i,omitempty"`
	K float64            `json:"k" above:"0" max:"2.5" default:"1.0"`
	L *box               `json:"l" doc:"x"`
	M bool               `json:"m,omitempty"`
}

type textIn struct {
	Text string `json:"text"`
}

type secondsIn struct {
	Seconds float64 `json:"seconds"`
}

func (p *probe) Provision(ctx context.Context) error {
	var settings struct {
		Refuse bool `json:"refuse,omitempty"`
	}
	if err := unit.Settings(ctx, &settings); err != nil {
		return err
	}
	if settings.Refuse {
		return unit.Errorf(wire.FailedPrecondition, "its device is missing: plug it in")
	}
	return nil
}

func (p *probe) Close() error { p.closed.Store(true); return nil }

func (p *probe) everything(_ context.Context, in everything) (everything, error) { return in, nil }

func (p *probe) echo(_ context.Context, in textIn) (string, error) { return in.Text, nil }

func (p *probe) reverse(_ context.Context, in struct {
	Data *unit.Attachment `json:"data"`
}) (*unit.Attachment, error) {
	out := make([]byte, len(in.Data.Data))
	for i, c := range in.Data.Data {
		out[len(out)-1-i] = c
	}
	return &unit.Attachment{Data: out, MediaType: in.Data.MediaType, Name: in.Data.Name}, nil
}

func (p *probe) sleep(ctx context.Context, in secondsIn) (string, error) {
	select {
	case <-time.After(time.Duration(in.Seconds * float64(time.Second))):
		return "slept", nil
	case <-ctx.Done():
		p.stopped.Add(1)
		return "", ctx.Err()
	}
}

func (p *probe) fail(_ context.Context, in struct {
	How string `json:"how" enum:"error,bug,panic,plain"`
}) (struct{}, error) {
	switch in.How {
	case "bug":
		return struct{}{}, errors.New("a bug")
	case "panic":
		var none map[string]int
		none["x"] = 1
	}
	return struct{}{}, unit.Errorf(wire.FailedPrecondition, "told to fail").With("hint", "none")
}

func (p *probe) count(ctx context.Context, in struct {
	Items int `json:"items"`
}) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		defer p.stopped.Add(1)
		for i := range in.Items {
			if !yield(i, nil) {
				return
			}
		}
	}
}

func (p *probe) forward(ctx context.Context, in textIn) (string, error) {
	unit.Progress(ctx, 0.5, "half")
	return client.Call[string](ctx, "probe.echo", in)
}

func newProbe() (*unit.Unit, *probe) {
	p := &probe{}
	u := unit.New("Does what a test tells it.", p)
	unit.Operation(u, "everything", "Return it.", p.everything)
	unit.Operation(u, "echo", "Return\nthe text.\n\nIt is the same.", p.echo, unit.ReadOnly)
	unit.Operation(u, "reverse", "Return the bytes in reverse.", p.reverse)
	unit.Operation(u, "sleep", "Wait.", p.sleep)
	unit.Operation(u, "fail", "Fail.", p.fail, unit.Destructive)
	unit.Stream(u, "count", "Count from 0.", p.count, unit.Idempotent)
	unit.Operation(u, "forward", "Call another operation with the text.", p.forward)
	return u, p
}

func TestTheSchemaFollowsFromTheTypesAndTheirTags(t *testing.T) {
	u, _ := newProbe()
	description, err := u.Describe("probe", "1")
	if err != nil {
		t.Fatal(err)
	}
	// What Python's SDK says of the same types.
	boxSchema := `{"title":"box","type":"object","description":"Corners in pixels.","properties":{"left":{"type":"integer"},
		"right":{"type":"integer","default":3},"note":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null},
		"mask":{"anyOf":[{"type":"object","x-smol-attachment":true,"properties":{"$attachment":{"type":"integer","minimum":0}},
		"required":["$attachment"]},{"type":"null"}],"default":null}},"required":["left"]}`
	properties := `{"a":{"anyOf":[{"type":"integer"},{"type":"null"}],"default":null},
		"b":{"description":"d","type":"array","items":{"type":"integer"},"maxItems":3,"minItems":1},
		"c":{"type":"string","minLength":1,"pattern":"^a","default":"a"},
		"e":{"type":"object","additionalProperties":{"type":"number"}},
		"f":{"enum":["a","b"],"default":"a"},"g":{"default":null},"h":{"$ref":"#/$defs/box"},
		"i":{"type":"array","items":{"$ref":"#/$defs/box"},"default":[]},
		"k":{"type":"number","exclusiveMinimum":0,"maximum":2.5,"default":1.0},
		"l":{"description":"x","anyOf":[{"$ref":"#/$defs/box"},{"type":"null"}],"default":null},
		"m":{"type":"boolean","default":false}}`
	wanted := map[string][2]string{
		"everything": {
			`{"title":"Input","type":"object","properties":` + properties + `,"required":["b","e","h"],
			"additionalProperties":false,"$defs":{"box":` + boxSchema + `}}`,
			`{"title":"everything","type":"object","properties":` + properties + `,"required":["b","e","h"],
			"$defs":{"box":` + boxSchema + `}}`,
		},
		"echo": {`{"title":"Input","type":"object","properties":{"text":{"type":"string"}},"required":["text"],
			"additionalProperties":false}`, `{"type":"string"}`},
		"fail": {`{"title":"Input","type":"object","properties":{"how":{"enum":["bug","error","panic","plain"]}},
			"required":["how"],"additionalProperties":false}`, `{"type":"null"}`},
		"count": {`{"title":"Input","type":"object","properties":{"items":{"type":"integer"}},"required":["items"],
			"additionalProperties":false}`, `{"type":"integer"}`},
	}
	for _, operation := range description.Operations {
		if schemas, known := wanted[operation.Name]; known {
			assertJSON(t, operation.Name, schemas[0], operation.Input)
			assertJSON(t, operation.Name, schemas[1], operation.Output)
		}
	}
	echo := description.Operations[1]
	if echo.Summary != "Return the text." || echo.Description != "It is the same." || !echo.ReadOnly || !echo.Idempotent {
		t.Errorf("echo is described as %+v", echo)
	}
}

func assertJSON(t *testing.T, name, wanted string, found []byte) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(wanted), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(found, &b); err != nil {
		t.Fatalf("%s: %s: %v", name, found, err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%s: found %s", name, found)
	}
}

func serveProbe(t *testing.T) (context.Context, *client.Client, *probe) {
	u, p := newProbe()
	return context.Background(), unittest.Serve(t, "probe", u, ""), p
}

func TestArgumentsAreCheckedAndNamed(t *testing.T) {
	ctx, c, _ := serveProbe(t)
	good := `{"b":[1],"e":{"x":1},"h":{"left":1}}`
	for arguments, wanted := range map[string]string{
		`{}`:                        "missing argument 'b'",
		`{"b":[1,"2"]}`:             "expected integer, got string in argument 'b[1]'",
		`{"b":[]}`:                  "expected at least 1 elements, got 0 in argument 'b'",
		`{"b":[1.5]}`:               "expected integer, got number in argument 'b[0]'",
		`{"h":{"left":1,"mask":1}}`: "expected an attachment",
		`{"h":{"right":1}}`:         "missing 'left' in argument 'h'",
		`{"e":{"x":"y"}}`:           "expected number, got string in argument 'e.x'",
		`{"c":"b"}`:                 "expected text that matches ^a, got 'b' in argument 'c'",
		`{"f":"c"}`:                 "expected one of b, a, got 'c'",
		`{"k":0}`:                   "expected more than 0, got 0 in argument 'k'",
		`{"k":3}`:                   "expected at most 2.5, got 3 in argument 'k'",
		`{"K":1}`:                   "unknown argument 'K' (did you mean 'a'?)",
		`{"m":null}`:                "expected boolean, got null in argument 'm'",
		`[1]`:                       "arguments are an object, by name, not array",
	} {
		err := c.Call(ctx, "probe.everything", json.RawMessage(arguments), nil)
		if !errors.Is(err, wire.InvalidArgument) || !strings.Contains(err.Error(), strings.SplitN(wanted, " (did", 2)[0]) {
			t.Errorf("%s: %v", arguments, err)
		}
	}
	var out everything
	if err := c.Call(ctx, "probe.everything", json.RawMessage(good), &out); err != nil {
		t.Fatal(err)
	}
	if out.C != "a" || out.F != "a" || out.K != 1 || out.H.Right != 3 || out.A != nil || out.I != nil && len(out.I) > 0 {
		t.Errorf("defaults are not applied: %+v", out)
	}
}

func TestAttachmentsTravelBesideTheJSON(t *testing.T) {
	ctx, c, _ := serveProbe(t)
	for _, size := range []int{0, 1, 100_000, 20 << 20} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7)
		}
		var back *unit.Attachment
		err := c.Call(ctx, "probe.reverse", client.Args{"data": &unit.Attachment{Data: data, MediaType: "image/png", Name: "x"}}, &back)
		if err != nil {
			t.Fatal(err)
		}
		if len(back.Data) != size || back.MediaType != "image/png" || back.Name != "x" || size > 0 && back.Data[0] != data[size-1] {
			t.Errorf("%d bytes came back as %d of %s", size, len(back.Data), back.MediaType)
		}
	}
	err := c.Call(ctx, "probe.reverse", client.Args{"data": &unit.Attachment{Data: make([]byte, 65<<20)}}, nil)
	if !errors.Is(err, wire.ResourceExhausted) {
		t.Errorf("65 MiB: %v", err)
	}
}

func TestErrorsKeepTheirCodeAndDetails(t *testing.T) {
	ctx, c, _ := serveProbe(t)
	err := c.Call(ctx, "probe.fail", client.Args{"how": "error"}, nil)
	if known := wire.AsError(err); known.Code != wire.FailedPrecondition || known.Message != "told to fail" || known.Details["hint"] != "none" {
		t.Errorf("%#v", known)
	}
	for how, told := range map[string]string{"bug": "a bug", "panic": "assignment to entry in nil map"} {
		if err := c.Call(ctx, "probe.fail", client.Args{"how": how}, nil); !errors.Is(err, wire.Internal) || !strings.Contains(err.Error(), told) {
			t.Errorf("%s: %v", how, err)
		}
	}
	if err := c.Call(ctx, "probe.ecko", nil, nil); !errors.Is(err, wire.NotFound) || !strings.Contains(err.Error(), "did you mean 'echo'") {
		t.Errorf("%v", err)
	}
	if err := c.Call(ctx, "probe.echo", client.Args{"text": "still there"}, nil); err != nil {
		t.Error(err)
	}
}

func TestAStreamIsPacedByItsReaderAndEndsWithIt(t *testing.T) {
	ctx, c, p := serveProbe(t)
	ctx = client.NewContext(ctx, c)
	sum := 0
	for item, err := range client.Stream[int](ctx, "probe.count", client.Args{"items": 1000}) {
		if err != nil {
			t.Fatal(err)
		}
		sum += item
	}
	if sum != 999*1000/2 {
		t.Errorf("the sum is %d", sum)
	}
	for item, err := range client.Stream[int](ctx, "probe.count", client.Args{"items": 1 << 40}) {
		if err != nil {
			t.Fatal(err)
		}
		if item == 20 {
			break
		}
	}
	eventually(t, "the stream was told to stop", func() bool { return p.stopped.Load() == 2 })
	if _, err := client.Call[any](ctx, "probe.count", client.Args{"items": 1}); !errors.Is(err, wire.InvalidArgument) {
		t.Errorf("a stream called for one result: %v", err)
	}
	count := 0
	for item, err := range client.Stream[string](ctx, "probe.echo", textIn{"once"}) {
		if count++; err != nil || item != "once" {
			t.Errorf("%q, %v", item, err)
		}
	}
	if count != 1 {
		t.Errorf("a unary operation that is streamed has %d items", count)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	ctx, c, p := serveProbe(t)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	err := c.Call(short, "probe.sleep", secondsIn{30}, nil)
	if !errors.Is(err, wire.DeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := c.Call(cancelled, "probe.sleep", secondsIn{30}, nil); !errors.Is(err, wire.Cancelled) {
		t.Errorf("%v", err)
	}
	eventually(t, "both were stopped", func() bool { return p.stopped.Load() == 2 })
}

func TestAUnitCallsOthersAndTellsProgress(t *testing.T) {
	ctx, c, _ := serveProbe(t)
	var told atomic.Value
	var answer string
	err := c.Call(ctx, "probe.forward", textIn{"there and back"}, &answer, client.OnProgress(func(fraction float64, message string) {
		told.Store(fmt.Sprint(fraction, message))
	}))
	if err != nil || answer != "there and back" || told.Load() != "0.5half" {
		t.Errorf("%q, %v, progress %v", answer, err, told.Load())
	}
}

func TestManyCallsFromManyGoroutinesLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("calls", func(t *testing.T) {
		ctx, c, _ := serveProbe(t)
		var group sync.WaitGroup
		for worker := range 64 {
			group.Add(1)
			go func() {
				defer group.Done()
				for number := range 10_000 / 64 {
					text := fmt.Sprint(worker, " ", number)
					var back string
					if err := c.Call(ctx, "probe.echo", textIn{text}, &back); err != nil || back != text {
						t.Errorf("%q, %v", back, err)
						return
					}
				}
			}()
		}
		group.Wait()
	})
	eventually(t, "every goroutine ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestAUnitThatCanNotGetReadySaysWhy(t *testing.T) {
	u, p := newProbe()
	ours, theirs := pipe()
	defer ours.Close()
	err := u.Run(context.Background(), theirs, unit.Spec{Name: "probe", Settings: wire.Raw(`{"refuse":true}`)})
	if !errors.Is(err, wire.FailedPrecondition) || !p.closed.Load() {
		t.Errorf("%v; closed: %v", err, p.closed.Load())
	}
	u, _ = newProbe()
	ours, theirs = pipe()
	defer ours.Close()
	err = u.Run(context.Background(), theirs, unit.Spec{Name: "probe", Settings: wire.Raw(`{"refuze":true}`)})
	if err == nil || !strings.Contains(err.Error(), "did you mean 'refuse'") {
		t.Errorf("a setting that is not there: %v", err)
	}
}

func TestTypesThatJSONCanNotCarryAreRefusedWhenTheUnitIsDescribed(t *testing.T) {
	refused := map[string]func(u *unit.Unit){
		"use *wire.Attachment": func(u *unit.Unit) { accept[struct{ Data []byte }](u) },
		"has no schema":        func(u *unit.Unit) { accept[struct{ C chan int }](u) },
		"names of JSON":        func(u *unit.Unit) { accept[struct{ M map[int]string }](u) },
		"as timeout_seconds":   func(u *unit.Unit) { accept[struct{ D time.Duration }](u) },
		"does not fit": func(u *unit.Unit) {
			accept[struct {
				N int `default:"x"`
			}](u)
		},
		"is no number": func(u *unit.Unit) {
			accept[struct {
				N int `min:"x"`
			}](u)
		},
		"take a struct": func(u *unit.Unit) { accept[int](u) },
	}
	for told, register := range refused {
		u := unit.New("", nil)
		register(u)
		if err := u.Check(); err == nil || !strings.Contains(err.Error(), told) {
			t.Errorf("%q was due, got %v", told, err)
		}
	}
}

func accept[In any](u *unit.Unit) {
	unit.Operation(u, "bad", "", func(context.Context, In) (struct{}, error) { return struct{}{}, nil })
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
