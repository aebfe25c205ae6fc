package codec

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"smol.local/smol/wire"
)

type base struct {
	ID int `json:"id"`
}

type node struct {
	base
	Name     string           `json:"name"`
	Children []*node          `json:"children,omitempty"`
	Tags     []string         `json:"tags"`
	Extra    map[string]any   `json:"extra"`
	Score    float64          `json:"score"`
	At       time.Time        `json:"at"`
	File     *wire.Attachment `json:"file,omitempty"`
	hidden   int
	Skipped  int `json:"-"`
}

type temperature float64

// MarshalJSON implements [json.Marshaler].
func (t temperature) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]float64{"celsius": float64(t)})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *temperature) UnmarshalJSON(data []byte) error {
	var value struct{ Celsius float64 }
	err := json.Unmarshal(data, &value)
	*t = temperature(value.Celsius)
	return err
}

func TestNothingIsWrittenAsWhatItsSchemaSays(t *testing.T) {
	data, attachments, err := Encode(node{base: base{7}, Name: "a", Score: math.NaN(), At: time.Unix(0, 0).UTC(), hidden: 1, Skipped: 2})
	wanted := `{"id":7,"name":"a","tags":[],"extra":{},"score":null,"at":"1970-01-01T00:00:00Z"}`
	if err != nil || string(data) != wanted || len(attachments) != 0 {
		t.Errorf("%s, %v", data, err)
	}
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	file := &wire.Attachment{Data: []byte("x")}
	was := node{
		Name: "a", Tags: []string{"é"}, Extra: map[string]any{"n": int64(1), "f": 1.5, "l": []any{nil, true}, "file": file},
		At: time.Unix(5, 6).UTC(), File: file, Children: []*node{{Name: "b", Tags: []string{}, Extra: map[string]any{}, At: time.Unix(0, 0).UTC()}, nil},
	}
	data, attachments, err := Encode(&was)
	if err != nil || len(attachments) != 2 {
		t.Fatal(err, len(attachments))
	}
	var is node
	plan, err := For(reflect.TypeFor[node]())
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Decode(data, attachments, reflect.ValueOf(&is).Elem()); err != nil || !reflect.DeepEqual(was, is) {
		t.Errorf("%s became %+v, %v", data, is, err)
	}
}

func TestATypeThatHoldsItselfHasASchemaThatRefersToItself(t *testing.T) {
	plan, err := For(reflect.TypeFor[node]())
	if err != nil {
		t.Fatal(err)
	}
	schema := string(plan.Schema("", false))
	if !json.Valid([]byte(schema)) || !strings.HasPrefix(schema, `{"$ref":"#/$defs/node","$defs":{"node":{`) ||
		!strings.Contains(schema, `"items":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}`) {
		t.Error(schema)
	}
	if !plan.attachments {
		t.Error("it holds attachments")
	}
}

func TestATypeThatMarshalsItselfIsAskedTo(t *testing.T) {
	data, _, err := Encode(map[string]any{"t": temperature(36.6), "raw": json.RawMessage(`{"x":1}`)})
	if err != nil || string(data) != `{"raw":{"x":1},"t":{"celsius":36.6}}` {
		t.Errorf("%s, %v", data, err)
	}
	var back map[string]temperature
	plan, err := For(reflect.TypeOf(back))
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Decode([]byte(`{"t":{"celsius":5}}`), nil, reflect.ValueOf(&back).Elem()); err != nil || back["t"] != 5 {
		t.Error(back, err)
	}
	if _, _, err := Encode(json.RawMessage(`{"x":`)); err == nil {
		t.Error("broken JSON was taken")
	}
}

func TestSizesOfIntegersAreKept(t *testing.T) {
	var small struct {
		A int8   `json:"a"`
		B uint16 `json:"b"`
	}
	plan, err := For(reflect.TypeOf(small))
	if err != nil {
		t.Fatal(err)
	}
	for text, told := range map[string]string{`{"a":128,"b":0}`: "out of range in argument 'a'", `{"a":0,"b":-1}`: "out of range in argument 'b'", `{"a":0,"b":70000}`: "out of range in argument 'b'"} {
		if err := plan.DecodeArguments([]byte(text), nil, reflect.ValueOf(&small).Elem()); err == nil || !strings.Contains(err.Error(), told) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if schema := string(plan.Schema("", false)); !strings.Contains(schema, `"minimum":-128,"maximum":127`) || !strings.Contains(schema, `"minimum":0,"maximum":65535`) {
		t.Error(schema)
	}
}

func TestACircleIsRefused(t *testing.T) {
	circle := &node{}
	circle.Children = []*node{circle}
	if _, _, err := Encode(circle); err == nil || !strings.Contains(err.Error(), "nests deeper") {
		t.Error(err)
	}
}
