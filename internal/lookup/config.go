package lookup

// A Config is one jail's ignore rules.
type Config struct {
	Jail string
	// IgnoreIP are the words of ignoreip: addresses, prefixes, host names,
	// "file:PATH".
	IgnoreIP []string
	// IgnoreSelf ignores this machine's own addresses.
	IgnoreSelf bool
	// IgnoreCommand is a shell command that decides, or empty.
	IgnoreCommand string
}
