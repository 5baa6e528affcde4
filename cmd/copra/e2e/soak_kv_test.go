package e2e

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
)

// keyState is what a raw or transactional worker knows of the keys that only it
// writes. After a write of unknown outcome it takes other keys: the write may
// still be on its way.
type keyState struct {
	generation int
	value      int64
	final      map[string]int64 // last acknowledged value of keys in the clear
}

const soakKVKeys = 5

func (w *worker) key(i int) []byte {
	return fmt.Appendf(nil, "%s-%02d-%04d-%d", w.name, w.id, w.kv.generation, i)
}

func (w *worker) keyValue(v int64) []byte {
	return []byte(strconv.FormatInt(v, 10) + " " + strings.Repeat(w.name, 400))
}

func parseValue(name string, raw []byte) (int64, error) {
	n, rest, ok := strings.Cut(string(raw), " ")
	v, err := strconv.ParseInt(n, 10, 64)
	if !ok || err != nil || rest != strings.Repeat(name, 400) {
		return 0, fmt.Errorf("a value of another kind: %.40q", raw)
	}
	return v, nil
}

func (w *worker) lostTrack() {
	w.kv.generation++
	w.kv.value = 0
}

// rawStep writes a key, or all, or deletes one, and reads one back.
func (w *worker) rawStep() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	if w.kv.final == nil {
		w.kv.final = map[string]int64{}
	}
	if err := w.rawWrite(ctx); err != nil {
		for i := range soakKVKeys {
			delete(w.kv.final, string(w.key(i)))
		}
		w.lostTrack()
		return err
	}
	for k, want := range w.kv.final {
		raw, err := w.l.raw.Get(ctx, []byte(k))
		if err != nil {
			return err
		}
		if err := checkRaw(raw, want); err != nil {
			w.l.t.Errorf("raw key %s: %v", k, err)
		}
		break // any one of them
	}
	return nil
}

// rawDeleted is the value of a key whose delete was acknowledged.
const rawDeleted = -1

func (w *worker) rawWrite(ctx context.Context) error {
	w.kv.value++
	key := w.key(w.rng.Intn(soakKVKeys))
	switch w.rng.Intn(4) {
	case 0:
		if err := w.l.raw.Delete(ctx, key); err != nil {
			return err
		}
		w.kv.final[string(key)] = rawDeleted
	case 1:
		var keys, values [][]byte
		for i := range soakKVKeys {
			keys, values = append(keys, w.key(i)), append(values, w.keyValue(w.kv.value))
		}
		if err := w.l.raw.BatchPut(ctx, keys, values); err != nil {
			return err
		}
		for _, k := range keys {
			w.kv.final[string(k)] = w.kv.value
		}
	default:
		if err := w.l.raw.Put(ctx, key, w.keyValue(w.kv.value)); err != nil {
			return err
		}
		w.kv.final[string(key)] = w.kv.value
	}
	return nil
}

// checkRaw holds a raw value, nil where there is none, against the last that was
// acknowledged.
func checkRaw(raw []byte, want int64) error {
	if want == rawDeleted {
		if raw != nil {
			return fmt.Errorf("%.40q is there after its delete was acknowledged", raw)
		}
		return nil
	}
	if raw == nil {
		return fmt.Errorf("%d was acknowledged, and is lost", want)
	}
	if v, err := parseValue("raw", raw); err != nil || v != want {
		return fmt.Errorf("is %d (%v), acknowledged was %d", v, err, want)
	}
	return nil
}

// txnStep writes all its keys in one transaction, of changing kind, and reads
// those of a transaction back.
func (w *worker) txnStep() error {
	ctx, cancel := within(soakOpTimeout)
	defer cancel()
	if w.kv.final == nil {
		w.kv.final = map[string]int64{}
	}
	if err := w.txnWrite(ctx); err != nil {
		return err
	}
	tx, err := w.l.txn.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for k, want := range w.kv.final {
		entry, err := tx.Get(ctx, []byte(k))
		if tikverr.IsErrNotFound(err) {
			w.l.t.Errorf("txn key %s is lost", k)
			continue
		}
		if err != nil {
			return err
		}
		if v, err := parseValue(w.name, entry.Value); err != nil || v != want {
			w.l.t.Errorf("txn key %s is %d (%v), acknowledged was %d", k, v, err, want)
		}
		if w.rng.Intn(2*soakKVKeys) == 0 {
			break
		}
	}
	return nil
}

func (w *worker) txnWrite(ctx context.Context) error {
	tx, err := w.l.txn.Begin()
	if err != nil {
		return err
	}
	w.kv.value++
	kind := w.rng.Intn(4)
	switch kind {
	case 1:
		tx.SetEnableAsyncCommit(true)
	case 2:
		tx.SetEnable1PC(true)
	case 3:
		tx.SetPessimistic(true)
		w.l.lists.lock(tx.StartTS())
	}
	for i := range soakKVKeys {
		key := w.key(i)
		if kind == 3 {
			if err := tx.LockKeysWithWaitTime(ctx, int64(soakOpTimeout/time.Millisecond), key); err != nil {
				_ = tx.Rollback()
				return fmt.Errorf("lock: %w", err)
			}
		}
		if err := tx.Set(key, w.keyValue(w.kv.value)); err != nil {
			return err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		if !tikverr.IsErrWriteConflict(err) {
			for i := range soakKVKeys {
				delete(w.kv.final, string(w.key(i)))
			}
			w.lostTrack()
		}
		return err
	}
	for i := range soakKVKeys {
		w.kv.final[string(w.key(i))] = w.kv.value
	}
	return nil
}

// verifyKV scans each side whole: every acknowledged value is there, and
// nothing of the other sides.
func (l *load) verifyKV() {
	ctx, cancel := within(2 * time.Minute)
	defer cancel()
	for _, w := range l.workers {
		for k, want := range w.kv.final {
			if w.name != "raw" {
				continue
			}
			raw, err := l.raw.Get(ctx, []byte(k))
			if err = errors.Join(err, checkRaw(raw, want)); err != nil {
				l.t.Errorf("in the end raw key %s: %v", k, err)
			}
		}
	}
	var from []byte
	for {
		keys, values, err := l.raw.Scan(ctx, from, nil, 1000)
		if err != nil {
			l.t.Errorf("raw scan: %v", err)
			return
		}
		if len(keys) == 0 {
			break
		}
		for i, k := range keys {
			if _, err := parseValue("raw", values[i]); err != nil || !strings.HasPrefix(string(k), "raw-") {
				l.t.Errorf("a raw scan finds %q: %v", k, err)
			}
		}
		from = append(keys[len(keys)-1], 0)
	}
	l.verifyTxn(ctx)
}

func (l *load) verifyTxn(ctx context.Context) {
	tx, err := l.txn.Begin()
	if err != nil {
		l.t.Errorf("begin: %v", err)
		return
	}
	defer func() { _ = tx.Rollback() }()
	it, err := tx.Iter(nil, nil)
	if err != nil {
		l.t.Errorf("scan: %v", err)
		return
	}
	defer it.Close()
	found := map[string]int64{}
	groups := map[string]map[int64]int{}
	for it.Valid() {
		k := string(it.Key())
		if strings.HasPrefix(k, listPrefix) || strings.HasPrefix(k, bankPrefix) {
			if err := it.Next(); err != nil {
				l.t.Errorf("scan: %v", err)
				return
			}
			continue
		}
		v, err := parseValue("txn", it.Value())
		if err != nil || !strings.HasPrefix(k, "txn-") {
			l.t.Errorf("a transactional scan finds %q: %v", k, err)
		}
		found[k] = v
		group := k[:strings.LastIndexByte(k, '-')]
		if groups[group] == nil {
			groups[group] = map[int64]int{}
		}
		groups[group][v]++
		if err := it.Next(); err != nil {
			l.t.Errorf("scan: %v", err)
			return
		}
	}
	for group, values := range groups {
		if len(values) != 1 {
			l.t.Errorf("transaction %s is there in part: value to count %v", group, values)
		}
	}
	for _, w := range l.workers {
		for k, want := range w.kv.final {
			if v, ok := found[k]; w.name == "txn" && (!ok || v != want) {
				l.t.Errorf("in the end txn key %s is %d (there: %v), acknowledged was %d", k, v, ok, want)
			}
		}
	}
}
