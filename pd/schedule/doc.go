// Package schedule decides what should change in the cluster and drives the
// changes. Checkers and schedulers only propose operators; an operator is a
// short list of steps on one region; a step is one message to the region's
// leader, repeated until a heartbeat shows that it is done.
//
// It stores nothing: after a change of PD's leader the checkers find what is
// half done (a learner, a joint peer set) and finish or undo it.
//
//	patrol ──► checkers ───┐                     ┌──► message to the leader
//	   (joint, split, rule, merge)               │
//	timers ──► schedulers ─┼─► Add (limits) ─► ops
//	ScatterRegion ─────────┘                     └─◄ heartbeat: Dispatch
//
// # Invariants
//
//   - One operator a region. It is dropped when the region's epoch moved in a
//     way that its own steps do not explain.
//   - Between two sets of peers a region never has fewer voters than the
//     smaller one: caught-up learners take the votes in one joint change.
//   - What checkers change never leaves a region with fewer voters than its
//     rules ask for, and moves never make its fit worse (package placement).
//   - No peer is removed or demoted unless those that remain have a healthy
//     quorum by the leader's own report, checked again each time the step is
//     sent (hazard 15).
//
// Shape: TiKV's PD (pkg/schedule). Read next: operator.go, step.go, controller.go.
package schedule
