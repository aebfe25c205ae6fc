package wire

// subscription stands in serving for a subscription, where a call has its credit.
const subscription = -1

// Session is the state of one side of a connection, by the tables of docs/reference/wire.md. It is fed
// frames and says what may be sent; it holds no payload and does no I/O. What one session agrees to send,
// another agrees to receive. It is not safe for concurrent use: [Conn] is.
type Session struct {
	role       Role
	limits     Limits
	sendLimits Limits
	state      State
	calls      map[uint64]callState // ours
	granted    map[uint64]int64     // items that our streams may still send
	serving    map[uint64]int64     // the other side's with us, and how many items of each it can take
	streaming  map[uint64]bool      // of those, the ones that have sent an item
	lastID     uint64
}

// NewSession returns a session before its handshake.
func NewSession(role Role, limits Limits) *Session {
	return &Session{
		role: role, limits: limits, sendLimits: limits,
		calls: map[uint64]callState{}, granted: map[uint64]int64{},
		serving: map[uint64]int64{}, streaming: map[uint64]bool{},
	}
}

// State returns where the connection stands.
func (s *Session) State() State { return s.state }

// NextID returns a fresh id for a call of ours.
func (s *Session) NextID() uint64 {
	s.lastID++
	return s.lastID
}

// AppendSend appends the frame of a message, without its body. It fails when the message is not legal now
// (FAILED_PRECONDITION), does not agree with its body (INVALID_ARGUMENT) or is larger than the other side
// accepts (RESOURCE_EXHAUSTED); then nothing has changed.
func (s *Session) AppendSend(to []byte, message Message, bodyBytes int64) ([]byte, error) {
	kind := message.Kind()
	next := legal[s.role][s.state][kind]
	if next == illegal {
		return to, Errorf(FailedPrecondition, "%s can't be sent by the %s while %s", kind, s.role, s.state)
	}
	if bodyBytes > int64(s.sendLimits.BodyBytes) {
		return to, bodyTooLarge(bodyBytes, s.sendLimits.BodyBytes)
	}
	if err := checkBody(message, bodyBytes); err != nil {
		return to, err
	}
	if err := s.maySend(message); err != nil {
		return to, err
	}
	start := len(to)
	to = appendFrame(to, message, bodyBytes)
	if size := uint32(len(to) - start - prefixBytes); size > s.sendLimits.HeaderBytes {
		return to[:start], headerTooLarge(size, s.sendLimits.HeaderBytes)
	}
	s.sent(message)
	s.state = next
	if isFarewell(message) {
		s.state = Closed
	}
	return to, nil
}

// maySend reports what is wrong with a message now; it changes nothing.
func (s *Session) maySend(message Message) error {
	switch m := message.(type) {
	case *Call:
		if m.Credit > MaxCredit {
			return Errorf(FailedPrecondition, "a credit of %d items: 0 to %d", m.Credit, MaxCredit)
		}
		return s.mayBegin(m.ID)
	case *Subscribe:
		return s.mayBegin(m.ID)
	case *Result:
		if s.streaming[m.ID] {
			return Errorf(FailedPrecondition, "call %d has sent items: only end or error can follow", m.ID)
		}
		return s.served(m.ID)
	case *End:
		return s.served(m.ID)
	case *ErrorMessage:
		if m.ID == 0 {
			return nil
		}
		return s.served(m.ID)
	case *Item:
		if credit, open := s.serving[m.ID]; open && credit < 1 {
			return Errorf(FailedPrecondition, "no credit left for an item of call %d", m.ID)
		}
		return s.served(m.ID)
	case *Progress:
		if s.serving[m.ID] == subscription {
			return Errorf(FailedPrecondition, "%d is a subscription, which has no progress", m.ID)
		}
		return s.served(m.ID)
	case *Event:
		if s.serving[m.ID] != subscription {
			return Errorf(FailedPrecondition, "%d is no subscription: it has no events", m.ID)
		}
	case *Credit:
		if state := s.calls[m.ID]; state != callOpen && state != callStreaming {
			return Errorf(FailedPrecondition, "call %d is %s", m.ID, state)
		}
		if m.Items < 1 || s.granted[m.ID]+int64(m.Items) > MaxCredit {
			return Errorf(FailedPrecondition, "credit for %d items: 1 to %d in all", m.Items, MaxCredit)
		}
	case *Cancel:
		if state := s.calls[m.ID]; state == callIllegal || state == callSubscribed || state == callUnsubscribed {
			return Errorf(FailedPrecondition, "cancel of %d, which is %s", m.ID, state)
		}
	case *Unsubscribe:
		if state := s.calls[m.ID]; state != callSubscribed && state != callUnsubscribed {
			return Errorf(FailedPrecondition, "unsubscribe of %d, which is %s", m.ID, state)
		}
	}
	return nil
}

func (s *Session) mayBegin(id uint64) error {
	if _, taken := s.calls[id]; taken || id < 1 || id > MaxID {
		return Errorf(FailedPrecondition, "call id %d is not free", id)
	}
	return nil
}

func (s *Session) served(id uint64) error {
	if _, open := s.serving[id]; !open {
		return Errorf(FailedPrecondition, "call %d is not open", id)
	}
	return nil
}

// sent notes what a message that may be sent changes.
func (s *Session) sent(message Message) {
	switch m := message.(type) {
	case *Call:
		s.calls[m.ID] = callOpen
		if m.Credit > 0 {
			s.granted[m.ID] = int64(m.Credit)
		}
	case *Subscribe:
		s.calls[m.ID] = callSubscribed
	case *Result:
		if s.serving[m.ID] != subscription { // There it acknowledges, and the subscription stays open.
			delete(s.serving, m.ID)
		}
	case *End:
		s.forgetServed(m.ID)
	case *ErrorMessage:
		s.forgetServed(m.ID)
	case *Item:
		s.serving[m.ID]--
		s.streaming[m.ID] = true
	case *Credit:
		s.granted[m.ID] += int64(m.Items)
	case *Cancel:
		s.calls[m.ID] = callCancelled
	case *Unsubscribe:
		s.calls[m.ID] = callUnsubscribed
	}
}

func (s *Session) forgetServed(id uint64) {
	delete(s.serving, id)
	delete(s.streaming, id)
}

// Receive returns the message in a frame, or nil when it needs no attention. An *Unknown message that it
// returns is to be answered with an error. It fails when the other side broke the rules: then nothing has
// changed, and Refuse says what to send.
func (s *Session) Receive(frame *Frame) (Message, error) {
	message, err := DecodeMessage(frame.Header)
	if err != nil {
		return nil, err
	}
	kind := message.Kind()
	if unknown, is := message.(*Unknown); is && (s.state == Open || s.state == Draining) {
		return s.receiveUnknown(unknown), nil
	}
	next := legal[s.role.other()][s.state][kind]
	if next == illegal {
		return nil, Errorf(InvalidArgument, "%s from the %s while the connection is %s", kind, s.role.other(), s.state)
	}
	if err := checkBody(message, frame.bodyBytes()); err != nil {
		return nil, err
	}
	wanted, err := s.received(message)
	if err != nil {
		return nil, err
	}
	s.state = next
	if isFarewell(message) {
		s.state = Closed
	}
	if !wanted {
		return nil, nil
	}
	return message, nil
}

// Oversized returns what a frame whose body was discarded means: a call to be refused with the error, or,
// in place of an answer, the error that its call fails with.
func (s *Session) Oversized(frame *Frame) (Message, *Error, error) {
	message, err := s.Receive(frame)
	if err != nil {
		return nil, nil, err
	}
	problem := bodyTooLarge(frame.Discarded, s.limits.BodyBytes)
	switch m := message.(type) {
	case *Call:
		return m, problem, nil
	case *Item:
		s.calls[m.ID] = callCancelled // More items may follow.
		return Failure(m.ID, problem), nil, nil
	case *Result:
		return Failure(m.ID, problem), nil, nil
	}
	return message, nil, nil
}

// receiveUnknown: what a newer protocol may call is to be answered; anything else of it is passed over.
func (s *Session) receiveUnknown(message *Unknown) Message {
	if message.ID < 1 || message.ID > MaxID {
		return nil
	}
	if _, taken := s.serving[uint64(message.ID)]; taken {
		return nil
	}
	s.serving[uint64(message.ID)] = 0
	return message
}

// received notes what a message changes, and tells whether anybody wants it.
func (s *Session) received(message Message) (wanted bool, err error) {
	switch m := message.(type) {
	case *Hello:
		return s.receivedGreeting(m.Protocol, m.Limits)
	case *Welcome:
		return s.receivedGreeting(m.Protocol, m.Limits)
	case *Call:
		return s.beginServing(m.ID, int64(m.Credit))
	case *Subscribe:
		return s.beginServing(m.ID, subscription)
	case *Result:
		if state := s.calls[m.ID]; len(m.Attachments) > 0 && (state == callSubscribed || state == callUnsubscribed) {
			return false, Errorf(InvalidArgument, "attachments for subscription %d: it can only be acknowledged", m.ID)
		}
		return s.receivedAnswer(m.ID, KindResult)
	case *ErrorMessage:
		if m.ID == 0 {
			return true, nil
		}
		return s.receivedAnswer(m.ID, KindError)
	case *Item:
		if s.granted[m.ID] < 1 {
			return false, Errorf(InvalidArgument, "an item for call %d beyond its credit", m.ID)
		}
		wanted, err := s.receivedAnswer(m.ID, KindItem)
		if err == nil {
			s.granted[m.ID]--
		}
		return wanted, err
	case *End:
		return s.receivedAnswer(m.ID, KindEnd)
	case *Progress:
		return s.receivedAnswer(m.ID, KindProgress)
	case *Event:
		return s.receivedAnswer(m.ID, KindEvent)
	case *Credit:
		return s.receivedCredit(m)
	case *Cancel:
		return s.receivedCancel(m.ID, false)
	case *Unsubscribe:
		return s.receivedCancel(m.ID, true)
	}
	return true, nil
}

func (s *Session) receivedGreeting(protocol int64, limits Limits) (bool, error) {
	if protocol != ProtocolVersion {
		return false, Errorf(Unimplemented, "protocol version %d: this side speaks %d", protocol, ProtocolVersion).
			With("versions", []int{ProtocolVersion})
	}
	s.sendLimits = s.limits.Within(limits)
	return true, nil
}

func (s *Session) receivedAnswer(id uint64, kind Kind) (bool, error) {
	state := s.calls[id]
	next := callOrder[state][kind]
	if next == callIllegal {
		return false, Errorf(InvalidArgument, "%s for call %d, which is %s", kind, id, state)
	}
	if next == callDone {
		delete(s.calls, id)
		delete(s.granted, id)
	} else {
		s.calls[id] = next
	}
	if state == callCancelled {
		return next == callDone, nil // Whoever passed it on to here has a place free now.
	}
	return state != callUnsubscribed, nil
}

func (s *Session) beginServing(id uint64, credit int64) (bool, error) {
	if _, taken := s.serving[id]; taken {
		return false, Errorf(InvalidArgument, "call id %d is not free: ids are unique among the calls in flight", id)
	}
	s.serving[id] = credit
	return true, nil
}

func (s *Session) receivedCredit(m *Credit) (bool, error) {
	credit, open := s.serving[m.ID]
	if !open {
		return false, nil // The call ended while the credit was under way.
	}
	if credit == subscription || credit+int64(m.Items) > MaxCredit {
		return false, Errorf(InvalidArgument, "credit for %d items of %d, which can't take them", m.Items, m.ID)
	}
	s.serving[m.ID] = credit + int64(m.Items)
	return true, nil
}

func (s *Session) receivedCancel(id uint64, unsubscribe bool) (bool, error) {
	credit, open := s.serving[id]
	if !open {
		return false, nil // The call ended while this was under way.
	}
	if (credit == subscription) != unsubscribe {
		return false, Errorf(InvalidArgument, "%d is cancelled or unsubscribed from, and is not of that kind", id)
	}
	return true, nil
}

// Refuse appends the frame that tells the other side why the connection ends, and closes it.
func (s *Session) Refuse(to []byte, err *Error) []byte {
	s.state = Closed
	return appendFrame(to, Failure(0, err), 0)
}

// InFlight reports whether a call of ours is waiting for its answer.
func (s *Session) InFlight(id uint64) bool {
	_, open := s.calls[id]
	return open
}

// CreditOf returns how many items the caller of a call that is served can take; ok is false once it ended.
func (s *Session) CreditOf(id uint64) (items int64, ok bool) {
	items, ok = s.serving[id]
	return items, ok
}

// isFarewell reports whether a message is the error of the connection itself, after which nothing follows.
func isFarewell(message Message) bool {
	m, is := message.(*ErrorMessage)
	return is && m.ID == 0
}

// checkBody reports whether a message agrees with the length of its body.
func checkBody(message Message, bodyBytes int64) error {
	var headers []AttachmentHeader
	switch m := message.(type) {
	case *Call:
		headers = m.Attachments
	case *Result:
		headers = m.Attachments
	case *Item:
		headers = m.Attachments
	default:
		if bodyBytes > 0 {
			return Errorf(InvalidArgument, "a body of %d bytes: a %s message has none", bodyBytes, message.Kind())
		}
		return nil
	}
	var sum int64
	for i := range headers {
		sum += int64(headers[i].Bytes)
	}
	if sum != bodyBytes {
		return Errorf(InvalidArgument, "%d attachments of %d bytes do not add up to a body of %d", len(headers), sum, bodyBytes)
	}
	return nil
}
