package isolation

import "slices"

// order is the version order of one key.
type order struct {
	key string
	// values is the longest list that was read of it.
	values []int64
	reader int // who read it
	at     map[int64]int
	// unseen are committed transactions that have appended a value that is in no
	// list: they come behind all of values, in an order that nobody knows.
	unseen []int
}

// inferOrders takes the longest list of each key for its version order and
// checks that all the others are prefixes of it.
func (c *checker) inferOrders() {
	for i := range c.txns {
		if c.txns[i].Outcome != Committed {
			continue
		}
		for _, o := range c.txns[i].Ops {
			ord := c.orders[o.Key]
			if ord == nil {
				ord = &order{key: o.Key, reader: -1, at: map[int64]int{}}
				c.orders[o.Key] = ord
			}
			if list := c.outside(i, o); !o.Append && len(list) > len(ord.values) {
				ord.values, ord.reader = list, i
			}
		}
	}
	for i := range c.txns {
		if c.txns[i].Outcome == Committed {
			for _, o := range c.txns[i].Ops {
				c.checkPrefix(i, o)
			}
		}
	}
	for _, ord := range c.orders {
		for n, v := range ord.values {
			ord.at[v] = n
		}
	}
	for i := range c.txns {
		if c.txns[i].Outcome != Committed {
			continue
		}
		for _, o := range c.txns[i].Ops {
			ord := c.orders[o.Key]
			if _, seen := ord.at[o.Value]; o.Append && !seen && !slices.Contains(ord.unseen, i) {
				ord.unseen = append(ord.unseen, i)
			}
		}
	}
}

// outside is what a read found of others: without the appends of its own
// transaction, which are at the end (checkInternal).
func (c *checker) outside(i int, o Op) []int64 {
	list := o.List
	for len(list) > 0 {
		if w, ok := c.writer[element{o.Key, list[len(list)-1]}]; !ok || w != i {
			break
		}
		list = list[:len(list)-1]
	}
	return list
}

func (c *checker) checkPrefix(i int, o Op) {
	if o.Append {
		return
	}
	ord, list := c.orders[o.Key], c.outside(i, o)
	n := min(len(list), len(ord.values))
	if !slices.Equal(list[:n], ord.values[:n]) {
		c.add(Incompatible, []int{i, ord.reader}, "%s reads %s as %s, and %s as %s: neither is the beginning of the other",
			c.txns[i].Name, o.Key, describeList(list), c.txns[ord.reader].Name, describeList(ord.values))
	}
}
