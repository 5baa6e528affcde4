// Package e2e holds tests that build bin/copra and run it as its users do:
// real processes, real sockets, real signals, kill -9. What can be shown in
// one process is tested further down; here is what only processes show.
package e2e
