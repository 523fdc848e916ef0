// Package broker is the MQTT broker inside the gateway: mochi-mqtt with the
// guards that a device network needs around it (own listeners, deadlines,
// limits, users and deny-by-default rules), and the taps through which the
// gateway sees what clients publish before it is acknowledged.
//
// It knows nothing of models, streams or the cloud.
package broker
