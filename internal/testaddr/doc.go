// Package testaddr finds addresses for servers under test that must know their
// port before they listen.
package testaddr
