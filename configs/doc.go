// Package configs is the loader of the configuration: strict YAML with
// errors that name file, line, column and the nearest right name, environment
// variables and secret files, and the JSON Schema of any configuration type.
// It knows no section of it; the example files lie beside it.
package configs
