package pd

// Version is what PD reports as its own and the cluster's version: the version
// of TiKV's protocol that it speaks.
const Version = "8.5.0"
