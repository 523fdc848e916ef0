// Package alert applies rules to results: a condition, "n of m", hysteresis,
// repeat and clear; and tells the world by MQTT, webhook or command.
package alert
