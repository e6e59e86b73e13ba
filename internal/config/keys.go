package config

import "strings"

// A key is an option that is read. docs/reference/config.md shows the same table.
type key struct {
	name, kind string
	def        string // what holds where no file says anything
	meaning    string
}

// Kinds of values; docs/reference/config.md says what each looks like.
const (
	kindBool   = "yes/no"
	kindInt    = "number"
	kindTime   = "time"
	kindText   = "text"
	kindLines  = "lines"
	kindWords  = "words"
	kindWord   = "word"
	kindAction = "actions"

	kindFormula = "formula"
	kindNumbers = "numbers"

	kindCountries = "countries"
	kindNetworks  = "networks"
	kindByCountry = "times"
	kindWeights   = "weights"
)

// jailKeys are the options of a jail.
var jailKeys = []key{
	{"enabled", kindBool, "no", "whether the jail is there at all"},
	{"filter", "name[…]", "", "the filter and its parameters; none: the jail has only its own failregex"},
	{"backend", kindWord, "auto", "where lines come from: `auto`, `inotify` (or `pyinotify`), `polling`, `systemd`, `syslog`, `command`; what each takes in brackets is told below"},
	{"logpath", kindLines, "", "log files or patterns of them, each absolute, perhaps with the word `head` or `tail` behind: where to start in a file never seen before; `-` is standard input"},
	{"logencoding", kindWord, "auto", "the encoding of the log, by Python's name"},
	{"logtimezone", kindWord, "", "the zone of time stamps that name none; local time without"},
	{"journalmatch", kindLines, "the filter's", "what to read from the journal, as `journalctl` takes it; lines and `+` are alternatives"},
	{"systemd_if_nologs", kindBool, "yes", "whether the backend `auto` turns to the journal when there is no log file"},
	{"skip_if_nologs", kindBool, "no", "accepted; a log that is missing is waited for in any case"},
	{"failregex", kindLines, "the filter's", "replaces the filter's expressions; `%(known/failregex)s` is what they were"},
	{"ignoreregex", kindLines, "the filter's", "replaces the filter's expressions for lines that are no failures"},
	{"prefregex", kindText, "the filter's", "an expression that must match before any failregex is tried"},
	{"maxlines", kindInt, "the filter's, else 1", "how many lines an expression may span; at least 1"},
	{"json", kindWords, "the filter's", "fields of JSON lines that are judged, in this order, as `FIELD=VALUE FIELD=VALUE`; see [Lines of JSON](#lines-of-json)"},
	{"datepattern", kindLines, "the filter's", "how time stamps look; none: the usual forms"},
	{"usedns", kindWord, "the filter's, else warn", "whether host names in logs count: `yes`, `warn`, `no`, `raw`"},
	{"ignoreip", kindWords, "", "addresses, prefixes and names that are never banned, and `file:PATH` with more of them"},
	{"ignoreself", kindBool, "yes", "never ban this machine's own addresses"},
	{"ignorelogins", kindTime, "0", "hold back a ban that would hit somebody who is logged in through sshd, or an administrator who was within this time; 0: ban him, too; see [Administrators](#administrators)"},
	{"ignorelocal", kindBool, "no", "never ban in the networks that are local: the private ones of this machine's interfaces, or those that `settings` names"},
	{"ignorecommand", kindText, "", "a shell command that says by its exit status 0 that a failure does not count, by 1 that it does; see below"},
	{"ignorecache", kindText, "", "`key=\"…\", max-count=100, max-time=5m`: for how long and for how many its answers are kept; see below"},
	{"ignorecountry", kindCountries, "", "countries from which nobody is banned; see [Countries and networks](#countries-and-networks)"},
	{"bancountry", kindCountries, "", "countries from which alone failures count"},
	{"ignoreasn", kindNetworks, "", "networks from which nobody is banned"},
	{"banasn", kindNetworks, "", "networks from which alone failures count"},
	{"country.unknown", kindWord, "ban", "what becomes of those about whom these four cannot tell: `ban` counts them as if there was no rule, `ignore` does not count them"},
	{"maxretry", kindInt, "3", "failures that make a ban; 0 and 1 ban at the first"},
	{"findtime", kindTime, "10m", "how long a failure counts; more than 0"},
	{"weight", kindWeights, "", "for how many failures one counts that a failregex matches, by its number: `2:3`; see [Failures that count more or less](#failures-that-count-more-or-less)"},
	{"distinct", kindWord, "", "`user`: count different users; see there"},
	{"bantime", kindTime, "10m", "how long a ban lasts; -1 is for ever"},
	{"bantime.country", kindByCountry, "", "another `bantime` for the bans of some countries: `cn:1w ru:-1`"},
	{"bantime.increment", kindBool, "no", "whether the bans of who was banned before last longer, and their failures count more; see below"},
	{"bantime.factor", kindFormula, "1", "a number that repeated bans are multiplied by, `banFactor` in the formula"},
	{"bantime.formula", kindFormula, "ban.Time * (1 << min(ban.Count, 20)) * banFactor", "how many seconds a repeated ban lasts; never less than `bantime`"},
	{"bantime.multipliers", kindNumbers, "", "in place of the formula: by what the first, second, third ban … is multiplied; the last number goes for all that follow"},
	{"bantime.maxtime", kindTime, "", "the longest repeated ban; none: no limit"},
	{"bantime.rndtime", kindTime, "", "a repeated ban lasts longer by a random time up to this, beyond `bantime.maxtime`, too"},
	{"bantime.overalljails", kindBool, "no", "count the bans of all jails, not only this one's"},
	{"maxmatches", kindInt, "5", "log lines kept per offender"},
	{"action", kindAction, "", "what a ban does; none: the jail only counts"},
	{"prefix4", kindInt, "0", "count and ban IPv4 addresses by prefixes of this length, 1 to 32; 0 is single addresses"},
	{"prefix6", kindInt, "0", "the same for IPv6, 1 to 128"},
	{"observe", kindBool, "no", "decide and write down, carry nothing out"},
}

// daemonKeys are the options of [Definition] in fail2ban.conf and bantam.conf.
// Their defaults are those that hold where there is a fail2ban.conf; without one
// they are the library's bantam.conf.
var daemonKeys = []key{
	{"loglevel", kindWord, "INFO", "`CRITICAL`, `ERROR`, `WARNING`, `NOTICE`, `INFO`, `DEBUG`, `TRACEDEBUG` or `HEAVYDEBUG`"},
	{"logtarget", kindText, "/var/log/fail2ban.log", "a file, `STDOUT`, `STDERR`, `SYSLOG`, `SYSTEMD-JOURNAL` or `SYSOUT`"},
	{"syslogsocket", kindText, "auto", "the socket for `SYSLOG`"},
	{"socket", kindText, "/var/run/fail2ban/fail2ban.sock", "where `fail2ban-client` is answered; empty: nowhere"},
	{"pidfile", kindText, "/var/run/fail2ban/fail2ban.pid", "holds the number of the process; empty: none"},
	{"dbfile", kindText, "/var/lib/fail2ban/fail2ban.sqlite3", "the database; `None` or `:memory:` keeps it in memory, so that a restart forgets every ban"},
	{"dbmaxmatches", kindInt, "10", "log lines kept per ban in the database"},
	{"dbpurgeage", kindTime, "1d", "how long bans that are over are remembered"},
	{"allowipv6", kindWord, "auto", "`auto`, `yes` or `no`"},
	{"apigroup", kindWord, "", "a group whose members may read through Bantam's API (`bantam status` and its like); changes need root. None: only root does either"},
	{"geodb", kindWords, "", "databases of countries and networks: `.mmdb` files with absolute paths; see [Countries and networks](#countries-and-networks)"},
	{"abusezone", kindWord, "", "the DNS zone that knows who takes complaints about an address, by a TXT record at the reversed address; none: abuse-contacts.abusix.zone"},
	{"settings", kindText, "", "`esmith:PATH`: an SME Server's configuration database, from which jails are made; see [Settings](#settings)"},
	{"runtimecommands", kindBool, "no", "whether root may set the commands of actions through Fail2Ban's socket"},
}

// plainKeys are names without an effect of their own: other configurations use
// them through %(x)s, so they are no mistake where nothing does.
var plainKeys = map[string]bool{}

func init() {
	for k := range strings.FieldsSeq(`banaction banaction_allports action_ action_mw action_mwl action_xarf action_cf_mwl action_blocklist_de
		action_abuseipdb mta destemail sender sendername protocol chain port mode fail2ban_agent default_backend tcpport udpport
		blocktype returntype knocking_url suhosin_log blocklist_de_apikey syslog_authpriv syslog_daemon syslog_ftp syslog_mail
		syslog_mail_warn syslog_user syslog_local0 syslog_backend __name__`) {
		plainKeys[k] = true
	}
}

func knownJailKey(name string) bool {
	if plainKeys[name] || strings.HasPrefix(name, "action_") ||
		strings.HasSuffix(name, "_log") || strings.HasSuffix(name, "_backend") {
		return true
	}
	return hasKey(jailKeys, name)
}

func hasKey(keys []key, name string) bool {
	for _, k := range keys {
		if k.name == name {
			return true
		}
	}
	return false
}

// keyNames are the names worth guessing.
func keyNames(keys []key) []string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}
