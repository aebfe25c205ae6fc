package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"smol.local/smol/internal/jsonscan"
	"smol.local/smol/wire"
)

// Attachments are those of one message.
type Attachments []*wire.Attachment

// misfit is a value that does not fit its type, and where it stands.
type misfit struct {
	path   string
	reason error
}

func (m *misfit) Error() string { return m.reason.Error() }

func at(path string, err error) error {
	if err == nil {
		return nil
	}
	if inner := (*misfit)(nil); errors.As(err, &inner) {
		if strings.HasPrefix(inner.path, "[") {
			return &misfit{path + inner.path, inner.reason}
		}
		return &misfit{path + "." + inner.path, inner.reason}
	}
	return &misfit{path, err}
}

// DecodeArguments decodes the arguments of a call into a struct. It fails with INVALID_ARGUMENT, naming the
// argument that is wrong.
func (p *Plan) DecodeArguments(data []byte, attachments Attachments, into reflect.Value) error {
	if len(data) == 0 {
		data = []byte("{}")
	}
	if p.form != formStruct {
		return explain(p.decode(data, attachments, into))
	}
	if kind := jsonscan.Kind(data); kind != "object" {
		return wire.Errorf(wire.InvalidArgument, "arguments are an object, by name, not %s", kind)
	}
	return explain(p.decodeStruct(data, attachments, into, true))
}

// Decode decodes a result or an item. Members that the type does not have are passed over.
func (p *Plan) Decode(data []byte, attachments Attachments, into reflect.Value) error {
	if len(data) == 0 {
		data = []byte("null")
	}
	err := p.decode(data, attachments, into)
	if inner := (*misfit)(nil); errors.As(err, &inner) {
		return wire.Errorf(wire.InvalidArgument, "the answer does not fit %v: %v at %s", p.goType, inner.reason, inner.path)
	}
	if err != nil {
		return wire.Errorf(wire.InvalidArgument, "the answer does not fit %v: %v", p.goType, err)
	}
	return nil
}

func explain(err error) error {
	if err == nil {
		return nil
	}
	if inner := (*misfit)(nil); errors.As(err, &inner) {
		return wire.Errorf(wire.InvalidArgument, "%v in argument '%s'", inner.reason, inner.path)
	}
	return wire.Errorf(wire.InvalidArgument, "%v", err)
}

func (p *Plan) decode(data []byte, attachments Attachments, into reflect.Value) (err error) {
	switch p.form {
	case formBool:
		var value bool
		if value, err = jsonscan.Bool(data); err == nil {
			into.SetBool(value)
		}
	case formInt:
		var value int64
		if value, err = jsonscan.Int(data); err == nil {
			if into.OverflowInt(value) {
				return fmt.Errorf("the integer %d is out of range", value)
			}
			into.SetInt(value)
		}
	case formUint:
		var value uint64
		if value, err = jsonscan.Uint(data); err == nil {
			if into.OverflowUint(value) {
				return fmt.Errorf("the integer %d is out of range", value)
			}
			into.SetUint(value)
		}
	case formFloat:
		var value float64
		if value, err = jsonscan.Float(data); err == nil {
			into.SetFloat(value)
		}
	case formString:
		var value string
		if value, err = jsonscan.String(data); err == nil {
			into.SetString(value)
		}
	case formPointer:
		if jsonscan.IsNull(data) {
			into.SetZero()
			return nil
		}
		into.Set(reflect.New(p.inner.goType))
		return p.inner.decode(data, attachments, into.Elem())
	case formSlice:
		return p.decodeSlice(data, attachments, into)
	case formArray:
		return p.decodeArray(data, attachments, into)
	case formMap:
		return p.decodeMap(data, attachments, into)
	case formStruct:
		return p.decodeStruct(data, attachments, into, false)
	case formAny:
		var value any
		if value, err = decodeAny(data, attachments); err == nil && value != nil {
			into.Set(reflect.ValueOf(value))
		}
	case formRaw:
		into.SetBytes(append([]byte(nil), data...))
	case formTime:
		return decodeTime(data, into)
	case formAttachment:
		return p.decodeAttachment(data, attachments, into)
	case formCustom:
		return into.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(data)
	}
	return err
}

func decodeTime(data []byte, into reflect.Value) error {
	text, err := jsonscan.String(data)
	if err != nil {
		return err
	}
	moment, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("'%.40s' is no time as 2026-01-31T12:00:00Z", text)
	}
	into.Set(reflect.ValueOf(moment))
	return nil
}

func (p *Plan) decodeAttachment(data []byte, attachments Attachments, into reflect.Value) error {
	if jsonscan.IsNull(data) && p.goType == attachmentPointer {
		into.SetZero()
		return nil
	}
	found, err := attachmentAt(data, attachments)
	if err != nil {
		return err
	}
	if p.goType == attachmentPointer {
		into.Set(reflect.ValueOf(found))
	} else {
		into.Set(reflect.ValueOf(*found))
	}
	return nil
}

func attachmentAt(data []byte, attachments Attachments) (*wire.Attachment, error) {
	index, members := int64(-1), 0
	if jsonscan.Kind(data) == "object" {
		_ = jsonscan.Object(data, func(name, value []byte) (err error) {
			members++
			if string(name) == wire.Placeholder {
				index, err = jsonscan.Int(value)
			}
			return err
		})
	}
	if members != 1 || index < 0 || index >= int64(len(attachments)) {
		return nil, fmt.Errorf(`expected an attachment as {"%s": index} with one of %d attachments`,
			wire.Placeholder, len(attachments))
	}
	return attachments[index], nil
}

func (p *Plan) decodeSlice(data []byte, attachments Attachments, into reflect.Value) error {
	into.Set(reflect.MakeSlice(p.goType, 0, 0))
	return jsonscan.Array(data, func(value []byte) error {
		item := reflect.New(p.inner.goType).Elem()
		if err := p.inner.decode(value, attachments, item); err != nil {
			return at(fmt.Sprintf("[%d]", into.Len()), err)
		}
		into.Set(reflect.Append(into, item))
		return nil
	})
}

func (p *Plan) decodeArray(data []byte, attachments Attachments, into reflect.Value) error {
	count := 0
	err := jsonscan.Array(data, func(value []byte) error {
		if count++; count > into.Len() {
			return nil
		}
		return at(fmt.Sprintf("[%d]", count-1), p.inner.decode(value, attachments, into.Index(count-1)))
	})
	if err == nil && count != into.Len() {
		return fmt.Errorf("expected %d elements, got %d", into.Len(), count)
	}
	return err
}

func (p *Plan) decodeMap(data []byte, attachments Attachments, into reflect.Value) error {
	into.Set(reflect.MakeMap(p.goType))
	return jsonscan.Object(data, func(name, value []byte) error {
		item := reflect.New(p.inner.goType).Elem()
		if err := p.inner.decode(value, attachments, item); err != nil {
			return at(string(name), err)
		}
		into.SetMapIndex(reflect.ValueOf(string(name)).Convert(p.goType.Key()), item)
		return nil
	})
}

func (p *Plan) decodeStruct(data []byte, attachments Attachments, into reflect.Value, arguments bool) error {
	seen := make([]bool, len(p.fields))
	err := jsonscan.Object(data, func(name, value []byte) error {
		number, known := p.byName[string(name)]
		if !known {
			if arguments {
				return p.unknown(string(name))
			}
			return nil
		}
		seen[number] = true
		each := p.fields[number]
		return at(each.name, each.decode(value, attachments, into.FieldByIndex(each.index)))
	})
	if err != nil {
		return err
	}
	for number, each := range p.fields {
		switch {
		case seen[number]:
		case each.fallback != nil:
			if err := each.plan.decode(each.fallback, nil, into.FieldByIndex(each.index)); err != nil {
				return err
			}
		case each.optional:
		case arguments:
			return fmt.Errorf("missing argument '%s'", each.name)
		default:
			return fmt.Errorf("missing '%s'", each.name)
		}
	}
	return nil
}

func (p *Plan) unknown(name string) error {
	names := make([]string, len(p.fields))
	for i, field := range p.fields {
		names[i] = field.name
	}
	known := strings.Join(names, ", ")
	if known == "" {
		known = "none"
	}
	return fmt.Errorf("unknown argument '%s'%s; known: %s", name, wire.Nearest(name, names), known)
}

func (f *field) decode(data []byte, attachments Attachments, into reflect.Value) error {
	if err := f.plan.decode(data, attachments, into); err != nil {
		return err
	}
	if !f.limits.anyConstraint {
		return nil
	}
	for into.Kind() == reflect.Pointer {
		if into.IsNil() {
			return nil
		}
		into = into.Elem()
	}
	return f.limits.check(into)
}

// check reports which limit a value passes.
func (l *limits) check(value reflect.Value) error {
	size, of := 0.0, ""
	switch value.Kind() {
	case reflect.String:
		text := value.String()
		if l.choices != nil {
			for _, choice := range l.choices {
				if text == choice {
					return nil
				}
			}
			return fmt.Errorf("expected one of %s, got '%.80s'%s", strings.Join(l.choices, ", "), text, wire.Nearest(text, l.choices))
		}
		if l.pattern != nil && !l.pattern.MatchString(text) {
			return fmt.Errorf("expected text that matches %s, got '%.80s'", l.pattern, text)
		}
		size, of = float64(utf8.RuneCountInString(text)), " characters"
	case reflect.Slice, reflect.Map:
		size, of = float64(value.Len()), " elements"
	case reflect.Float32, reflect.Float64:
		size = value.Float()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		size = float64(value.Int())
	default:
		size = float64(value.Uint())
	}
	switch {
	case l.least != nil && size < *l.least:
		return fmt.Errorf("expected at least %v%s, got %v", *l.least, of, size)
	case l.most != nil && size > *l.most:
		return fmt.Errorf("expected at most %v%s, got %v", *l.most, of, size)
	case l.above != nil && size <= *l.above:
		return fmt.Errorf("expected more than %v, got %v", *l.above, size)
	case l.below != nil && size >= *l.below:
		return fmt.Errorf("expected less than %v, got %v", *l.below, size)
	}
	return nil
}

// decodeAny decodes into plain types, with *wire.Attachment where one is meant.
func decodeAny(data []byte, attachments Attachments) (any, error) {
	switch kind := jsonscan.Kind(data); kind {
	case "object":
		members := map[string]any{}
		err := jsonscan.Object(data, func(name, value []byte) error {
			item, err := decodeAny(value, attachments)
			members[string(name)] = item
			return at(string(name), err)
		})
		if _, placeholder := members[wire.Placeholder]; placeholder && len(attachments) > 0 && err == nil {
			return attachmentAt(data, attachments)
		}
		return members, err
	case "array":
		items := []any{}
		err := jsonscan.Array(data, func(value []byte) error {
			item, err := decodeAny(value, attachments)
			items = append(items, item)
			return at(fmt.Sprintf("[%d]", len(items)-1), err)
		})
		return items, err
	case "string":
		return jsonscan.String(data)
	case "boolean":
		return jsonscan.Bool(data)
	case "integer":
		if value, err := jsonscan.Int(data); err == nil && value > -1<<53 && value < 1<<53 {
			return value, nil
		}
		return jsonscan.Float(data)
	case "number":
		value, err := jsonscan.Float(data)
		if err == nil && math.IsInf(value, 0) {
			err = errors.New("a number out of range")
		}
		return value, err
	}
	return nil, nil
}
