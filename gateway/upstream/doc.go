// Package upstream brings results and alerts to the cloud broker: the outbox
// keeps them on disk, in order and bounded, and the bridge empties it over
// MQTT. A record leaves the disk when the cloud acknowledged it, not sooner.
package upstream
