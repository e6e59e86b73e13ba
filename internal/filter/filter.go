// Package filter judges a line for all jails of its source.
package filter

// A Config is one jail's filter, with every option already substituted.
type Config struct {
	Jail string
	Name string // the filter's name, for messages
	// Prefregex is empty or an expression that must match before any other.
	Prefregex string
	// Failregex and Ignoreregex are Python expressions with Fail2Ban's tags
	// (<HOST>, <F-USER>…) still in them, in their order.
	Failregex, Ignoreregex []string
	// DatePattern are Fail2Ban's date patterns; none means the default templates.
	DatePattern []string
	// MaxLines is Fail2Ban's maxlines; 0 and 1 judge each line alone.
	MaxLines int
	// UseDNS is yes, warn, no or raw: whether host names count.
	UseDNS string
	// LogTimezone is the zone of stamps without one, or empty for local time.
	LogTimezone string
	// LogEncoding is empty or "auto" for UTF-8, else a name of Python's codecs.
	LogEncoding string
}
