package parse

import (
	"container/list"
	"sync"

	"github.com/copradb/copra/sqlfront/ast"
)

// Limits of a Cache.
const (
	CacheEntriesMax = 4096
	// CacheTextBytesMax bounds the texts kept; a tree is about ten times its text.
	CacheTextBytesMax = 8 << 20
	// cacheEntryBytesMax keeps long one-off statements (bulk INSERTs) out.
	cacheEntryBytesMax = 16 << 10
)

// Cache keeps the trees of recently parsed query strings, least recently used
// out first. It is safe for concurrent use. The zero Cache is ready.
type Cache struct {
	mu      sync.Mutex
	entries map[string]*list.Element
	order   list.List // front = most recently used
	bytes   int
}

type cacheEntry struct {
	text  string
	stmts []*ast.Statement
}

// Parse is Parse through the cache. The statements are shared: read only.
func (c *Cache) Parse(sql string) ([]*ast.Statement, error) {
	if stmts, ok := c.get(sql); ok {
		return stmts, nil
	}
	stmts, err := Parse(sql)
	if err == nil && len(sql) <= cacheEntryBytesMax {
		c.put(sql, stmts)
	}
	return stmts, err
}

func (c *Cache) get(sql string) ([]*ast.Statement, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[sql]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cacheEntry).stmts, true
}

func (c *Cache) put(sql string, stmts []*ast.Statement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[sql]; ok {
		return
	}
	if c.entries == nil {
		c.entries = make(map[string]*list.Element)
	}
	c.entries[sql] = c.order.PushFront(&cacheEntry{text: sql, stmts: stmts})
	c.bytes += len(sql)
	for len(c.entries) > CacheEntriesMax || c.bytes > CacheTextBytesMax {
		e := c.order.Back()
		old := c.order.Remove(e).(*cacheEntry)
		delete(c.entries, old.text)
		c.bytes -= len(old.text)
	}
}

// Len is the number of query strings kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}
