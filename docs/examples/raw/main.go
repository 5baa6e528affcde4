// Command raw shows raw KV with TiKV's client: put, get, scan, batches, TTL,
// compare-and-swap, checksum. Its argument is a PD's address.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	plog "github.com/pingcap/log"
	"github.com/tikv/client-go/v2/rawkv"
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
	client, err := rawkv.NewClientWithOpts(ctx, []string{pd}, rawkv.WithAPIVersion(kvrpcpb.APIVersion_V1))
	if err != nil {
		return err
	}
	defer client.Close()
	from, to := []byte("fruit/"), []byte("fruit0") // "0" follows "/"
	if err := client.DeleteRange(ctx, from, to); err != nil {
		return err
	}

	keys := [][]byte{[]byte("fruit/apple"), []byte("fruit/banana"), []byte("fruit/cherry")}
	if err := client.BatchPut(ctx, keys, [][]byte{[]byte("red"), []byte("yellow"), []byte("dark red")}); err != nil {
		return err
	}
	if err := client.Put(ctx, keys[0], []byte("green")); err != nil {
		return err
	}
	value, err := client.Get(ctx, keys[0])
	if err != nil {
		return err
	}
	fmt.Printf("get: %s\n", value)
	if value, err = client.Get(ctx, []byte("fruit/durian")); err != nil {
		return err
	}
	fmt.Printf("absent: %t\n", value == nil)

	found, values, err := client.Scan(ctx, from, to, 100)
	if err != nil {
		return err
	}
	for i := range found {
		fmt.Printf("scan: %s is %s\n", found[i], values[i])
	}
	if found, _, err = client.ReverseScan(ctx, to, from, 1, rawkv.ScanKeyOnly()); err != nil {
		return err
	}
	fmt.Printf("last: %s\n", found[0])

	if err := client.PutWithTTL(ctx, []byte("fruit/fig"), []byte("violet"), 3600); err != nil { // seconds
		return err
	}
	ttl, err := client.GetKeyTTL(ctx, []byte("fruit/fig"))
	if err != nil {
		return err
	}
	fmt.Printf("lives for an hour: %t\n", *ttl > 3500 && *ttl <= 3600)

	sum, err := client.Checksum(ctx, from, to)
	if err != nil {
		return err
	}
	fmt.Printf("checksum of %d keys, %d bytes\n", sum.TotalKvs, sum.TotalBytes)
	return swap(ctx, client, keys[1])
}

// swap changes a value only if it is what was read. All clients that write such
// keys must be atomic ones: other puts may go past it.
func swap(ctx context.Context, client *rawkv.Client, key []byte) error {
	client.SetAtomicForCAS(true)
	_, swapped, err := client.CompareAndSwap(ctx, key, []byte("yellow"), []byte("brown"))
	if err != nil {
		return err
	}
	previous, again, err := client.CompareAndSwap(ctx, key, []byte("yellow"), []byte("black"))
	if err != nil {
		return err
	}
	fmt.Printf("swapped: %t, once more: %t, it is %s\n", swapped, again, previous)
	return nil
}
