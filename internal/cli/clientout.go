package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"bantam/internal/control"
)

// printed is text for a terminal that may hold tabs and lines.
func printed(s string) string {
	parts := strings.Split(s, "\t")
	for i, part := range parts {
		parts[i] = safeLines(part)
	}
	return strings.Join(parts, "\t")
}

// beautify is an answer as the original's client prints it. It goes by the words of the
// command and their places, and falls back on the value as Python shows it.
func (c *client) beautify(words []string, v any) string {
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	plain := control.Str(v)
	switch word(0) {
	case "ping":
		return "Server replied: " + plain
	case "add":
		return "Added jail " + plain
	case "start":
		return "Jail started"
	case "stop":
		if len(words) == 1 {
			return "Shutdown successful"
		}
		return "Jail stopped"
	case "flushlogs":
		return "logs: " + plain
	case "echo":
		return joined(v, " ")
	case "status":
		return statusTree(words, v)
	case "stats", "statistics":
		if d, ok := v.(control.Dict); ok {
			return statsTable(d)
		}
	case "get", "set":
		if text, ok := globalOption(word(1), v); ok {
			return text
		}
		if text, ok := jailOption(words, v); ok {
			return text
		}
	}
	return plain
}

// items are the elements of a list.
func items(v any) []any {
	switch v := v.(type) {
	case control.List:
		return v
	case control.Tuple:
		return v
	}
	return nil
}

func joined(v any, separator string) string {
	list := items(v)
	parts := make([]string, len(list))
	for i, item := range list {
		parts[i] = control.Str(item)
	}
	return strings.Join(parts, separator)
}

// branches are the lines of a tree with one level.
func branches(lines []string) string {
	var b strings.Builder
	for i, line := range lines {
		mark := "|- "
		if i == len(lines)-1 {
			mark = "`- "
		}
		b.WriteString("\n" + mark + line)
	}
	return b.String()
}

// globalOption prints what get and set answer for the whole server.
func globalOption(name string, v any) (text string, ok bool) {
	plain := control.Str(v)
	switch name {
	case "loglevel":
		return "Current logging level is " + control.Repr(v), true
	case "logtarget":
		return "Current logging target is:" + branches([]string{plain}), true
	case "syslogsocket":
		return "Current syslog socket is:" + branches([]string{plain}), true
	case "dbfile":
		if v == nil {
			return "Database currently disabled", true
		}
		return "Current database file is:" + branches([]string{plain}), true
	case "dbpurgeage":
		if v == nil {
			return "Database currently disabled", true
		}
		return "Current database purge age is:" + branches([]string{plain + "seconds"}), true
	}
	return "", false
}

// jailOption prints what get and set answer for one jail.
func jailOption(words []string, v any) (text string, ok bool) {
	if len(words) < 3 {
		return "", false
	}
	jail, option := words[1], words[2]
	list := items(v)
	texts := make([]string, len(list))
	for i, item := range list {
		texts[i] = control.Str(item)
	}
	switch option {
	case "logpath", "addlogpath", "dellogpath":
		if len(list) == 0 {
			return "No file is currently monitored", true
		}
		return "Current monitored log file(s):" + branches(texts), true
	case "logencoding":
		return "Current log encoding is set to:\n" + control.Str(v), true
	case "journalmatch", "addjournalmatch", "deljournalmatch":
		if len(list) == 0 {
			return "No journal match filter set", true
		}
		for i, group := range list {
			texts[i] = joined(group, " ")
		}
		return "Current match filter:\n" + strings.Join(texts, " + "), true
	case "datepattern":
		if len(list) != 2 {
			return "Current date pattern set to: Not set/required", true
		}
		if list[0] == nil {
			return "Current date pattern set to: " + texts[1], true
		}
		return fmt.Sprintf("Current date pattern set to: %s (%s)", texts[0], texts[1]), true
	case "ignoreip", "addignoreip", "delignoreip":
		if len(list) == 0 {
			return "No IP address/network is ignored", true
		}
		return "These IP addresses/networks are ignored:" + branches(texts), true
	case "failregex", "addfailregex", "delfailregex", "ignoreregex", "addignoreregex", "delignoreregex":
		if len(list) == 0 {
			return "No regular expression is defined", true
		}
		for i := range texts {
			texts[i] = fmt.Sprintf("[%d]: %s", i, texts[i])
		}
		return "The following regular expression are defined:" + branches(texts), true
	case "actions":
		if len(list) == 0 {
			return "No actions for jail " + jail, true
		}
		return fmt.Sprintf("The jail %s has the following actions:\n%s", jail, strings.Join(texts, ", ")), true
	case "actionproperties", "actionmethods":
		if len(words) < 4 {
			return "", false
		}
		what := strings.TrimPrefix(option, "action")
		return fmt.Sprintf("The jail %s action %s has the following %s:\n%s", jail, words[3], what, strings.Join(texts, ", ")), true
	case "banip":
		if words[0] != "get" || list == nil {
			return "", false
		}
		separator := " "
		switch {
		case len(words) > 3 && words[3] == "--with-time":
			separator = "\n"
		case len(words) > 3:
			separator = words[3]
		}
		return strings.Join(texts, separator), true
	}
	return "", false
}

// statusTree prints a status of all jails, or of one.
func statusTree(words []string, v any) string {
	list := items(v)
	if len(words) == 1 || words[1] == "--all" {
		lines := []string{"Status"}
		for i, item := range list {
			mark := "|- "
			if i == len(list)-1 {
				mark = "`- "
			}
			if jails, ok := item.(control.Dict); ok {
				lines = append(lines, mark+"Status for the jails:")
				for k, e := range jails {
					front := [2]string{"   |- ", "   |  "}
					if k == len(jails)-1 {
						front = [2]string{"   `- ", "      "}
					}
					lines = append(lines, front[0]+"Jail: "+control.Str(e.Key))
					lines = append(lines, tree(front[1], items(e.Value))...)
				}
				continue
			}
			lines = append(lines, leaf(mark, item))
		}
		return strings.Join(lines, "\n")
	}
	if len(words) > 2 && words[2] == "stats" {
		return control.Str(v)
	}
	return strings.Join(append([]string{"Status for the jail: " + words[1]}, tree("", list)...), "\n")
}

// tree prints pairs of a name and a list of pairs.
func tree(indent string, list []any) []string {
	var lines []string
	for i, item := range list {
		pair := items(item)
		if len(pair) != 2 {
			continue
		}
		front := [2]string{"|- ", "|  "}
		if i == len(list)-1 {
			front = [2]string{"`- ", "   "}
		}
		lines = append(lines, indent+front[0]+control.Str(pair[0]))
		below := items(pair[1])
		for k, leafItem := range below {
			mark := "|- "
			if k == len(below)-1 {
				mark = "`- "
			}
			lines = append(lines, leaf(indent+front[1]+mark, leafItem))
		}
	}
	return lines
}

// leaf prints one pair of a name and a value.
func leaf(front string, item any) string {
	pair := items(item)
	if len(pair) != 2 {
		return front + control.Str(item)
	}
	value := control.Str(pair[1])
	if list, ok := pair[1].(control.List); ok {
		value = joined(list, " ")
	}
	return front + control.Str(pair[0]) + ":\t" + value
}

// statsTable prints the figures of all jails. The columns grow with what stands in them.
func statsTable(d control.Dict) string {
	if len(d) == 0 {
		return "No jails found."
	}
	widths := []int{8, 8, 3, 3, 3, 3}
	var rows [][]string
	for _, e := range d {
		row := []string{control.Str(e.Key)}
		if list := items(e.Value); len(list) == 3 {
			row = append(row, control.Str(list[0]))
			for _, pair := range list[1:] {
				for _, n := range items(pair) {
					row = append(row, control.Str(n))
				}
			}
		}
		if len(row) != len(widths) {
			return control.Str(d)
		}
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
		rows = append(rows, row)
	}
	filter, actions := widths[2]+widths[3]+3, widths[4]+widths[5]+3
	line := func(n int) string { return strings.Repeat("═", n) }
	out := []string{
		fmt.Sprintf(" %-*s ║ %-*s ║ %-*s ║ %-*s", widths[0], "", widths[1], "", filter, "Filter", actions, "Actions"),
		fmt.Sprintf(" %-*s ║ %-*s ╟─%s─╫─%s─", widths[0], "Jail", widths[1], "Backend", strings.Repeat("─", filter), strings.Repeat("─", actions)),
		fmt.Sprintf(" %-*s ║ %-*s ║ %*s │ %*s ║ %*s │ %*s", widths[0], "", widths[1], "",
			widths[2], "cur", widths[3], "tot", widths[4], "cur", widths[5], "tot"),
		fmt.Sprintf("%s╬%s╬%s╬%s", line(widths[0]+2), line(widths[1]+2), line(filter+2), line(actions+2)),
	}
	for _, r := range rows {
		out = append(out, fmt.Sprintf(" %-*s ║ %-*s ║ %*s │ %*s ║ %*s │ %*s",
			widths[0], r[0], widths[1], r[1], widths[2], r[2], widths[3], r[3], widths[4], r[4], widths[5], r[5]))
	}
	out = append(out, fmt.Sprintf("%s╩%s╩%s╩%s", line(widths[0]+2), line(widths[1]+2), line(filter+2), line(actions+2)))
	text := strings.Join(out, "\n")
	if !utf8Terminal() {
		text = strings.NewReplacer("║", "|", "│", "|", "╟", "|", "═", "-", "─", "-", "╫", "x", "╬", "x", "╩", "-").Replace(text)
	}
	return text
}

// clientCommands are the commands in the order of help: what is written, and what it does.
// Those without a form are headings. Shell completions read this list.
var clientCommands = []struct{ form, does string }{
	{"", "THE SERVER"},
	{"start", "start it"},
	{"restart", "stop it and start it"},
	{"restart [--unban] [--if-exists] <JAIL>", "as reload: counts and bans stay"},
	{"reload [--restart] [--unban] [--all]", "read the configuration again; bans stay, unless --unban lifts them"},
	{"reload [--restart] [--unban] [--if-exists] <JAIL>", "the same for one jail"},
	{"stop", "end the server and lift every ban"},
	{"status", "how many jails there are, and which"},
	{"status --all [FLAVOR]", "the status of every jail"},
	{"stat[istic]s", "all jails as a table"},
	{"ping", "is it there?"},
	{"echo", "say the words again"},
	{"version", "the version it answers for"},
	{"banned", "who is banned, by jail"},
	{"banned <IP> ... <IP>", "by which jails each is banned"},
	{"unban --all", "lift every ban"},
	{"unban <IP> ... <IP>", "lift the bans of these in every jail"},
	{"help", "this list, when commands are read with -i"},
	{"", "LOG AND DATABASE"},
	{"set loglevel <LEVEL>", "how much is logged"},
	{"get loglevel", "show it"},
	{"set logtarget <TARGET>", "where the log goes"},
	{"get logtarget", "show it"},
	{"set syslogsocket auto|<SOCKET>", "the socket of syslog"},
	{"get syslogsocket", "show it"},
	{"flushlogs", "open the log file anew, after it was renamed"},
	{"set dbfile <FILE>", "refused unless it is the file in use"},
	{"get dbfile", "the database"},
	{"set dbmaxmatches <INT>", "lines kept per ban"},
	{"get dbmaxmatches", "show it"},
	{"set dbpurgeage <SECONDS>", "how long bans that are over are remembered"},
	{"get dbpurgeage", "show it"},
	{"", "JAILS"},
	{"add <JAIL> <BACKEND>", "make a jail; start puts it to work"},
	{"start <JAIL>", "put it to work"},
	{"stop <JAIL>", "end it and its bans"},
	{"status <JAIL> [FLAVOR]", "its figures; basic, short, cymru or stats"},
	{"", "WHAT A JAIL DOES"},
	{"set <JAIL> idle on|off", "keep failures for later"},
	{"set <JAIL> ignoreself true|false", "never ban this machine's addresses"},
	{"set <JAIL> addignoreip <IP>", "never ban it; lifts its ban"},
	{"set <JAIL> delignoreip <IP>", "take it off that list"},
	{"set <JAIL> ignorecommand <VALUE>", "a command that decides whom to ignore"},
	{"set <JAIL> addlogpath <FILE> ['tail']", "read this log, too"},
	{"set <JAIL> dellogpath <FILE>", "read it no more"},
	{"set <JAIL> logencoding <ENCODING>", "the encoding of the logs"},
	{"set <JAIL> addjournalmatch <MATCH>", "read these entries of the journal, too"},
	{"set <JAIL> deljournalmatch <MATCH>", "read them no more"},
	{"set <JAIL> addfailregex <REGEX>", "an expression more"},
	{"set <JAIL> delfailregex <INDEX>", "one less"},
	{"set <JAIL> addignoreregex <REGEX>", "an expression for lines that are no failures"},
	{"set <JAIL> delignoreregex <INDEX>", "one less"},
	{"set <JAIL> findtime <TIME>", "how long a failure counts"},
	{"set <JAIL> bantime <TIME>", "how long the bans from now on last"},
	{"set <JAIL> datepattern <PATTERN>", "how time stamps look"},
	{"set <JAIL> usedns <VALUE>", "whether host names count"},
	{"set <JAIL> attempt <IP> [<failure1> ... <failureN>]", "count failures that no log tells of"},
	{"set <JAIL> banip [--force] <IP> ... <IP>", "ban by hand"},
	{"set <JAIL> unbanip [--report-absent] <IP> ... <IP>", "lift bans"},
	{"set <JAIL> maxretry <RETRY>", "failures that make a ban"},
	{"set <JAIL> maxmatches <INT>", "lines kept per offender"},
	{"set <JAIL> maxlines <LINES>", "lines an expression may span"},
	{"set <JAIL> delaction <ACT>", "take an action away"},
	{"", "WHAT A JAIL IS"},
	{"get <JAIL> banned", "who is banned, as a list"},
	{"get <JAIL> banned <IP> ... <IP>", "1 for each that is, 0 for each that is not"},
	{"get <JAIL> banip [<SEP>|--with-time]", "who is banned, the first to end first"},
	{"get <JAIL> logpath", "its logs"},
	{"get <JAIL> logencoding", "their encoding"},
	{"get <JAIL> journalmatch", "what it reads of the journal"},
	{"get <JAIL> ignoreself", "whether this machine's addresses are ignored"},
	{"get <JAIL> ignoreip", "who is ignored"},
	{"get <JAIL> ignorecommand", "the command that decides it"},
	{"get <JAIL> failregex", "its expressions"},
	{"get <JAIL> ignoreregex", "those for lines that are no failures"},
	{"get <JAIL> findtime", "how long a failure counts"},
	{"get <JAIL> bantime", "how long a ban lasts"},
	{"get <JAIL> datepattern", "how time stamps look"},
	{"get <JAIL> usedns", "whether host names count"},
	{"get <JAIL> maxretry", "failures that make a ban"},
	{"get <JAIL> maxmatches", "lines kept per offender"},
	{"get <JAIL> maxlines", "lines an expression may span"},
	{"get <JAIL> actions", "its actions"},
	{"get <JAIL> actionproperties <ACT>", "the parameters of one"},
	{"get <JAIL> action <ACT> <PROPERTY>", "the value of a parameter"},
}

// helpColumn is where descriptions begin.
const helpColumn = 45

// usage prints the help. Shell completions of the original read it: options and commands
// stand four columns in, descriptions begin at a fixed column.
func (c *client) usage() {
	c.printf("Usage: %s [OPTIONS] <COMMAND>\n\nBantam answers for Fail2Ban v%s: it reads logs, notices who keeps failing, and\nshuts them out. bantam help shows its own commands.\n\nOptions:\n", c.name, clientVersion)
	for _, o := range clientOptions() {
		if o.hidden {
			continue
		}
		form := strings.Join(o.names(), ", ")
		if o.takes != "" {
			form += " <" + o.takes + ">"
		}
		c.printf("    %-23s %s\n", form, o.help)
	}
	c.printf("\nCommand:\n")
	for _, command := range clientCommands {
		switch {
		case command.form == "":
			c.printf("%*s%s\n", helpColumn, "", command.does)
		case len(command.form) >= helpColumn-4:
			c.printf("    %s\n%*s%s\n", command.form, helpColumn, "", command.does)
		default:
			c.printf("    %-*s%s\n", helpColumn-4, command.form, command.does)
		}
	}
}

// utf8Terminal reports whether the locale's encoding is UTF-8.
func utf8Terminal() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return slices.Contains([]string{"utf-8", "utf8"}, v[strings.LastIndexByte(v, '.')+1:])
		}
	}
	return false
}
