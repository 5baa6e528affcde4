package core

import "math"

// Constants of RegionScore, as in PD.
const (
	// scoreSpaceWeight is how much the shrinking of free space adds to the cost
	// of a MiB of data.
	scoreSpaceWeight = 256
	// scoreLowSpaceGiB is the free space below which nothing else counts; for
	// small disks it is the fifth part of them instead, or no test cluster would
	// ever be balanced by its data.
	scoreLowSpaceGiB, scoreLowSpacePart = 50, 0.2
	// scoreLowSpaceStep is in which parts of the capacity free space is counted
	// then: stores that share a disk report slightly different numbers.
	scoreLowSpaceStep = 0.01
	// scoreLowSpace is what a store without any free space scores in addition.
	scoreLowSpace = 1e7
	// weightMin keeps a weight of zero from dividing by it.
	weightMin = 1e-6
)

// RegionScore is how full a store is; balance moves peers from high to low. With
// much free space it is the size of the store's regions. As space shrinks the
// size weighs more, so that large and small disks come to the same free space;
// when it is low, free space alone decides. This is PD's region score v2, but for
// small disks. A store that reports no capacity, or less than 1 GiB, is scored by
// size alone.
func RegionScore(sizeMiB, capacityGiB, freeGiB, weight float64) float64 {
	size, c, a := max(sizeMiB, 0), capacityGiB, freeGiB
	low := min(scoreLowSpaceGiB, c*scoreLowSpacePart)
	var score float64
	switch {
	case a >= c || c < 1:
		score = size
	case a > low:
		free := a - low + 1
		score = (1 + scoreSpaceWeight*(math.Log(c)-math.Log(free))/(c-free)) * size
	default:
		step := c * scoreLowSpaceStep
		a = math.Floor(a/step) * step
		score = (1+scoreSpaceWeight*math.Log(c)/c)*size + scoreLowSpace*(low-a)/low
	}
	return score / max(orOne(weight), weightMin)
}

// LeaderScore is a store's share of the leaders, by count or by size in MiB.
func LeaderScore(amount, weight float64) float64 {
	return max(amount, 0) / max(orOne(weight), weightMin)
}

func orOne(weight float64) float64 {
	if weight == 0 {
		return 1
	}
	return weight
}
