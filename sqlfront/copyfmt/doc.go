// Package copyfmt reads and writes COPY's text, CSV and binary formats.
//
//	client's bytes ─► Splitter ─► chunks of whole lines ─► Parser ─► fields
//	rows ─► AppendRow ─► lines
//
// Finding where lines end is sequential and cheap; taking lines apart is not,
// so chunks can be parsed in parallel, in any order. Fields are bytes: what
// they mean as values of a type is the caller's business.
//
// Memory is bounded by ChunkBytes and LineBytesMax. Errors are PostgreSQL's
// (22P04 and others), with the line in Where.
package copyfmt
