package raftstore

// deposedElectionsMax is how many election timeouts a leader that was deposed
// waits for news of its successor, from which it would learn what has become
// of the writes it had proposed. In a network that works there is a successor
// after one or two.
const deposedElectionsMax = 3

// tickDeposed answers the writes of a leader that lost its office because it
// is cut off: whether the others have them it cannot know, and who waits for
// them would wait as long as the network is cut. What is applied later finds
// nobody waiting, as it does on other replicas.
func (p *peer) tickDeposed() {
	if p.role.Load().leader || p.waiters.empty() {
		p.deposedTicks = 0
		return
	}
	if p.deposedTicks++; p.deposedTicks < deposedElectionsMax*p.store.cfg.ElectionTicks {
		return
	}
	p.deposedTicks = 0
	for _, prop := range p.waiters.takeOlder(p.role.Load().term + 1) {
		prop.finish(errOutcomeUnknown(p.regionID, "this replica led when it was proposed, was deposed, and hears nothing of a successor"))
	}
}
