package catalog

import "github.com/tikv/client-go/v2/kv"

type (
	tikvGetOption = kv.GetOption
	tikvValue     = kv.ValueEntry
)
