// Package slowlog writes one line for what took too long, no more than LinesMax
// a second, and says how many it has left out.
package slowlog
