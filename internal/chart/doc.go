// Package chart draws figures of a few kinds: lines, points with labels, and
// tables of shades. One drawing gives both SVG and PNG.
package chart
