package tikv

// gcPage is what the status page shows of garbage collection.
func (n *Node) gcPage() map[string]any {
	safe := n.txn.SafePoints()
	return map[string]any{
		"store_id": n.storeID, "safe_point": safe.Shared(), "keyspace_safe_points": safe.Own(), "last_round": n.collector.LastRound(),
	}
}
