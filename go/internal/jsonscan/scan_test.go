package jsonscan

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

var texts = []string{
	`{}`, `[]`, `null`, `true`, `-0`, `1e5`, `{"a":[1,{"b":null}],"c":"\u00e9\ud83d\ude00"}`, ` [ 1 , 2 ] `, `""`, `{"a":1,"a":2}`,
	``, ` `, `{`, `[1,]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `[1 2]`, `nul`, `truee`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `"`, `"\x"`,
	`"\u12"`, "\"\x01\"", `"\ud800"`, `"\udc00\ud800"`, `"\ud800A"`, `[}`, `{]`, `{}{}`, "\ufeff{}", "\"\xff\"", `[[[[[]]]]]`, `]`, `,`,
}

// lone reports whether a text has half of a surrogate pair, which encoding/json lets through.
func lone(data []byte) bool {
	var value any
	if json.Unmarshal(data, &value) != nil {
		return false
	}
	lower := strings.ToLower(string(data))
	return strings.Contains(lower, `\ud8`) || strings.Contains(lower, `\ud9`) || strings.Contains(lower, `\uda`) ||
		strings.Contains(lower, `\udb`) || strings.Contains(lower, `\udc`) || strings.Contains(lower, `\udd`) ||
		strings.Contains(lower, `\ude`) || strings.Contains(lower, `\udf`)
}

func deep(data []byte) bool {
	return strings.Count(string(data), "[")+strings.Count(string(data), "{") >= MaxDepth
}

func compare(t *testing.T, data []byte) {
	t.Helper()
	wanted := json.Valid(data) && utf8.Valid(data)
	if got := Check(data) == nil; got != wanted && !lone(data) && !deep(data) {
		t.Errorf("%q: valid is %v, encoding/json says %v", data, got, wanted)
	}
	if Check(data) == nil && !deep(data) {
		var theirs any
		_ = json.Unmarshal(data, &theirs)
		if ours := plain(t, data); !reflect.DeepEqual(ours, theirs) && !huge(theirs) {
			t.Errorf("%q is %v, encoding/json says %v", data, ours, theirs)
		}
	}
}

// huge reports whether encoding/json gave up, over a number that no double can hold.
func huge(value any) bool { return value == nil }

// plain decodes with what this package offers.
func plain(t *testing.T, data []byte) any {
	data = []byte(strings.TrimSpace(string(data)))
	switch Kind(data) {
	case "object":
		members := map[string]any{}
		if err := Object(data, func(name, value []byte) error { members[string(name)] = plain(t, value); return nil }); err != nil {
			t.Errorf("%q: %v", data, err)
		}
		return members
	case "array":
		items := []any{}
		if err := Array(data, func(value []byte) error { items = append(items, plain(t, value)); return nil }); err != nil {
			t.Errorf("%q: %v", data, err)
		}
		return items
	case "string":
		text, err := String(data)
		if err != nil {
			t.Errorf("%q: %v", data, err)
		}
		return text
	case "boolean":
		value, _ := Bool(data)
		return value
	case "null":
		return nil
	}
	value, _ := Float(data)
	return value
}

func TestJSONIsTakenAsTheStandardLibraryTakesIt(t *testing.T) {
	for _, text := range texts {
		compare(t, []byte(text))
	}
}

func FuzzCheck(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(compare)
}

func TestWhatTheStandardLibraryLetsThroughIsRefused(t *testing.T) {
	for _, text := range []string{`"\ud800"`, `"\udc00\ud800"`, `"\ud800A"`, strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)} {
		if Check([]byte(text)) == nil {
			t.Errorf("%.40q is taken", text)
		}
	}
	if err := Check([]byte(strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth))); err != nil {
		t.Error(err)
	}
}

func TestTextsComeBackAsTheyWere(t *testing.T) {
	for _, text := range []string{"", "a", "\x00\x1f\"\\/\b\f\n\r\t", "⅔ \u2028 😀", strings.Repeat("é\n", 1000)} {
		quoted := AppendString(nil, text)
		if back, err := String(quoted); err != nil || back != text || !json.Valid(quoted) {
			t.Errorf("%q became %q, %v", text, back, err)
		}
	}
	if got := string(AppendString(nil, "a\xffb")); got != "\"a\ufffdb\"" {
		t.Error(got)
	}
}

func TestNumbersThatAreNotFiniteAreNull(t *testing.T) {
	for value, wanted := range map[float64]string{math.Inf(1): "null", math.NaN(): "null", 1: "1", 0.1: "0.1", 1e30: "1e+30", 1e-9: "1e-09"} {
		if got := string(AppendFloat(nil, value)); got != wanted {
			t.Errorf("%v is %s", value, got)
		}
	}
}
