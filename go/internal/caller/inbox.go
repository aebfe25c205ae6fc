package caller

import (
	"sync"

	"smol.local/smol/wire"
)

// inbox holds what has come in for one call and was not taken yet.
type inbox struct {
	arrived    chan struct{} // holds at most one sign that something is there
	onProgress func(float64, string)

	mu      sync.Mutex
	replies []Reply
	events  []Event
	ended   bool
	err     *wire.Error
}

func newInbox() *inbox { return &inbox{arrived: make(chan struct{}, 1)} }

func (b *inbox) signal() {
	select {
	case b.arrived <- struct{}{}:
	default:
	}
}

func (b *inbox) finish(err *wire.Error) {
	b.mu.Lock()
	if !b.ended {
		b.ended, b.err = true, err
	}
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) put(reply Reply, last bool) {
	b.mu.Lock()
	b.replies = append(b.replies, reply)
	b.ended = b.ended || last
	b.mu.Unlock()
	b.signal()
}

// putEvent keeps an event; the oldest goes if the reader lags, and is counted.
func (b *inbox) putEvent(event Event) {
	b.mu.Lock()
	b.events = append(b.events, event)
	if len(b.events) > eventsKept {
		b.events[1].Dropped += b.events[0].Dropped + 1
		b.events = b.events[1:]
	}
	b.mu.Unlock()
	b.signal()
}
