package codec

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"

	"smol.local/smol/internal/jsonscan"
)

// Schema returns the JSON Schema (2020-12) of the type. title replaces the name of the type if it is not empty;
// closed forbids members of the top object that it does not name.
func (p *Plan) Schema(title string, closed bool) []byte {
	s := &schemas{names: map[*Plan]string{}, taken: map[string]bool{}, made: map[string][]byte{}}
	if p.form != formStruct {
		return s.finish(s.of(p))
	}
	if s.refersTo(p, p, map[*Plan]bool{}) {
		return s.finish(s.of(p))
	}
	return s.finish(s.object(p, title, closed))
}

// schemas collects the definitions that a schema refers to.
type schemas struct {
	names map[*Plan]string
	taken map[string]bool
	made  map[string][]byte
}

func (s *schemas) refersTo(from, to *Plan, seen map[*Plan]bool) bool {
	inner := make([]*Plan, 0, len(from.fields)+1)
	if from.inner != nil {
		inner = append(inner, from.inner)
	}
	for _, field := range from.fields {
		inner = append(inner, field.plan)
	}
	for _, each := range inner {
		if each == to {
			return true
		}
		if !seen[each] {
			seen[each] = true
			if s.refersTo(each, to, seen) {
				return true
			}
		}
	}
	return false
}

// finish puts the definitions behind the members of a schema.
func (s *schemas) finish(schema []byte) []byte {
	if len(s.made) == 0 {
		return schema
	}
	names := make([]string, 0, len(s.made))
	for name := range s.made {
		names = append(names, name)
	}
	sort.Strings(names)
	schema = append(schema[:len(schema)-1], `,"$defs":{`...)
	for i, name := range names {
		if i > 0 {
			schema = append(schema, ',')
		}
		schema = append(append(jsonscan.AppendString(schema, name), ':'), s.made[name]...)
	}
	return append(schema, "}}"...)
}

func (s *schemas) of(p *Plan) []byte {
	switch p.form {
	case formBool, formString, formFloat:
		return fmt.Appendf(nil, `{"type":"%s"}`, words[p.form])
	case formInt, formUint:
		return append(appendRange([]byte(`{"type":"integer"`), p), '}')
	case formPointer:
		return append(append([]byte(`{"anyOf":[`), s.of(p.inner)...), `,{"type":"null"}]}`...)
	case formSlice, formArray:
		schema := []byte(`{"type":"array"`)
		if items := s.of(p.inner); len(items) > len("{}") {
			schema = append(append(schema, `,"items":`...), items...)
		}
		if p.form == formArray {
			schema = fmt.Appendf(schema, `,"minItems":%d,"maxItems":%[1]d`, p.goType.Len())
		}
		return append(schema, '}')
	case formMap:
		schema := []byte(`{"type":"object"`)
		if values := s.of(p.inner); len(values) > len("{}") {
			schema = append(append(schema, `,"additionalProperties":`...), values...)
		}
		return append(schema, '}')
	case formStruct:
		return fmt.Appendf(nil, `{"$ref":"#/$defs/%s"}`, s.define(p))
	case formTime:
		return []byte(`{"type":"string","format":"date-time"}`)
	case formAttachment:
		return []byte(`{"type":"object","x-smol-attachment":true,` +
			`"properties":{"$attachment":{"type":"integer","minimum":0}},"required":["$attachment"]}`)
	}
	return []byte("{}")
}

// appendRange appends the bounds that a Go type has by itself.
func appendRange(to []byte, p *Plan) []byte {
	bits := p.goType.Bits()
	if p.form == formUint {
		to = append(to, `,"minimum":0`...)
		if bits < 64 {
			to = strconv.AppendUint(append(to, `,"maximum":`...), 1<<bits-1, 10)
		}
	} else if bits < 64 {
		to = fmt.Appendf(to, `,"minimum":%d,"maximum":%d`, -(int64(1) << (bits - 1)), int64(1)<<(bits-1)-1)
	}
	return to
}

func (s *schemas) define(p *Plan) string {
	if name, known := s.names[p]; known {
		return name
	}
	name := titleOf(p.goType)
	for number := 2; s.taken[name]; number++ {
		name = fmt.Sprintf("%s%d", titleOf(p.goType), number)
	}
	s.names[p], s.taken[name] = name, true
	s.made[name] = s.object(p, "", false)
	return name
}

func titleOf(kind reflect.Type) string {
	if kind.Name() == "" {
		return "Object"
	}
	return kind.Name()
}

func (s *schemas) object(p *Plan, title string, closed bool) []byte {
	if title == "" {
		title = titleOf(p.goType)
	}
	schema := append(jsonscan.AppendString([]byte(`{"title":`), title), `,"type":"object"`...)
	if p.doc != "" {
		schema = jsonscan.AppendString(append(schema, `,"description":`...), p.doc)
	}
	schema = append(schema, `,"properties":{`...)
	required := []byte("[")
	for i, field := range p.fields {
		if i > 0 {
			schema = append(schema, ',')
		}
		schema = append(jsonscan.AppendString(schema, field.name), ':')
		schema = append(schema, s.field(field)...)
		if !field.optional {
			if len(required) > 1 {
				required = append(required, ',')
			}
			required = jsonscan.AppendString(required, field.name)
		}
	}
	schema = append(append(append(schema, `},"required":`...), required...), ']')
	if closed {
		schema = append(schema, `,"additionalProperties":false`...)
	}
	return append(schema, '}')
}

func (s *schemas) field(f *field) []byte {
	base, nullable := f.plan.base(), f.plan.form == formPointer
	schema := s.limited(base, &f.limits)
	if f.plan.form == formAttachment && f.omit {
		nullable = true
	}
	if nullable {
		schema = append(append([]byte(`{"anyOf":[`), schema...), `,{"type":"null"}]}`...)
	}
	if fallback := f.defaultJSON(nullable); fallback != nil {
		schema = addMember(schema, "default", fallback)
	}
	if f.doc != "" {
		schema = addMember(schema, "description", jsonscan.AppendString(nil, f.doc))
	}
	return schema
}

func addMember(schema []byte, name string, value []byte) []byte {
	schema = schema[:len(schema)-1]
	if schema[len(schema)-1] != '{' {
		schema = append(schema, ',')
	}
	return append(append(append(jsonscan.AppendString(schema, name), ':'), value...), '}')
}

// defaultJSON is what an argument that is left out stands for; nil when it can't be.
func (f *field) defaultJSON(nullable bool) []byte {
	switch {
	case f.fallback != nil:
		return f.fallback
	case nullable:
		return []byte("null")
	case !f.optional || f.plan.form == formStruct || f.plan.form == formTime:
		return nil
	}
	var none Attachments
	zero, err := f.plan.encode(nil, reflect.Zero(f.plan.goType), &none)
	if err != nil {
		return nil
	}
	return zero
}

func (s *schemas) limited(p *Plan, limits *limits) []byte {
	schema := s.of(p)
	if !limits.anyConstraint {
		return schema
	}
	if limits.choices != nil {
		sorted := append([]string(nil), limits.choices...)
		sort.Strings(sorted)
		list := []byte("[")
		for i, choice := range sorted {
			if i > 0 {
				list = append(list, ',')
			}
			list = jsonscan.AppendString(list, choice)
		}
		return append(append([]byte(`{"enum":`), list...), "]}"...)
	}
	if p.form == formInt || p.form == formUint {
		schema = []byte(`{"type":"integer"}`) // What the tags say is narrower than the type.
		if p.form == formUint && limits.least == nil && limits.above == nil {
			schema = []byte(`{"type":"integer","minimum":0}`)
		}
	}
	least, most := "minimum", "maximum"
	switch p.form {
	case formString:
		least, most = "minLength", "maxLength"
	case formSlice:
		least, most = "minItems", "maxItems"
	case formMap:
		least, most = "minProperties", "maxProperties"
	}
	add := func(name string, bound *float64) {
		if bound != nil {
			schema = addMember(schema, name, jsonscan.AppendFloat(nil, *bound))
		}
	}
	add(least, limits.least)
	add(most, limits.most)
	add("exclusiveMinimum", limits.above)
	add("exclusiveMaximum", limits.below)
	if limits.pattern != nil {
		schema = addMember(schema, "pattern", jsonscan.AppendString(nil, limits.pattern.String()))
	}
	return schema
}
