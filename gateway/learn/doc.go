// Package learn is a gateway's part in federated learning: it follows the tasks
// of coordinators that it trusts over a link to the cloud, trains in a child
// process on what its streams record, and brings new models to work or refuses
// them. Samples, labels and names of files stay on the box.
package learn
