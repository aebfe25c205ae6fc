package wire

// ProtocolVersion is the version that this package speaks.
const ProtocolVersion = 1

const (
	// MaxID is the greatest id: every JSON library holds integers up to here exactly.
	MaxID = 1<<53 - 1
	// MaxCredit is the most items that a stream may be allowed at once.
	MaxCredit = 1<<31 - 1
)

// Kind is the type of a message.
type Kind uint8

// The kinds of messages; KindUnknown is one of a newer protocol.
const (
	KindUnknown Kind = iota
	KindHello
	KindWelcome
	KindCall
	KindResult
	KindError
	KindItem
	KindEnd
	KindProgress
	KindCredit
	KindCancel
	KindPublish
	KindSubscribe
	KindUnsubscribe
	KindEvent
	KindPing
	KindPong
	KindDrain
	kindCount
)

var kindNames = [kindCount]string{
	"unknown", "hello", "welcome", "call", "result", "error", "item", "end", "progress", "credit", "cancel", "publish",
	"subscribe", "unsubscribe", "event", "ping", "pong", "drain",
}

var kindsByName = func() map[string]Kind {
	kinds := make(map[string]Kind, kindCount)
	for kind := KindHello; kind < kindCount; kind++ {
		kinds[kindNames[kind]] = kind
	}
	return kinds
}()

// String returns the name on the wire.
func (k Kind) String() string { return kindNames[k] }

// Message is one of the types below, as a pointer.
type Message interface {
	// Kind returns the type of the message.
	Kind() Kind
	// appendFields appends ,"name":value for each field that is not its default.
	appendFields(to []byte) []byte
	// setField takes a field; one it does not know is ignored.
	setField(name string, value []byte) error
	// check is asked once all fields are set.
	check() error
}

// Raw is JSON that is passed on as it is. Empty stands for the default of its field.
type Raw []byte

// AttachmentHeader is one attachment's share of the body, in order.
type AttachmentHeader struct {
	Bytes     uint32
	MediaType string // empty: application/octet-stream
	Name      string // empty: none
}

// OperationDescription is one operation as its unit declares it.
type OperationDescription struct {
	Name        string
	Summary     string
	Description string
	Input       Raw // JSON Schema of the arguments; empty: {}
	Output      Raw // JSON Schema of the result, or of one item; empty: {}
	Streaming   bool
	Idempotent  bool
	ReadOnly    bool
	Destructive bool
}

// UnitDescription is what a worker serves: a unit's name, version and operations.
type UnitDescription struct {
	Name       string
	Version    string // empty: "0"
	Summary    string
	Operations []OperationDescription
}

// The messages. Their fields are described in docs/reference/wire.md.
type (
	// Hello is the first message of whoever connects.
	Hello struct {
		Protocol int64
		Name     string
		Units    []UnitDescription
		Limits   Limits // zero: the defaults
	}
	// Welcome is the host's answer to Hello.
	Welcome struct {
		Protocol int64
		Name     string
		Limits   Limits // zero: the defaults
	}
	// Call asks for an operation, "unit.operation".
	Call struct {
		ID          uint64
		Operation   string
		Arguments   Raw // empty: {}
		Attachments []AttachmentHeader
		BudgetMS    uint64 // 0: no deadline
		Credit      uint32
		Trace       string
		Key         string
	}
	// Result is the one answer of a unary call; it also acknowledges Subscribe.
	Result struct {
		ID          uint64
		Value       Raw // empty: null
		Attachments []AttachmentHeader
	}
	// ErrorMessage says that a call failed; with ID 0, that the connection did.
	ErrorMessage struct {
		ID      uint64
		Code    Code // empty: INTERNAL
		Message string
		Details Raw // empty: {}
	}
	// Item is one item of a stream.
	Item struct {
		ID          uint64
		Value       Raw // empty: null
		Attachments []AttachmentHeader
	}
	// End says that a stream is complete.
	End struct{ ID uint64 }
	// Progress tells how far a call has come: 0 to 1, or below 0 when unknown.
	Progress struct {
		ID       uint64
		Fraction float64
		Message  string
	}
	// Credit lets a stream send more items.
	Credit struct {
		ID    uint64
		Items uint32
	}
	// Cancel says that nobody wants the answer any more.
	Cancel struct {
		ID     uint64
		Reason string
	}
	// Publish tells whoever subscribed to the topic.
	Publish struct {
		Topic string
		Data  Raw // empty: null
	}
	// Subscribe asks for the events of a topic; * at its end stands for any rest.
	Subscribe struct {
		ID    uint64
		Topic string
	}
	// Unsubscribe ends a subscription.
	Unsubscribe struct{ ID uint64 }
	// Event is an event for a subscription.
	Event struct {
		ID      uint64
		Topic   string
		Data    Raw // empty: null
		Dropped uint64
	}
	// Ping is answered by Pong.
	Ping struct{ Nonce uint64 }
	// Pong answers Ping.
	Pong struct{ Nonce uint64 }
	// Drain says that the sender takes no new calls.
	Drain struct{}
	// Unknown is a message of a type that this side does not know. ID is 0 when it has none.
	Unknown struct {
		Type string
		ID   int64
	}
)

// Kind returns KindHello.
func (*Hello) Kind() Kind { return KindHello }

// Kind returns KindWelcome.
func (*Welcome) Kind() Kind { return KindWelcome }

// Kind returns KindCall.
func (*Call) Kind() Kind { return KindCall }

// Kind returns KindResult.
func (*Result) Kind() Kind { return KindResult }

// Kind returns KindError.
func (*ErrorMessage) Kind() Kind { return KindError }

// Kind returns KindItem.
func (*Item) Kind() Kind { return KindItem }

// Kind returns KindEnd.
func (*End) Kind() Kind { return KindEnd }

// Kind returns KindProgress.
func (*Progress) Kind() Kind { return KindProgress }

// Kind returns KindCredit.
func (*Credit) Kind() Kind { return KindCredit }

// Kind returns KindCancel.
func (*Cancel) Kind() Kind { return KindCancel }

// Kind returns KindPublish.
func (*Publish) Kind() Kind { return KindPublish }

// Kind returns KindSubscribe.
func (*Subscribe) Kind() Kind { return KindSubscribe }

// Kind returns KindUnsubscribe.
func (*Unsubscribe) Kind() Kind { return KindUnsubscribe }

// Kind returns KindEvent.
func (*Event) Kind() Kind { return KindEvent }

// Kind returns KindPing.
func (*Ping) Kind() Kind { return KindPing }

// Kind returns KindPong.
func (*Pong) Kind() Kind { return KindPong }

// Kind returns KindDrain.
func (*Drain) Kind() Kind { return KindDrain }

// Kind returns KindUnknown.
func (*Unknown) Kind() Kind { return KindUnknown }
