package exec

import (
	"github.com/zeebo/xxh3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// nullHash stands for NULL, which equals NULL where rows are grouped.
const nullHash = 0x9E3779B97F4A7C15

// mix hashes one more key column of the selected rows into p.hashes: values
// that are equal give equal hashes, in whatever encoding they come.
func (p *partitioner) mix(v *colvec.Vec, t sqltypes.Type, sel []int32) error {
	value, err := p.hasher(v, t)
	if err != nil {
		return err
	}
	for k := range p.hashes {
		i := k
		if sel != nil {
			i = int(sel[k])
		}
		h := uint64(nullHash)
		if !v.IsNull(i) {
			if h, err = value(i); err != nil {
				return err
			}
		}
		p.hashes[k] = hashInt(int64(p.hashes[k]*31 + h))
	}
	return nil
}

// hasher returns what hashes one value of a column.
func (p *partitioner) hasher(v *colvec.Vec, t sqltypes.Type) (func(i int) (uint64, error), error) {
	bytes := func(v *colvec.Vec) func(i int) (uint64, error) {
		return func(i int) (h uint64, err error) {
			p.buf, err = appendEqualKey(p.buf[:0], t, v, i)
			return xxh3.Hash(p.buf), err
		}
	}
	switch {
	case v.D64 != nil:
		return func(i int) (uint64, error) { return uint64(v.D64[i]), nil }, nil
	case v.Kind == colvec.Decimal && !v.Encoded:
		return func(i int) (uint64, error) {
			if d, ok := colvec.ToDec64(v.Dec[i]); ok {
				return uint64(d), nil
			}
			return v.Dec[i].LowBits() + uint64(v.Dec[i].HighBits())*nullHash, nil
		}, nil
	case v.Dict != nil:
		return p.dictHasher(v, bytes(v.Dict))
	case intKeyed(t):
		return func(i int) (uint64, error) { return uint64(intKey(v, i)), nil }, nil
	}
	return bytes(v), nil
}

// dictHasher hashes each value of a small dictionary once.
func (p *partitioner) dictHasher(v *colvec.Vec, one func(i int) (uint64, error)) (func(i int) (uint64, error), error) {
	if v.Dict.N > v.N {
		return func(i int) (uint64, error) { return one(int(v.Codes[i])) }, nil
	}
	hashes := make([]uint64, v.Dict.N)
	for k := range hashes {
		var err error
		if hashes[k], err = one(k); err != nil {
			return nil, err
		}
	}
	return func(i int) (uint64, error) { return hashes[v.Codes[i]], nil }, nil
}
