// Package drift says whether the data that a model is given is still of the
// kind that it was made for, without labels and without a cloud: a Reference
// holds how samples are spread, a Monitor holds the last ones against it. It
// is arithmetic on numbers, and knows neither streams nor models.
package drift
