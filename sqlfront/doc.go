// Package sqlfront is the SQL layer: sessions that parse, bind, plan and run
// Postgres's SQL over the cluster and hand out Arrow batches. What pgwire and
// arrowflight see of it is in api.go; everything else is in the subpackages:
//
//	parse → ast        the statement as written
//	catalog            tables, indexes, system catalogs
//	plan               binding, rewriting, pushing down, physical plans
//	kvclient           client-go in process or over gRPC
//
// It keeps no state of its own: any number of SQL nodes serve one cluster.
package sqlfront
