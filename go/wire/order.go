package wire

// Role is a side of a connection: who accepts is the host, who connects the peer.
type Role uint8

// The roles.
const (
	Host Role = iota
	Peer
)

// String returns the name of the role.
func (r Role) String() string { return [...]string{"host", "peer"}[r] }

func (r Role) other() Role { return 1 - r }

// State is where a connection stands.
type State uint8

// The states of a connection.
const (
	New State = iota
	Greeting
	Open
	Draining
	Closed
	illegal
)

// String returns the name of the state.
func (s State) String() string {
	return [...]string{"new", "greeting", "open", "draining", "closed", "illegal"}[s]
}

// callState is where a call stands, as its caller sees it. A call that is done is forgotten.
type callState uint8

const (
	callIllegal callState = iota
	callOpen
	callStreaming
	callSubscribed
	callCancelled
	callUnsubscribed
	callDone
)

func (s callState) String() string {
	return [...]string{"not open", "open", "streaming", "subscribed", "cancelled", "unsubscribed", "done"}[s]
}

// callOrder is the table of calls in docs/reference/wire.md: what follows an answer.
var callOrder = [callDone]map[Kind]callState{
	callOpen: {
		KindResult: callDone, KindError: callDone, KindItem: callStreaming, KindEnd: callDone, KindProgress: callOpen,
	},
	callStreaming: {
		KindItem: callStreaming, KindProgress: callStreaming, KindEnd: callDone, KindError: callDone,
	},
	callSubscribed: {
		KindResult: callSubscribed, KindEvent: callSubscribed, KindError: callDone, KindEnd: callDone,
	},
	callCancelled: {
		KindResult: callDone, KindError: callDone, KindEnd: callDone, KindItem: callCancelled, KindProgress: callCancelled,
	},
	callUnsubscribed: {
		KindResult: callUnsubscribed, KindEvent: callUnsubscribed, KindError: callDone, KindEnd: callDone,
	},
}

// onlyFrom are the messages that one side alone may send.
var onlyFrom = map[Kind]Role{
	KindHello: Peer, KindSubscribe: Peer, KindUnsubscribe: Peer, KindWelcome: Host, KindEvent: Host,
}

// legal is the table of connections in docs/reference/wire.md, by who sends.
var legal = func() (table [2][Closed + 1][kindCount]State) {
	for role := range table {
		for state := range table[role] {
			for kind := range table[role][state] {
				table[role][state][kind] = illegal
			}
		}
		set := func(state State, kind Kind, next State) {
			if only, restricted := onlyFrom[kind]; !restricted || only == Role(role) {
				table[role][state][kind] = next
			}
		}
		set(New, KindHello, Greeting)
		set(New, KindError, Closed)
		set(Greeting, KindWelcome, Open)
		set(Greeting, KindError, Closed)
		for kind := KindCall; kind < KindDrain; kind++ {
			set(Open, kind, Open)
			set(Draining, kind, Draining)
		}
		set(Open, KindDrain, Draining)
		set(Draining, KindDrain, Draining)
	}
	return table
}()
