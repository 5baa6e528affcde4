// Command keyspace shows API V2 with TiKV's client: the same key in a keyspace,
// and outside. Its argument is a PD's address.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	plog "github.com/pingcap/log"
	"github.com/tikv/client-go/v2/rawkv"
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
	inside, err := txnkv.NewClient([]string{pd}, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace("DEFAULT"))
	if err != nil {
		return err
	}
	defer inside.Close()
	outside, err := txnkv.NewClient([]string{pd})
	if err != nil {
		return err
	}
	defer outside.Close()
	raw, err := rawkv.NewClientWithOpts(ctx, []string{pd}, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V2), rawkv.WithKeyspace("DEFAULT"))
	if err != nil {
		return err
	}
	defer raw.Close()

	key := []byte("greeting")
	for client, value := range map[*txnkv.Client]string{inside: "hello in the keyspace", outside: "hello outside"} {
		txn, err := client.Begin()
		if err != nil {
			return err
		}
		if err := txn.Set(key, []byte(value)); err != nil {
			return err
		}
		if err := txn.Commit(ctx); err != nil {
			return err
		}
	}
	if err := raw.Put(ctx, key, []byte("hello, raw")); err != nil {
		return err
	}
	for _, client := range []*txnkv.Client{inside, outside} {
		txn, err := client.Begin()
		if err != nil {
			return err
		}
		entry, err := txn.Get(ctx, key)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", entry.Value)
	}
	value, err := raw.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", value)
	return nil
}
