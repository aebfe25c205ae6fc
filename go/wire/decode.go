package wire

import (
	"errors"
	"fmt"
	"math"

	"smol.local/smol/internal/jsonscan"
)

var newMessage = [kindCount]func() Message{
	KindHello:       func() Message { return &Hello{Protocol: noProtocol, Limits: DefaultLimits} },
	KindWelcome:     func() Message { return &Welcome{Protocol: noProtocol, Limits: DefaultLimits} },
	KindCall:        func() Message { return &Call{Operation: unset} },
	KindResult:      func() Message { return &Result{} },
	KindError:       func() Message { return &ErrorMessage{Code: Internal} },
	KindItem:        func() Message { return &Item{} },
	KindEnd:         func() Message { return &End{} },
	KindProgress:    func() Message { return &Progress{Fraction: -1} },
	KindCredit:      func() Message { return &Credit{} },
	KindCancel:      func() Message { return &Cancel{} },
	KindPublish:     func() Message { return &Publish{Topic: unset} },
	KindSubscribe:   func() Message { return &Subscribe{Topic: unset} },
	KindUnsubscribe: func() Message { return &Unsubscribe{} },
	KindEvent:       func() Message { return &Event{Topic: unset} },
	KindPing:        func() Message { return &Ping{} },
	KindPong:        func() Message { return &Pong{} },
	KindDrain:       func() Message { return &Drain{} },
}

// unset marks a required text that may be empty. It is no UTF-8, so that nobody can send it.
const unset = "\xff"

// noProtocol marks a protocol version that was not said.
const noProtocol = math.MinInt64

type member struct {
	name  string
	value []byte
}

// DecodeMessage returns the message in a frame's header, or an *Error when it is malformed. Values of the
// message refer to the header's memory.
func DecodeMessage(header []byte) (Message, error) {
	if err := jsonscan.Check(header); err != nil {
		return nil, Errorf(InvalidArgument, "a frame header that is not a message: %v", err)
	}
	var store [8]member
	members := store[:0]
	kindName, typed := "", false
	err := jsonscan.Object(header, func(name, value []byte) error {
		if string(name) == "type" {
			typed = true
			text, err := jsonscan.String(value)
			kindName = text
			return err
		}
		members = append(members, member{fieldName(name), value})
		return nil
	})
	if err == nil && (!typed || kindName == "") {
		err = errors.New("it has no type")
	}
	if err != nil {
		return nil, Errorf(InvalidArgument, "a frame header that is not a message: %v", err)
	}
	kind := kindsByName[kindName]
	message := Message(&Unknown{Type: kindName})
	if kind != KindUnknown {
		message = newMessage[kind]()
	}
	for _, field := range members {
		if err := message.setField(field.name, field.value); err != nil {
			return nil, Errorf(InvalidArgument, "a malformed %.40s message: %s: %v", kindName, field.name, err)
		}
	}
	if err := message.check(); err != nil {
		return nil, Errorf(InvalidArgument, "a malformed %.40s message: %v", kindName, err)
	}
	return message, nil
}

// fieldName returns a name as a string, without a copy for those that messages have.
func fieldName(name []byte) string {
	switch string(name) {
	case "id":
		return "id"
	case "operation":
		return "operation"
	case "arguments":
		return "arguments"
	case "budget_ms":
		return "budget_ms"
	case "value":
		return "value"
	case "attachments":
		return "attachments"
	case "credit":
		return "credit"
	case "trace":
		return "trace"
	case "key":
		return "key"
	case "items":
		return "items"
	}
	return string(name)
}

func readCount(to *uint64, value []byte) error {
	number, err := jsonscan.Uint(value)
	if err == nil && number > MaxID {
		err = fmt.Errorf("%d is over 2^53 - 1", number)
	}
	*to = number
	return err
}

func readUint32(to *uint32, value []byte, most uint64) error {
	number, err := jsonscan.Uint(value)
	if err == nil && number > most {
		err = fmt.Errorf("%d is over %d", number, most)
	}
	*to = uint32(number)
	return err
}

func readText(to *string, value []byte) (err error) {
	*to, err = jsonscan.String(value)
	return err
}

func readBool(to *bool, value []byte) (err error) {
	*to, err = jsonscan.Bool(value)
	return err
}

func readObject(to *Raw, value []byte) error {
	if value[0] != '{' {
		return fmt.Errorf("expected object, got %s", jsonscan.Kind(value))
	}
	*to = value
	return checkNumbers(value)
}

// checkNumbers refuses numbers that no double can hold, in objects that are read as a whole.
func checkNumbers(value []byte) error {
	switch jsonscan.Kind(value) {
	case "object":
		return jsonscan.Object(value, func(_, value []byte) error { return checkNumbers(value) })
	case "array":
		return jsonscan.Array(value, checkNumbers)
	case "number":
		_, err := jsonscan.Float(value)
		return err
	}
	return nil
}

func readObjects[T any](to *[]T, value []byte, read func(to *T, value []byte) error) error {
	*to = nil
	return jsonscan.Array(value, func(value []byte) error {
		var item T
		err := read(&item, value)
		*to = append(*to, item)
		return err
	})
}

func readAttachment(to *AttachmentHeader, value []byte) error {
	sized := false
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "bytes":
			sized = true
			return readUint32(&to.Bytes, value, MaxBytes)
		case "media_type":
			return readText(&to.MediaType, value)
		case "name":
			if to.Name = ""; jsonscan.IsNull(value) {
				return nil
			}
			return readText(&to.Name, value)
		}
		return nil
	})
	if err == nil && !sized {
		err = errors.New("an attachment without bytes")
	}
	return err
}

func readLimits(to *Limits, value []byte) error {
	*to = DefaultLimits
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "header_bytes":
			return readUint32(&to.HeaderBytes, value, MaxBytes)
		case "body_bytes":
			return readUint32(&to.BodyBytes, value, MaxBytes)
		}
		return nil
	})
	if err == nil {
		err = to.check()
	}
	return err
}

func readUnit(to *UnitDescription, value []byte) error {
	to.Name, to.Version = unset, "0"
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "name":
			return readText(&to.Name, value)
		case "version":
			return readText(&to.Version, value)
		case "summary":
			return readText(&to.Summary, value)
		case "operations":
			return readObjects(&to.Operations, value, readOperation)
		}
		return nil
	})
	return required(err, to.Name, "name")
}

func readOperation(to *OperationDescription, value []byte) error {
	to.Name = unset
	err := jsonscan.Object(value, func(name, value []byte) error {
		switch string(name) {
		case "name":
			return readText(&to.Name, value)
		case "summary":
			return readText(&to.Summary, value)
		case "description":
			return readText(&to.Description, value)
		case "input":
			return readObject(&to.Input, value)
		case "output":
			return readObject(&to.Output, value)
		case "streaming":
			return readBool(&to.Streaming, value)
		case "idempotent":
			return readBool(&to.Idempotent, value)
		case "read_only":
			return readBool(&to.ReadOnly, value)
		case "destructive":
			return readBool(&to.Destructive, value)
		}
		return nil
	})
	return required(err, to.Name, "name")
}

func required(err error, text, name string) error {
	if err == nil && text == unset {
		return fmt.Errorf("no %s", name)
	}
	return err
}

func requireID(id uint64) error {
	if id == 0 {
		return errors.New("no id of 1 or more")
	}
	return nil
}

func (m *Hello) setField(name string, value []byte) error {
	switch name {
	case "protocol":
		return readProtocol(&m.Protocol, value)
	case "name":
		return readText(&m.Name, value)
	case "units":
		return readObjects(&m.Units, value, readUnit)
	case "limits":
		return readLimits(&m.Limits, value)
	}
	return nil
}

func (m *Welcome) setField(name string, value []byte) error {
	switch name {
	case "protocol":
		return readProtocol(&m.Protocol, value)
	case "name":
		return readText(&m.Name, value)
	case "limits":
		return readLimits(&m.Limits, value)
	}
	return nil
}

// readProtocol takes any integer: a version that is not ours is refused as such.
func readProtocol(to *int64, value []byte) error { return readAnyInteger(to, value) }

// readAnyInteger takes integers of any size; those that are beyond 64 bits become the greatest.
func readAnyInteger(to *int64, value []byte) (err error) {
	if *to, err = jsonscan.Int(value); err != nil && jsonscan.Kind(value) == "integer" {
		*to, err = math.MaxInt64, nil
	}
	return err
}

func checkProtocol(protocol int64) error {
	if protocol == noProtocol {
		return errors.New("no protocol")
	}
	return nil
}

func (m *Call) setField(name string, value []byte) error {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "operation":
		return readText(&m.Operation, value)
	case "arguments":
		m.Arguments = value
	case "attachments":
		return readObjects(&m.Attachments, value, readAttachment)
	case "budget_ms":
		return readCount(&m.BudgetMS, value)
	case "credit":
		return readUint32(&m.Credit, value, MaxCredit)
	case "trace":
		return readText(&m.Trace, value)
	case "key":
		return readText(&m.Key, value)
	}
	return nil
}

func (m *Result) setField(name string, value []byte) error {
	return setAnswer(&m.ID, &m.Value, &m.Attachments, name, value)
}

func (m *Item) setField(name string, value []byte) error {
	return setAnswer(&m.ID, &m.Value, &m.Attachments, name, value)
}

func setAnswer(id *uint64, answer *Raw, attachments *[]AttachmentHeader, name string, value []byte) error {
	switch name {
	case "id":
		return readCount(id, value)
	case "value":
		*answer = value
	case "attachments":
		return readObjects(attachments, value, readAttachment)
	}
	return nil
}

func (m *ErrorMessage) setField(name string, value []byte) error {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "code":
		return readText((*string)(&m.Code), value)
	case "message":
		return readText(&m.Message, value)
	case "details":
		return readObject(&m.Details, value)
	}
	return nil
}

func (m *Progress) setField(name string, value []byte) (err error) {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "fraction":
		m.Fraction, err = jsonscan.Float(value)
	case "message":
		return readText(&m.Message, value)
	}
	return err
}

func (m *Credit) setField(name string, value []byte) error {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "items":
		return readUint32(&m.Items, value, MaxCredit)
	}
	return nil
}

func (m *Cancel) setField(name string, value []byte) error {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "reason":
		return readText(&m.Reason, value)
	}
	return nil
}

func (m *Publish) setField(name string, value []byte) error {
	switch name {
	case "topic":
		return readText(&m.Topic, value)
	case "data":
		m.Data = value
	}
	return nil
}

func (m *Subscribe) setField(name string, value []byte) error {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "topic":
		return readText(&m.Topic, value)
	}
	return nil
}

func (m *Event) setField(name string, value []byte) error {
	switch name {
	case "id":
		return readCount(&m.ID, value)
	case "topic":
		return readText(&m.Topic, value)
	case "data":
		m.Data = value
	case "dropped":
		return readCount(&m.Dropped, value)
	}
	return nil
}

func (m *Unknown) setField(name string, value []byte) error {
	if name == "id" {
		return readAnyInteger(&m.ID, value)
	}
	return nil
}

func setOne(to *uint64, wanted, name string, value []byte) error {
	if name == wanted {
		return readCount(to, value)
	}
	return nil
}

func (m *End) setField(name string, value []byte) error { return setOne(&m.ID, "id", name, value) }
func (m *Unsubscribe) setField(name string, value []byte) error {
	return setOne(&m.ID, "id", name, value)
}
func (m *Ping) setField(name string, value []byte) error {
	return setOne(&m.Nonce, "nonce", name, value)
}
func (m *Pong) setField(name string, value []byte) error {
	return setOne(&m.Nonce, "nonce", name, value)
}
func (m *Drain) setField(string, []byte) error { return nil }

func (m *Call) check() error {
	return required(requireID(m.ID), m.Operation, "operation")
}

func (m *Credit) check() error {
	if m.Items == 0 {
		return errors.New("no items of 1 or more")
	}
	return requireID(m.ID)
}

func (m *Hello) check() error        { return checkProtocol(m.Protocol) }
func (m *Welcome) check() error      { return checkProtocol(m.Protocol) }
func (m *Result) check() error       { return requireID(m.ID) }
func (m *ErrorMessage) check() error { return nil }
func (m *Item) check() error         { return requireID(m.ID) }
func (m *End) check() error          { return requireID(m.ID) }
func (m *Progress) check() error     { return requireID(m.ID) }
func (m *Cancel) check() error       { return requireID(m.ID) }
func (m *Publish) check() error      { return required(nil, m.Topic, "topic") }
func (m *Subscribe) check() error    { return required(requireID(m.ID), m.Topic, "topic") }
func (m *Unsubscribe) check() error  { return requireID(m.ID) }
func (m *Event) check() error        { return required(requireID(m.ID), m.Topic, "topic") }
func (m *Ping) check() error         { return nil }
func (m *Pong) check() error         { return nil }
func (m *Drain) check() error        { return nil }
func (m *Unknown) check() error      { return nil }
