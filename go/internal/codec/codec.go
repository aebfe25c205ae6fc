// Package codec is how Go values travel: their JSON Schema, their JSON with attachments beside it, and back,
// all three from one plan made of the Go type and its struct tags.
package codec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"smol.local/smol/internal/jsonscan"
	"smol.local/smol/wire"
)

type form uint8

const (
	formBool form = iota
	formInt
	formUint
	formFloat
	formString
	formPointer
	formSlice
	formArray
	formMap
	formStruct
	formAny
	formRaw
	formTime
	formAttachment
	formCustom
)

var words = map[form]string{
	formBool: "boolean", formInt: "integer", formUint: "integer", formFloat: "number", formString: "string",
	formSlice: "array", formArray: "array", formMap: "object", formStruct: "object",
}

// Plan is how values of one Go type travel.
type Plan struct {
	form   form
	goType reflect.Type
	inner  *Plan // of a pointer, list or map
	fields []*field
	byName map[string]int
	doc    string
	// attachments tells whether values may hold some.
	attachments bool
}

type field struct {
	name     string
	index    []int
	plan     *Plan
	limits   limits
	fallback []byte // default, as JSON; nil: none
	optional bool
	omit     bool // when empty
	doc      string
}

// limits are what a field's tags demand of its value.
type limits struct {
	least, most   *float64
	above, below  *float64
	pattern       *regexp.Regexp
	choices       []string
	anyConstraint bool
}

var (
	attachmentType    = reflect.TypeFor[wire.Attachment]()
	attachmentPointer = reflect.TypeFor[*wire.Attachment]()
	timeType          = reflect.TypeFor[time.Time]()
	durationType      = reflect.TypeFor[time.Duration]()
	rawType           = reflect.TypeFor[json.RawMessage]()
	marshaler         = reflect.TypeFor[json.Marshaler]()
	unmarshaler       = reflect.TypeFor[json.Unmarshaler]()
)

var (
	plansMu sync.Mutex
	plans   sync.Map // reflect.Type to *Plan; only whole ones
)

// For returns the plan of a type. It fails for types that JSON can't carry, saying what to use in their place.
func For(kind reflect.Type) (*Plan, error) {
	if known, ok := plans.Load(kind); ok {
		return known.(*Plan), nil
	}
	plansMu.Lock()
	defer plansMu.Unlock()
	making := map[reflect.Type]*Plan{}
	plan, err := compile(kind, making)
	if err != nil {
		return nil, err
	}
	for settled := false; !settled; { // Types may refer to each other in circles.
		settled = true
		for _, each := range making {
			if !each.attachments && each.mayHold() {
				each.attachments, settled = true, false
			}
		}
	}
	for kind, each := range making {
		plans.Store(kind, each)
	}
	return plan, nil
}

func (p *Plan) mayHold() bool {
	if p.form == formAttachment || p.form == formAny || (p.inner != nil && p.inner.attachments) {
		return true
	}
	for _, field := range p.fields {
		if field.plan.attachments {
			return true
		}
	}
	return false
}

func compile(kind reflect.Type, making map[reflect.Type]*Plan) (*Plan, error) {
	if known, ok := making[kind]; ok {
		return known, nil
	}
	if known, ok := plans.Load(kind); ok {
		return known.(*Plan), nil
	}
	plan := &Plan{goType: kind}
	making[kind] = plan
	err := plan.fill(kind, making)
	return plan, err
}

func (p *Plan) fill(kind reflect.Type, making map[reflect.Type]*Plan) (err error) {
	switch {
	case kind == attachmentType || kind == attachmentPointer:
		p.form = formAttachment
		return nil
	case kind == timeType:
		p.form = formTime
		return nil
	case kind == rawType:
		p.form = formRaw
		return nil
	case kind == durationType:
		return fmt.Errorf("time.Duration has no unit in JSON; use a number with the unit in its name, as timeout_seconds")
	case kind.Implements(marshaler) && reflect.PointerTo(kind).Implements(unmarshaler):
		p.form = formCustom
		return nil
	}
	switch kind.Kind() {
	case reflect.Bool:
		p.form = formBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.form = formInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.form = formUint
	case reflect.Float32, reflect.Float64:
		p.form = formFloat
	case reflect.String:
		p.form = formString
	case reflect.Interface:
		if kind.NumMethod() > 0 {
			return fmt.Errorf("%v has no schema; use a struct, or any", kind)
		}
		p.form = formAny
	case reflect.Pointer:
		p.form = formPointer
	case reflect.Slice:
		p.form = formSlice
	case reflect.Array:
		p.form = formArray
	case reflect.Map:
		p.form = formMap
	case reflect.Struct:
		p.form = formStruct
		return p.fillStruct(kind, making)
	default:
		return fmt.Errorf("%v has no schema; use JSON types, structs or *wire.Attachment", kind)
	}
	if p.form < formPointer || p.form > formMap {
		return nil
	}
	if kind.Elem().Kind() == reflect.Uint8 && p.form != formMap && p.form != formPointer {
		return fmt.Errorf("%v: bytes can't be part of JSON; use *wire.Attachment", kind)
	}
	if p.form == formMap && kind.Key().Kind() != reflect.String {
		return fmt.Errorf("%v: names of JSON members are strings", kind)
	}
	p.inner, err = compile(kind.Elem(), making)
	return err
}

func (p *Plan) fillStruct(kind reflect.Type, making map[reflect.Type]*Plan) error {
	p.byName = map[string]int{}
	for _, each := range reflect.VisibleFields(kind) {
		if each.Name == "_" && len(each.Index) == 1 {
			p.doc = each.Tag.Get("doc")
		}
		tag, options, _ := strings.Cut(each.Tag.Get("json"), ",")
		if !each.IsExported() || tag == "-" || (each.Anonymous && tag == "" && structOf(each.Type)) || hidden(kind, each) {
			continue
		}
		made, err := newField(each, tag, options, making)
		if err != nil {
			return fmt.Errorf("%v.%s: %w", kind, each.Name, err)
		}
		if _, twice := p.byName[made.name]; twice {
			return fmt.Errorf("%v: two fields are named %q", kind, made.name)
		}
		p.byName[made.name] = len(p.fields)
		p.fields = append(p.fields, made)
	}
	return nil
}

func structOf(kind reflect.Type) bool { return kind.Kind() == reflect.Struct && kind != timeType }

// hidden reports whether a field is reached through an embedded one that has a name of its own, or a pointer.
func hidden(kind reflect.Type, each reflect.StructField) bool {
	for end := 1; end < len(each.Index); end++ {
		outer := kind.FieldByIndex(each.Index[:end])
		if name, _, _ := strings.Cut(outer.Tag.Get("json"), ","); name != "" || !structOf(outer.Type) {
			return true
		}
	}
	return false
}

func newField(each reflect.StructField, tag, options string, making map[reflect.Type]*Plan) (*field, error) {
	plan, err := compile(each.Type, making)
	if err != nil {
		return nil, err
	}
	made := &field{name: tag, index: each.Index, plan: plan, doc: each.Tag.Get("doc")}
	if made.name == "" {
		made.name = each.Name
	}
	made.omit = strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
	made.optional = made.omit || plan.form == formPointer
	if made.limits, err = readLimits(each.Tag, plan); err != nil {
		return nil, err
	}
	if text, given := each.Tag.Lookup("default"); given {
		made.optional, made.fallback = true, []byte(text)
		if plan.base().form == formString && !strings.HasPrefix(text, `"`) {
			made.fallback = jsonscan.AppendString(nil, text)
		}
		value := reflect.New(each.Type).Elem()
		err := jsonscan.Check(made.fallback)
		if err == nil {
			err = made.decode(made.fallback, nil, value)
		}
		if err != nil {
			return nil, fmt.Errorf("its default %s does not fit: %w", text, err)
		}
	}
	return made, nil
}

// base is the plan behind pointers.
func (p *Plan) base() *Plan {
	for p.form == formPointer {
		p = p.inner
	}
	return p
}

func readLimits(tag reflect.StructTag, plan *Plan) (limits, error) {
	var found limits
	base := plan.base()
	for name, to := range map[string]**float64{
		"min": &found.least, "max": &found.most, "above": &found.above, "below": &found.below,
	} {
		text, given := tag.Lookup(name)
		if !given {
			continue
		}
		number, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return found, fmt.Errorf("tag %s:%q is no number", name, text)
		}
		switch base.form {
		case formInt, formUint, formFloat:
		case formString, formSlice, formMap:
			if name == "above" || name == "below" {
				return found, fmt.Errorf("tag %s is for numbers", name)
			}
		default:
			return found, fmt.Errorf("tag %s does not go with %v", name, plan.goType)
		}
		*to, found.anyConstraint = &number, true
	}
	pattern, hasPattern := tag.Lookup("pattern")
	choices, hasChoices := tag.Lookup("enum")
	if (hasPattern || hasChoices) && base.form != formString {
		return found, fmt.Errorf("tags pattern and enum are for strings")
	}
	if hasPattern {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return found, err
		}
		found.pattern, found.anyConstraint = expression, true
	}
	if hasChoices {
		found.choices, found.anyConstraint = strings.Split(choices, ","), true
	}
	return found, nil
}
