package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/tablecodec"
)

// mvccReply is a key as --json shows it; bytes are hexadecimal.
type mvccReply struct {
	Key    string      `json:"key"`
	Text   string      `json:"text"` // the key, escaped
	Row    string      `json:"row,omitempty"`
	Region uint64      `json:"region"`
	Store  uint64      `json:"store"` // of the leader, who was asked
	Shown  *mvccLock   `json:"lock,omitempty"`
	Writes []mvccWrite `json:"writes,omitempty"`
	Values []mvccValue `json:"values,omitempty"`
	Raw    *mvccRaw    `json:"raw,omitempty"`
}

type mvccLock struct {
	Type        string   `json:"type"`
	StartTS     uint64   `json:"start_ts"`
	Primary     string   `json:"primary"`
	TTLMs       uint64   `json:"ttl_ms"`
	ForUpdateTS uint64   `json:"for_update_ts,omitempty"`
	MinCommitTS uint64   `json:"min_commit_ts,omitempty"`
	TxnSize     uint64   `json:"txn_size"`
	AsyncCommit bool     `json:"async_commit,omitempty"`
	Secondaries []string `json:"secondaries,omitempty"`
	RollbackTS  []uint64 `json:"rollback_ts,omitempty"`
	Value       string   `json:"short_value,omitempty"`
	// Holders are those of a shared lock; the fields above are the first one's.
	Holders []mvccHolder `json:"holders,omitempty"`
}

type mvccHolder struct {
	Type        string `json:"type"`
	StartTS     uint64 `json:"start_ts"`
	Primary     string `json:"primary"`
	TTLMs       uint64 `json:"ttl_ms"`
	MinCommitTS uint64 `json:"min_commit_ts,omitempty"`
}

type mvccWrite struct {
	Type       string `json:"type"`
	StartTS    uint64 `json:"start_ts"`
	CommitTS   uint64 `json:"commit_ts"`
	Overlapped bool   `json:"overlapped_rollback,omitempty"`
	Protected  bool   `json:"protected,omitempty"` // a rollback that stays
	Value      string `json:"short_value,omitempty"`
}

type mvccValue struct {
	StartTS uint64 `json:"start_ts"`
	Value   string `json:"value"`
}

type mvccRaw struct {
	Value string `json:"value"`
	TTL   uint64 `json:"ttl_seconds"` // 0: it does not expire
}

func (r *mvccReply) set(key []byte, info *kvrpcpb.MvccInfo) {
	*r = mvccReply{Region: r.Region, Store: r.Store, Key: hex.EncodeToString(key), Text: escaped(key), Row: rowOf(key)}
	if l := info.GetLock(); l != nil {
		r.Shown = &mvccLock{
			Type: l.GetType().String(), StartTS: l.GetStartTs(), Primary: hex.EncodeToString(l.GetPrimary()), TTLMs: l.GetTtl(),
			ForUpdateTS: l.GetForUpdateTs(), TxnSize: l.GetTxnSize(), AsyncCommit: l.GetUseAsyncCommit(), RollbackTS: l.GetRollbackTs(),
			Value: hex.EncodeToString(l.GetShortValue()),
		}
		for _, k := range l.GetSecondaries() {
			r.Shown.Secondaries = append(r.Shown.Secondaries, hex.EncodeToString(k))
		}
	}
	for _, w := range info.GetWrites() {
		r.Writes = append(r.Writes, mvccWrite{w.GetType().String(), w.GetStartTs(), w.GetCommitTs(), w.GetHasOverlappedRollback(),
			w.GetType() == kvrpcpb.Op_Rollback && string(w.GetShortValue()) == "P", hex.EncodeToString(w.GetShortValue())})
	}
	for _, v := range info.GetValues() {
		r.Values = append(r.Values, mvccValue{v.GetStartTs(), hex.EncodeToString(v.GetValue())})
	}
}

func escaped(b []byte) string {
	q := strconv.QuoteToASCII(string(b))
	return q[1 : len(q)-1]
}

// rowOf says which row of SQL's a key is.
func rowOf(key []byte) string {
	rest, ok := strings.CutPrefix(string(key), sqlPrefix)
	if !ok {
		return ""
	}
	if table, handle, err := tablecodec.SplitRowKey([]byte(rest)); err == nil {
		return fmt.Sprintf("table %d, primary key %x", table, handle)
	}
	if table, index, columns, err := tablecodec.SplitIndexKey([]byte(rest)); err == nil {
		return fmt.Sprintf("table %d, index %d, columns %x", table, index, columns)
	}
	return ""
}

// exactTS is a timestamp with its time, to the millisecond.
func exactTS(ts uint64) string {
	return fmt.Sprintf("%d (%s)", ts, tsTime(ts).UTC().Format("2006-01-02 15:04:05.000"))
}

// valueText is a value in hexadecimal as the table shows it: escaped, cut off.
func valueText(hexed string) string {
	b, err := hex.DecodeString(hexed)
	if err != nil || len(b) == 0 {
		return ""
	}
	if len(b) > mvccValueBytesMax {
		return fmt.Sprintf(`"%s"... (%d bytes)`, escaped(b[:mvccValueBytesMax]), len(b))
	}
	return `"` + escaped(b) + `"`
}

func printMvcc(w io.Writer, body []byte) error {
	var replies []mvccReply
	if err := json.Unmarshal(body, &replies); err != nil {
		return err
	}
	if len(replies) == 0 {
		_, err := fmt.Fprintln(w, "no region has a lock or a version of that transaction")
		return err
	}
	for i := range replies {
		if err := replies[i].table(w); err != nil {
			return err
		}
	}
	return nil
}

func (r *mvccReply) table(w io.Writer) error {
	return table(w, "KEY\t"+r.Text, func(t io.Writer) {
		fmt.Fprintf(t, "hexadecimal\t%s\nregion\t%d, asked on store %d\n", strings.ToUpper(r.Key), r.Region, r.Store)
		if r.Row != "" {
			fmt.Fprintf(t, "row\t%s\n", r.Row)
		}
		if r.Raw != nil {
			fmt.Fprintf(t, "raw value\t%s\n", valueText(r.Raw.Value))
			if r.Raw.TTL > 0 {
				fmt.Fprintf(t, "expires\tin %d s\n", r.Raw.TTL)
			}
		}
		if l := r.Shown; l != nil {
			l.print(t)
		}
		for _, v := range r.Writes {
			note := valueText(v.Value)
			if v.Protected {
				note = "protected"
			}
			if v.Overlapped {
				note += " (a transaction that started at this commit_ts was rolled back)"
			}
			fmt.Fprintf(t, "version\t%s\tcommit_ts %s\tstart_ts %s\t%s\n", v.Type, exactTS(v.CommitTS), exactTS(v.StartTS), note)
		}
		for _, v := range r.Values {
			fmt.Fprintf(t, "value\tstart_ts %s\t%s\n", exactTS(v.StartTS), valueText(v.Value))
		}
		if r.Shown == nil && r.Raw == nil && len(r.Writes)+len(r.Values) == 0 {
			fmt.Fprintln(t, "nothing is stored\t(--raw shows what raw clients have stored, without it what transactions have)")
		}
	})
}

func (l *mvccLock) print(t io.Writer) {
	primary, _ := hex.DecodeString(l.Primary)
	fmt.Fprintf(t, "lock\t%s\tstart_ts %s\tlives %d ms\t%s\n  primary\t%s\n", l.Type, exactTS(l.StartTS), l.TTLMs, valueText(l.Value), escaped(primary))
	if l.MinCommitTS != 0 {
		fmt.Fprintf(t, "  min_commit_ts\t%s\n", exactTS(l.MinCommitTS))
	}
	for _, h := range l.Holders {
		primary, _ := hex.DecodeString(h.Primary)
		fmt.Fprintf(t, "  holder\t%s\tstart_ts %s\tlives %d ms\tprimary %s\n", h.Type, exactTS(h.StartTS), h.TTLMs, escaped(primary))
	}
	if l.ForUpdateTS != 0 {
		fmt.Fprintf(t, "  for_update_ts\t%s\n", exactTS(l.ForUpdateTS))
	}
	if l.AsyncCommit {
		fmt.Fprintf(t, "  async commit\t%d secondaries: %s\n", len(l.Secondaries), strings.Join(l.Secondaries, " "))
	}
	for _, ts := range l.RollbackTS {
		fmt.Fprintf(t, "  rolled back\t%s\n", exactTS(ts))
	}
}
