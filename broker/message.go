package broker

import "time"

// Message is one PUBLISH of a client as a tap sees it: after the broker's
// rules allowed it and before it is acknowledged.
type Message struct {
	Topic    string
	Payload  []byte // shared with the other subscribers: read only, may be kept
	ClientID string
	User     string // "" for an anonymous client
	QoS      byte
	Retain   bool
	// Properties are the MQTT 5 properties that a stream may use; the zero
	// value for an MQTT 3.1.1 client.
	Properties Properties
	Received   time.Time

	ack func(error) // nil: the broker answers by itself, at once
}

// Properties are the MQTT 5 properties of a PUBLISH that matter to a stream.
type Properties struct {
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	User            []UserProperty
}

// UserProperty is one MQTT 5 user property.
type UserProperty struct{ Key, Value string }

// Ack answers the publisher of a message that came through a durable tap: nil
// lets the acknowledgement leave, an error refuses the message. It is called
// once, from any goroutine. For a tap that is not durable the broker has
// answered already and Ack does nothing.
func (m *Message) Ack(err error) {
	if m.ack != nil {
		m.ack(err)
	}
}
