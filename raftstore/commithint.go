package raftstore

import "go.etcd.io/raft/v3/raftpb"

// A leader that has left a joint configuration and crashes may have forgotten
// that the entry which left it is committed: a commit index alone is not synced.
// It then needs the vote of a voter that has been demoted since, which refuses it
// if it has entries that the crash took from the leader, and never campaigns
// itself, as a learner: nobody can lead any more (hazard 5; raft-rs answers this
// with maybe_commit_by_vote). So votes carry the commit index of who casts them,
// in fields that Raft does not use in them:
//
//	Commit      the voter's commit index
//	RejectHint  the term of that entry
//
// A candidate in a joint configuration whose log has that very entry knows that
// it is committed, applies it, and campaigns again under the new configuration.

// isVoteAnswer reports whether m is a vote, or a refusal.
func isVoteAnswer(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgPreVoteResp || m.GetType() == raftpb.MsgVoteResp
}

// tellCommit adds this peer's commit index to a vote.
func (p *peer) tellCommit(m *raftpb.Message) {
	commit := p.rn.BasicStatus().GetCommit()
	if term, err := p.st.Term(commit); err == nil && term != 0 {
		m.Commit, m.RejectHint = &commit, &term
	}
}

// learnCommit takes it from there. To Raft it is a heartbeat of the voter, who
// won't be followed for longer than an election timeout.
func (p *peer) learnCommit(m *raftpb.Message) {
	st := p.rn.BasicStatus()
	if m.GetCommit() <= st.GetCommit() || m.GetCommit() > p.st.last || p.role.Load().leader || !isJoint(p.region.Load()) {
		return
	}
	if term, err := p.st.Term(m.GetCommit()); err != nil || term != m.GetRejectHint() {
		return
	}
	p.step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(m.GetFrom()), To: new(p.id),
		Term: new(st.GetTerm()), Commit: new(m.GetCommit())})
}
