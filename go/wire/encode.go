package wire

import (
	"strconv"

	"smol.local/smol/internal/jsonscan"
)

// appendMessage appends the JSON header of a message. Fields that have their default are left out.
func appendMessage(to []byte, message Message) []byte {
	to = append(to, `{"type":"`...)
	to = append(to, message.Kind().String()...)
	to = append(to, '"')
	return append(message.appendFields(to), '}')
}

func appendName(to []byte, name string) []byte {
	if to[len(to)-1] != '{' {
		to = append(to, ',')
	}
	return append(append(append(to, '"'), name...), '"', ':')
}

func appendText(to []byte, name, value string) []byte {
	if value == "" {
		return to
	}
	return jsonscan.AppendString(appendName(to, name), value)
}

func appendCount(to []byte, name string, value uint64) []byte {
	if value == 0 {
		return to
	}
	return strconv.AppendUint(appendName(to, name), value, 10)
}

func appendRaw(to []byte, name string, value Raw) []byte {
	if len(value) == 0 {
		return to
	}
	return append(appendName(to, name), value...)
}

func appendTrue(to []byte, name string, value bool) []byte {
	if !value {
		return to
	}
	return append(appendName(to, name), "true"...)
}

func appendObjects[T any](to []byte, name string, items []T, fields func(to []byte, item *T) []byte) []byte {
	if len(items) == 0 {
		return to
	}
	to = append(appendName(to, name), '[')
	for i := range items {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(fields(append(to, '{'), &items[i]), '}')
	}
	return append(to, ']')
}

func appendAttachments(to []byte, headers []AttachmentHeader) []byte {
	return appendObjects(to, "attachments", headers, func(to []byte, header *AttachmentHeader) []byte {
		to = strconv.AppendUint(appendName(to, "bytes"), uint64(header.Bytes), 10)
		return appendText(appendText(to, "media_type", header.MediaType), "name", header.Name)
	})
}

func appendLimits(to []byte, limits Limits) []byte {
	if limits == (Limits{}) || limits == DefaultLimits {
		return to
	}
	to = strconv.AppendUint(append(appendName(to, "limits"), `{"header_bytes":`...), uint64(limits.HeaderBytes), 10)
	return append(strconv.AppendUint(append(to, `,"body_bytes":`...), uint64(limits.BodyBytes), 10), '}')
}

func appendUnit(to []byte, unit *UnitDescription) []byte {
	to = jsonscan.AppendString(appendName(to, "name"), unit.Name)
	to = appendText(appendText(to, "version", unit.Version), "summary", unit.Summary)
	return appendObjects(to, "operations", unit.Operations, func(to []byte, operation *OperationDescription) []byte {
		to = jsonscan.AppendString(appendName(to, "name"), operation.Name)
		to = appendText(to, "summary", operation.Summary)
		to = appendText(to, "description", operation.Description)
		to = appendRaw(appendRaw(to, "input", operation.Input), "output", operation.Output)
		to = appendTrue(appendTrue(to, "streaming", operation.Streaming), "idempotent", operation.Idempotent)
		return appendTrue(appendTrue(to, "read_only", operation.ReadOnly), "destructive", operation.Destructive)
	})
}

func (m *Hello) appendFields(to []byte) []byte {
	to = strconv.AppendInt(appendName(to, "protocol"), m.Protocol, 10)
	to = appendObjects(appendText(to, "name", m.Name), "units", m.Units, appendUnit)
	return appendLimits(to, m.Limits)
}

func (m *Welcome) appendFields(to []byte) []byte {
	to = strconv.AppendInt(appendName(to, "protocol"), m.Protocol, 10)
	return appendLimits(appendText(to, "name", m.Name), m.Limits)
}

func (m *Call) appendFields(to []byte) []byte {
	to = jsonscan.AppendString(appendName(appendCount(to, "id", m.ID), "operation"), m.Operation)
	to = appendAttachments(appendRaw(to, "arguments", m.Arguments), m.Attachments)
	to = appendCount(appendCount(to, "budget_ms", m.BudgetMS), "credit", uint64(m.Credit))
	return appendText(appendText(to, "trace", m.Trace), "key", m.Key)
}

func (m *Result) appendFields(to []byte) []byte {
	return appendAttachments(appendRaw(appendCount(to, "id", m.ID), "value", m.Value), m.Attachments)
}

func (m *Item) appendFields(to []byte) []byte {
	return appendAttachments(appendRaw(appendCount(to, "id", m.ID), "value", m.Value), m.Attachments)
}

func (m *ErrorMessage) appendFields(to []byte) []byte {
	to = appendText(appendCount(to, "id", m.ID), "code", string(m.Code))
	to = appendText(to, "message", m.Message)
	if len(m.Details) > len("{}") {
		to = appendRaw(to, "details", m.Details)
	}
	return to
}

func (m *Progress) appendFields(to []byte) []byte {
	to = appendCount(to, "id", m.ID)
	if m.Fraction >= 0 {
		to = jsonscan.AppendFloat(appendName(to, "fraction"), m.Fraction)
	}
	return appendText(to, "message", m.Message)
}

func (m *Credit) appendFields(to []byte) []byte {
	return appendCount(appendCount(to, "id", m.ID), "items", uint64(m.Items))
}

func (m *Cancel) appendFields(to []byte) []byte {
	return appendText(appendCount(to, "id", m.ID), "reason", m.Reason)
}

func (m *Publish) appendFields(to []byte) []byte {
	return appendRaw(jsonscan.AppendString(appendName(to, "topic"), m.Topic), "data", m.Data)
}

func (m *Subscribe) appendFields(to []byte) []byte {
	return jsonscan.AppendString(appendName(appendCount(to, "id", m.ID), "topic"), m.Topic)
}

func (m *Event) appendFields(to []byte) []byte {
	to = jsonscan.AppendString(appendName(appendCount(to, "id", m.ID), "topic"), m.Topic)
	return appendCount(appendRaw(to, "data", m.Data), "dropped", m.Dropped)
}

func (m *End) appendFields(to []byte) []byte         { return appendCount(to, "id", m.ID) }
func (m *Unsubscribe) appendFields(to []byte) []byte { return appendCount(to, "id", m.ID) }
func (m *Ping) appendFields(to []byte) []byte        { return appendCount(to, "nonce", m.Nonce) }
func (m *Pong) appendFields(to []byte) []byte        { return appendCount(to, "nonce", m.Nonce) }
func (m *Drain) appendFields(to []byte) []byte       { return to }
func (m *Unknown) appendFields(to []byte) []byte     { return to }
