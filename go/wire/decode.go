package wire

import (
	"errors"
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
