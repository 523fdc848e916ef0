// Package link is paho behind four verbs: connect, publish and wait, window,
// subscribe. It is the only place that imports an MQTT client.
package link
