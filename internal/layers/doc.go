// Package layers holds no code: its test keeps the arrows between copra's
// packages as docs/ARCHITECTURE.md draws them.
package layers
