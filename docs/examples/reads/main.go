// Command reads shows snapshots with TiKV's client: many keys at once, from
// followers, and stale ones. Its argument is a PD's address.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	plog "github.com/pingcap/log"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/txnkv"
	"go.uber.org/zap/zapcore"
)

func main() {
	pd := "127.0.0.1:2379"
	if len(os.Args) > 1 {
		pd = os.Args[1]
	}
	plog.SetLevel(zapcore.ErrorLevel) // client-go tells standard output much
	if err := run(context.Background(), pd); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, pd string) error {
	client, err := txnkv.NewClient([]string{pd})
	if err != nil {
		return err
	}
	defer client.Close()
	txn, err := client.Begin()
	if err != nil {
		return err
	}
	keys := [][]byte{[]byte("planet/earth"), []byte("planet/mars"), []byte("planet/pluto")}
	for i, moons := range []string{"1", "2"} {
		if err := txn.Set(keys[i], []byte(moons)); err != nil {
			return err
		}
	}
	if err := txn.Commit(ctx); err != nil {
		return err
	}

	now, err := client.CurrentTimestamp("global")
	if err != nil {
		return err
	}
	follower := client.GetSnapshot(now)
	follower.SetReplicaRead(kv.ReplicaReadFollower) // as fresh as the leader, at the price of a round trip to it
	entries, err := follower.BatchGet(ctx, keys)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if entry, ok := entries[string(key)]; ok {
			fmt.Printf("%s has %s moons\n", key, entry.Value)
		} else {
			fmt.Printf("%s is not there\n", key)
		}
	}

	// Any replica answers at a time that lies back some seconds, without asking
	// the leader. (Here until the commit above does.)
	committed := oracle.GetTimeFromTS(txn.CommitTS())
	for time.Since(committed) < 5*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	past := oracle.GoTimeToTS(time.Now().Add(-4 * time.Second))
	stale := client.GetSnapshot(past)
	stale.SetReplicaRead(kv.ReplicaReadMixed)
	stale.SetIsStalenessReadOnly(true)
	entry, err := stale.Get(ctx, keys[1])
	if err != nil {
		return err
	}
	fmt.Printf("four seconds ago %s had %s\n", keys[1], entry.Value)
	return nil
}
