// Package client sends plans to the coprocessors of all regions that hold the
// keys in question, and makes one stream of their answers.
//
//	Send ──► router (client-go's region cache): ranges → regions → stores
//	  │
//	  ├─ ticket: regions of store 1 ──Transport──► batches ─┐
//	  ├─ ticket: regions of store 2 ──Transport──► batches ─┼─► Stream.Next
//	  └─ …                                                  ┘
//	        │ region error, lock, broken connection:
//	        └──► update the cache, resolve, back off, ask again for what is left
//
// No row is lost or seen twice. A batch of a plain scan says up to which key
// it goes; after a failure only the keys behind it are asked for again, of
// whatever regions hold them by then. The batches of aggregations, top-N and
// limits are kept back until their region is done, and dropped if it fails.
// Nothing is retried at another timestamp.
//
// Two transports: Arrow Flight to the store's address, and Local, by
// reference, for stores of the same process.
package client
