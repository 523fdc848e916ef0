// Package link is paho behind five verbs: connect, publish and wait, window,
// subscribe, get. It is the only place that imports an MQTT client.
package link
