// Package fl is federated learning: gateways train a common model together
// without their data leaving them. It knows no MQTT, no streams and no models at
// work: a Coordinator and a Participant are told what arrived and answer with
// what is to be done, so that the same code runs over a broker, in a gateway,
// and with thousands of participants in one process.
package fl
