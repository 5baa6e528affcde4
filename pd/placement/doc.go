// Package placement says where the peers of a region belong. Rules speak about
// key ranges: how many peers of which role, on stores with which labels, how
// far apart. Fit compares a region with the rules of its range.
//
// It decides nothing (pd/schedule does) and keeps no regions.
//
//	rules, groups ──► segments of the key space ──► Fit: peers per rule, orphans
//
// # Which rules hold
//
// On each segment all rules that cover it, in the order of their group's index,
// group, own index, id. A rule with override hides those before it in its group;
// a group with override hides all groups before it. What is left must have a
// voter or a leader, and at most one leader.
//
// # Fit
//
// Rules choose among the region's peers one after the other: an earlier rule
// has as many as it can, then as few as possible on stores that are leaving or
// down, then as few as possible of a wrong role, then the best isolation. What
// no rule takes is an orphan. A region that crosses a segment's end has no fit:
// it has to be split first.
//
// # Invariants
//
//   - The rules in force are an immutable snapshot; readers take no lock.
//   - A change is saved in etcd, whole and under the leader's term, before it is
//     in force.
//
// JSON is PD's (pd-ctl config placement-rules). Read next: rule.go, fit.go.
package placement
