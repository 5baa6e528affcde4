// Package tracker notes where the time of one request goes, from the moment it
// is received to its answer:
//
//	queue │ process │ latch │ process │ snapshot │ process │ throttle │ write           │ process
//	                                    └ read index                    ├ propose  wait at the region until Raft takes it
//	                                                                    ├ commit   until a quorum has it (persist: here)
//	                                                                    ├ apply wait
//	                                                                    └ apply
//
// A request is in one stage at a time: Enter ends one and begins the next, for
// the price of reading the clock. What the layers below know better (the parts
// of a write, the read index, what an iterator stepped over) they add.
//
// The tracker travels in the context, as its outermost layer, so that finding it
// costs a type assertion; writes that must not end with their request's context
// take it along in another (Under). Trackers are pooled: nothing below a request
// may keep its context for longer than the request.
//
// All methods work on nil, for requests that nobody tracks. A tracker is not safe
// for concurrent use: it belongs to the goroutine that serves the request.
package tracker
