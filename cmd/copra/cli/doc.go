// Package cli has copra's commands. Each file is one command: its flags, its
// checks of what the user wrote, and the call that starts the thing. What is
// started lives in cmd/copra/cluster and in the packages of the roles.
package cli
