// Package codec has the order-preserving ("memcomparable") encodings of keys:
// byte strings in groups of eight as in TiKV and TiDB (and MyRocks before
// them), integers with the sign bit flipped, timestamps descending.
package codec
