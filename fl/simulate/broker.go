package simulate

import (
	"strings"
	"time"

	"edgegateway/fl"
)

// machine is what a coordinator and a participant have alike.
type machine interface {
	Connected(now time.Time) ([]fl.Action, error)
	Handle(now time.Time, m fl.Message) ([]fl.Action, error)
	Tick(now time.Time) ([]fl.Action, error)
	Filters() []string
}

// broker keeps what is retained and knows who hears what. Participants name
// exact topics, or the tasks of all; the coordinator hears what they say.
type broker struct {
	retained map[string][]byte
	exact    map[string][]*peer
	wild     []hearer
	latency  time.Duration // of a message
	rate     float64       // bytes a second, each way, of all links together
}

// hearer is one of those who hear more than one topic by a filter.
type hearer struct {
	filter string
	peer   *peer
}

// peer is one who is connected, or was.
type peer struct {
	machine  machine
	virtual  *virtual  // nil for the coordinator
	away     bool      // it has no link
	fetching bool      // it waits for what is retained
	wake     time.Time // when its Tick is called next; zero for never
}

func newBroker(cfg Config) *broker {
	return &broker{map[string][]byte{}, map[string][]*peer{}, nil, cfg.Latency, cfg.Rate}
}

// subscribe has a peer hear what its machine asks for.
func (b *broker) subscribe(p *peer) {
	for _, f := range p.machine.Filters() {
		if strings.ContainsAny(f, "+#") {
			b.wild = append(b.wild, hearer{f, p})
		} else {
			b.exact[f] = append(b.exact[f], p)
		}
	}
}

// hears gives who hears a topic, in the order in which they subscribed.
func (b *broker) hears(topic string) []*peer {
	list := b.exact[topic]
	for _, h := range b.wild {
		if matches(h.filter, topic) {
			list = append(list[:len(list):len(list)], h.peer)
		}
	}
	return list
}

// keep takes what is to be retained.
func (b *broker) keep(m *fl.Message) {
	switch {
	case !m.Retain:
	case len(m.Payload) == 0:
		delete(b.retained, m.Topic)
	default:
		b.retained[m.Topic] = m.Payload
	}
}

// takes is how long the broker's link takes for so many bytes.
func (b *broker) takes(bytes int) time.Duration {
	return time.Duration(float64(bytes) / b.rate * float64(time.Second))
}

// matches says whether an MQTT filter takes a topic.
func matches(filter, topic string) bool {
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		t, trest, tmore := strings.Cut(topic, "/")
		switch {
		case f == "#":
			return true
		case f != "+" && f != t || fmore != tmore && frest != "#":
			return false
		case !fmore && !tmore:
			return true
		case !tmore:
			return frest == "#"
		}
		filter, topic = frest, trest
	}
}
