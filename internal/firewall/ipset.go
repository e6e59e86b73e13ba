package firewall

const (
	hashIP          = "hash:ip"
	hashNet         = "hash:net"
	ipsetNameLen    = 31 // IPSET_MAXNAMELEN of linux/netfilter/ipset/ip_set.h, with its NUL
	defaultMaxElem  = 65536
	maxIPSetTimeout = 2147483 // seconds: IPSET_MAX_TIMEOUT, UINT_MAX / MSEC_PER_SEC / 2
)
