// Package server is the coprocessor of a store: it runs plans over the store's
// regions and answers in Arrow record batches, over Arrow Flight or, within
// the process, by reference.
//
//	Flight DoGet(ticket) ──► plan.Request ──► Service.Run
//	                                            │ one task a region
//	        ┌───────────────────────────────────┘
//	        ▼            a worker slot while it computes
//	  ReaderSource ──► rangeRows ──► scan ──► exec operators ──► plan.Event ──► Flight, client
//	  (txn.Store)
//
// A region fails alone: its error or the locks in its way go back as the end
// of its task, the other regions go on. Batches of plain scans carry the key
// up to which they go, so that the client asks again for the rest only; those
// of aggregations, top-N and limits count only once their task has ended well.
//
// Limits: worker slots (GOMAXPROCS) bound the tasks that compute at a time;
// a task gives its slot back between batches, in order of asking, so that a
// long scan and a slow reader do not keep others out. Memory is limited per
// request and for the service; requests beyond RequestsMax are answered
// ServerIsBusy, region by region.
package server
