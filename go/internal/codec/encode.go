package codec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"smol.local/smol/internal/jsonscan"
	"smol.local/smol/wire"
)

const maxDepth = 200

// Encode returns the JSON of a value and the attachments met in it. It fails with INVALID_ARGUMENT for what JSON
// can't carry. A nil list is an empty one, a nil map an empty object.
func Encode(value any) ([]byte, Attachments, error) {
	var attachments Attachments
	data, err := appendValue(nil, reflect.ValueOf(value), &attachments, 0)
	if err != nil {
		return nil, nil, wire.Errorf(wire.InvalidArgument, "a value that JSON can't carry: %v", err)
	}
	return data, attachments, nil
}

func appendValue(to []byte, value reflect.Value, attachments *Attachments, depth int) ([]byte, error) {
	if !value.IsValid() {
		return append(to, "null"...), nil
	}
	if raw, is := value.Interface().([]byte); is && value.Type() != rawType {
		return nil, fmt.Errorf("%d bytes; use *wire.Attachment", len(raw))
	}
	plan, err := For(value.Type())
	if err != nil {
		return nil, err
	}
	return plan.encodeAt(to, value, attachments, depth)
}

func (p *Plan) encode(to []byte, value reflect.Value, attachments *Attachments) ([]byte, error) {
	return p.encodeAt(to, value, attachments, 0)
}

func (p *Plan) encodeAt(to []byte, value reflect.Value, attachments *Attachments, depth int) (_ []byte, err error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("a value that nests deeper than %d levels", maxDepth)
	}
	switch p.form {
	case formBool:
		return strconv.AppendBool(to, value.Bool()), nil
	case formInt:
		return strconv.AppendInt(to, value.Int(), 10), nil
	case formUint:
		return strconv.AppendUint(to, value.Uint(), 10), nil
	case formFloat:
		return jsonscan.AppendFloat(to, value.Float()), nil
	case formString:
		return jsonscan.AppendString(to, value.String()), nil
	case formPointer:
		if value.IsNil() {
			return append(to, "null"...), nil
		}
		return p.inner.encodeAt(to, value.Elem(), attachments, depth+1)
	case formSlice, formArray:
		to = append(to, '[')
		for i := range value.Len() {
			if i > 0 {
				to = append(to, ',')
			}
			if to, err = p.inner.encodeAt(to, value.Index(i), attachments, depth+1); err != nil {
				return nil, err
			}
		}
		return append(to, ']'), nil
	case formMap:
		return p.encodeMap(to, value, attachments, depth)
	case formStruct:
		return p.encodeStruct(to, value, attachments, depth)
	case formAny:
		return appendValue(to, value.Elem(), attachments, depth+1)
	case formRaw:
		return appendChecked(to, value.Bytes())
	case formTime:
		return jsonscan.AppendString(to, value.Interface().(time.Time).Format(time.RFC3339Nano)), nil
	case formAttachment:
		return p.encodeAttachment(to, value, attachments)
	}
	data, err := value.Interface().(json.Marshaler).MarshalJSON()
	if err != nil {
		return nil, err
	}
	return appendChecked(to, data)
}

func appendChecked(to, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return append(to, "null"...), nil
	}
	if err := jsonscan.Check(data); err != nil {
		return nil, err
	}
	return append(to, data...), nil
}

func (p *Plan) encodeAttachment(to []byte, value reflect.Value, attachments *Attachments) ([]byte, error) {
	attachment, is := value.Interface().(*wire.Attachment)
	if !is {
		copied := value.Interface().(wire.Attachment)
		attachment = &copied
	}
	if attachment == nil {
		return append(to, "null"...), nil
	}
	*attachments = append(*attachments, attachment)
	return append(strconv.AppendInt(append(to, `{"`+wire.Placeholder+`":`...), int64(len(*attachments)-1), 10), '}'), nil
}

func (p *Plan) encodeMap(to []byte, value reflect.Value, attachments *Attachments, depth int) (_ []byte, err error) {
	keys := value.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	to = append(to, '{')
	for i, key := range keys {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(jsonscan.AppendString(to, key.String()), ':')
		if to, err = p.inner.encodeAt(to, value.MapIndex(key), attachments, depth+1); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}

func (p *Plan) encodeStruct(to []byte, value reflect.Value, attachments *Attachments, depth int) (_ []byte, err error) {
	to = append(to, '{')
	first := true
	for _, each := range p.fields {
		inner := value.FieldByIndex(each.index)
		if each.omit && isEmpty(inner) {
			continue
		}
		if !first {
			to = append(to, ',')
		}
		first = false
		to = append(jsonscan.AppendString(to, each.name), ':')
		if to, err = each.plan.encodeAt(to, inner, attachments, depth+1); err != nil {
			return nil, fmt.Errorf("%s: %w", each.name, err)
		}
	}
	return append(to, '}'), nil
}

func isEmpty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Slice, reflect.Map:
		return value.Len() == 0
	}
	return value.IsZero()
}
