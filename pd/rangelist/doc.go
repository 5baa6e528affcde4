// Package rangelist cuts the key space at the ends of overlapping ranges and
// finds what lies on a key range. Placement rules and region labels are looked
// up with it, for every region, all the time; a list is built once a change.
//
//	items    a:[──────────)          segments   ["",c) ─
//	         b:      [────────)                 [c,g)  a
//	                                            [g,m)  a b
//	                                            [m,t)  b
//	                                            [t,∞)  ─
//
// A List is never changed: readers need no lock.
package rangelist
