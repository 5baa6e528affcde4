// Package settings has a session's settings: PostgreSQL's run-time parameters
// as far as clients set and show them, and copra's own under "copra.".
//
// A Settings is one session's. Its values follow PostgreSQL's transaction
// rules: SET lasts if the transaction commits, SET LOCAL until it ends, and a
// rollback (also to a savepoint) brings the old values back.
//
// What a setting does is not here but with whoever reads it; a setting that has
// no effect on copra accepts only values that would not change PostgreSQL's
// answers either, and others are refused by name.
package settings
