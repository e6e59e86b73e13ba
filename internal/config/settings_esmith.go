package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"bantam"
)

// A database of SME Server is a text file: each line is NAME=TYPE|PROPERTY|VALUE|PROPERTY|VALUE…,
// or NAME=VALUE; a | within a value is written \|; lines that begin with # are
// comments (SME Server's developer's guide, "Configuration database", and what its command db writes).

// A record is one line of it.
type record struct {
	name, kind string
	props      map[string]string
	line       int
}

// get is a property, its name in any spelling.
func (r *record) get(prop string) string {
	if r == nil {
		return ""
	}
	if v, ok := r.props[prop]; ok {
		return v
	}
	for key, v := range r.props {
		if strings.EqualFold(key, prop) {
			return v
		}
	}
	return ""
}

// A database is a file that was read, and what is wrong with it.
type database struct {
	file    string
	records map[string]*record
	names   []string            // of records, in the order of the file
	named   map[string]bool     // those
	wrong   map[string]*Problem // records that cannot be read, by name
	broken  *Problem            // nothing in it can be trusted
	cut     *Problem            // it ends in the middle: what follows is missing
}

func (d *database) problem(line int, text, hint string) *Problem {
	return &Problem{File: d.file, Line: line, Text: text, Hint: hint}
}

const (
	damagedHint = "is it a database of SME Server, and whole? restore it from the backup; the last start or reload that went well goes on"
	// maxProps bounds the properties of one record; SME Server's own have some dozens at most.
	maxProps = 1000
)

// parseDatabase reads a database; file is for messages. It takes no more than some times the size of
// text, which is bounded by who reads the file.
func parseDatabase(file string, text []byte) *database {
	d := &database{file: file, named: map[string]bool{}, records: map[string]*record{}, wrong: map[string]*Problem{}}
	switch {
	case len(text) > maxFile:
		d.broken = d.problem(0, fmt.Sprintf("the database is larger than %d MiB", maxFile>>20), damagedHint)
		return d
	case len(bytes.TrimSpace(text)) == 0:
		d.broken = d.problem(0, "the database is empty", damagedHint)
		return d
	}
	if at := bytes.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' }); at >= 0 {
		d.broken = d.problem(1+bytes.Count(text[:at], []byte("\n")), "the database is not text", damagedHint)
		return d
	}
	lines := strings.Split(string(text), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		lines = lines[:last]
		d.cut = d.problem(last+1, "the database ends in the middle of a line: it is cut off", damagedHint)
	}
	for n, line := range lines {
		d.line(n+1, strings.TrimSuffix(line, "\r"))
		if d.broken != nil {
			break
		}
	}
	return d
}

func (d *database) line(n int, line string) {
	if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
		return
	}
	name, rest, ok := strings.Cut(line, "=")
	if name = strings.TrimSpace(name); !ok || name == "" || strings.Contains(name, "|") {
		d.broken = d.problem(n, fmt.Sprintf("%s is no record", quote(line)), "each line is NAME=TYPE|PROPERTY|VALUE…; "+damagedHint)
		return
	}
	words := unpiped(rest)
	r := &record{name: name, kind: words[0], props: map[string]string{}, line: n}
	delete(d.wrong, name) // the last line of a name counts
	if len(words)%2 == 0 || len(words) > 2*maxProps {
		d.wrong[name] = d.problem(n, fmt.Sprintf("the record %s has a property without a value: %s", quote(name), quote(words[len(words)-1])), damagedHint)
		if len(words) > 2*maxProps {
			d.wrong[name].Text = fmt.Sprintf("the record %s has more than %d properties", quote(name), maxProps)
		}
		delete(d.records, name)
		return
	}
	for i := 1; i < len(words); i += 2 {
		r.props[words[i]] = words[i+1]
	}
	if !d.named[name] {
		d.names, d.named[name] = append(d.names, name), true
	}
	d.records[name] = r
}

// unpiped cuts text at each | that has no backslash before it.
func unpiped(text string) []string {
	var words []string
	var word strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '|':
			word.WriteByte('|')
			i++
		case text[i] == '|':
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(text[i])
		}
	}
	return append(words, word.String())
}

// A servicePort is where a service listens if its record does not say.
type servicePort struct {
	service, ports string
	always         bool // also if there is no such record
}

// An smeJail is a jail of an SME Server.
type smeJail struct {
	name     string
	services []string // which have it: one of them that runs is enough; none: it is always there
	filter   string
	logs     string        // one a line
	ports    []servicePort // none: all
	// standard is the jail's name in the library, whose section it does not take.
	standard string
	// times is by what MaxRetry is multiplied, 0 for 1.
	times int
	// head is the jail's prefregex, where its log is the service's standard error and not syslog's.
	head string
	// rules is the jail's failregex, if it is not the filter's.
	rules string
	// asked is true for a jail that is only there if the record says Fail2Ban|enabled.
	asked bool
}

var (
	webPorts   = []servicePort{{"httpd-e-smith", "80", true}, {"modSSL", "443", true}}
	webService = []string{"httpd-e-smith"}
	sshPort    = []servicePort{{"sshd", "22", true}}
	sshService = []string{"sshd"}
)

const (
	apacheErrors = "/var/log/httpd/error_log"
	apacheAccess = "/var/log/httpd/access_log"
	sshdCurrent  = "/var/log/sshd/current"
	// sshdHead is what stands before sshd's messages on its standard error: nothing (do_log in log.c of OpenSSH); or
	// what syslog puts there, where sshd writes that.
	sshdHead = `^\s*(?:(?:\S+ )?sshd(?:-session|-auth)?<F-MLFID>\[\d+\]</F-MLFID>: )?(?:(?:error|fatal): )?<F-CONTENT>.+</F-CONTENT>$`
)

// smeJails are the jails of SME Server's guide, under its names, and those that its readers wish for.
var smeJails = []smeJail{
	{name: "ssh", services: sshService, filter: "sshd", logs: sshdCurrent, ports: sshPort, standard: "sshd", head: sshdHead},
	{
		name: "ssh-ddos", services: sshService, filter: "sshd[mode=ddos]", logs: sshdCurrent, ports: sshPort, standard: "sshd", head: sshdHead,
		rules: "%(known/mdre-ddos)s", // only these: ssh counts the others
	},
	{
		name: "qpsmtpd", services: []string{"qpsmtpd", "sqpsmtpd", "uqpsmtpd"}, filter: "qpsmtpd", logs: "/var/log/*qpsmtpd/current",
		ports: []servicePort{{"qpsmtpd", "25", true}, {"sqpsmtpd", "465", true}, {"uqpsmtpd", "587", false}}, times: 3,
	},
	{name: "http-overflows", services: webService, filter: "apache-overflows", logs: apacheErrors, ports: webPorts, standard: "apache-overflows"},
	{name: "http-noscript", services: webService, filter: "apache-noscript", logs: apacheErrors, ports: webPorts, standard: "apache-noscript"},
	{name: "http-scan", services: webService, filter: "apache-botsearch", logs: apacheErrors, ports: webPorts, standard: "apache-botsearch"},
	{name: "http-auth", services: webService, filter: "apache-auth", logs: apacheErrors, ports: webPorts, standard: "apache-auth"},
	{name: "http-badbots", services: webService, filter: "apache-badbots", logs: apacheAccess, ports: webPorts, standard: "apache-badbots"},
	{name: "http-fakegooglebot", services: webService, filter: "apache-fakegooglebot", logs: apacheAccess, ports: webPorts, standard: "apache-fakegooglebot"},
	{name: "http-shellshock", services: webService, filter: "apache-shellshock", logs: apacheErrors, ports: webPorts, standard: "apache-shellshock"},
	{
		name: "imap", services: []string{"dovecot", "imap", "imaps"}, filter: "dovecot", logs: "/var/log/dovecot/current\n/var/log/imap*/current",
		ports:    []servicePort{{"imap", "143", true}, {"imaps", "993", true}, {"pop3", "110", false}, {"pop3s", "995", false}},
		standard: "dovecot",
	},
	{
		name: "ftp", services: []string{"ftp", "proftpd"}, filter: "proftpd", logs: "/var/log/proftpd/*log\n/var/log/secure\n/var/log/messages",
		ports: []servicePort{{"ftp", "20,21", true}}, standard: "proftpd",
	},
	{name: "sogo", services: []string{"sogod"}, filter: "sogo-auth", logs: "/var/log/sogo/sogo.log", ports: webPorts, standard: "sogo-auth"},
	{
		name: "lemonldap-ng", services: []string{"lemonldap", "LemonLDAP", "lemonldap-ng"}, filter: "lemonldap-ng",
		logs: "/var/log/messages\n/var/log/secure\n" + apacheErrors, ports: webPorts,
	},
	{
		name: "ejabberd", services: []string{"ejabberd"}, filter: "ejabberd-auth", logs: "/var/log/ejabberd/ejabberd.log",
		ports: []servicePort{{"ejabberd", "5222,5223", true}}, standard: "ejabberd-auth",
	},
	{name: "pam-generic", services: []string{"pam"}, filter: "pam-generic", logs: "/var/log/secure", times: 2},
	{name: "recidive", services: []string{"recidive"}, filter: "recidive", logs: "/var/log/fail2ban/daemon.log"},
	{name: "wordpress-login", services: []string{"wordpress"}, filter: "wordpress-login", logs: apacheAccess, ports: webPorts},
	{name: "portscan", services: []string{"masq"}, filter: "portscan", logs: "/var/log/iptables/current\n/var/log/messages", asked: true},
}

// unlisted are the jails that are there without a record.
func (j *smeJail) unlisted() bool { return j.name == "pam-generic" || j.name == "recidive" }

// An esmith is what an SME Server's databases come to.
type esmith struct {
	file   *file
	always []string            // networks that are never banned
	local  []string            // and these neither, if ignorelocal says so
	aside  map[string]*Problem // jails that cannot be told
	scaled map[string]int      // jails whose maxretry is that of all times this
	named  map[string]*Setting // services of the database
	order  []string            // their names

	db, networks *database
}

// settingsAt is the path of the database that settings = esmith:PATH names, "" if it names none.
func settingsAt(text string) (string, error) {
	if trim(text) == "" {
		return "", nil
	}
	kind, where, ok := strings.Cut(trim(text), ":")
	switch {
	case !ok || kind != "esmith":
		return "", fmt.Errorf("%s is not esmith:PATH", quote(text))
	case !filepath.IsAbs(where):
		return "", fmt.Errorf("the path %s is not absolute", quote(where))
	}
	return filepath.Clean(where), nil
}

// esmith reads the databases that settings names; nil if it names none. What is wrong with settings
// itself is for the reader of the program's options to say.
func (t *tree) esmith() *esmith {
	s, _, err := t.daemonSet()
	if err != nil {
		return nil // told by who needs these options
	}
	sc := &scope{set: s, section: "Definition"}
	v := s.raw("Definition", "settings")
	if v == nil {
		return nil
	}
	text, err := sc.expand(v)
	if err != nil {
		return nil
	}
	where, err := settingsAt(text)
	if where == "" || err != nil {
		return nil
	}
	e := &esmith{
		file: &file{name: where, defaults: newSection(defaultName, 0)}, aside: map[string]*Problem{}, scaled: map[string]int{},
		named: map[string]*Setting{}, db: t.database(where), networks: t.database(path.Join(path.Dir(where), "networks")),
	}
	e.build(t)
	return e
}

// database reads one of them. The problem of a file that cannot be read is its broken.
func (t *tree) database(where string) *database {
	p := place{false, where}
	text, err := t.read(p)
	if err == nil {
		return parseDatabase(where, text)
	}
	d := &database{file: where}
	if !errors.As(err, &d.broken) {
		d.broken = d.problem(0, err.Error(), "")
	}
	if !t.exists(p) {
		d.broken = d.problem(0, "there is no such file", "settings = esmith:PATH in bantam.conf or fail2ban.conf names SME Server's configuration database, /home/e-smith/db/configuration")
	}
	return d
}

// switched is whether a property that knows enabled and disabled says so; def is for one that
// is not there.
func (e *esmith) switched(r *record, prop string, def bool) (bool, *Problem) {
	switch text := r.get(prop); strings.ToLower(trim(text)) {
	case "":
		return def, nil
	case "enabled", "yes":
		return true, nil
	case "disabled", "no":
		return false, nil
	default:
		return def, e.db.problem(r.line, fmt.Sprintf("%s of %s is neither enabled nor disabled: %s", prop, quote(r.name), quote(text)), "db configuration setprop "+printable(r.name)+" "+prop+" enabled")
	}
}

// build makes jails of the records.
func (e *esmith) build(t *tree) {
	own := e.db.records["fail2ban"]
	all := e.db.broken // what concerns every jail
	note := func(p **Problem, more *Problem) {
		if *p == nil {
			*p = more
		}
	}
	if own == nil {
		note(&all, e.db.wrong["fail2ban"])
		if e.db.cut != nil {
			note(&all, e.db.cut) // whom never to ban may be in what is missing
		}
	}
	on, problem := e.switched(own, "status", true)
	note(&all, problem)
	note(&all, e.defaults(own))
	note(&all, e.trusted(t))
	for i := range smeJails {
		// The library's own jail of the same log would count the same failures once more.
		if j := &smeJails[i]; j.standard != "" && e.file.section(j.standard) == nil {
			other := newSection(j.standard, 0)
			e.set(other, "enabled", "false", nil)
			e.file.sections = append(e.file.sections, other)
		}
	}
	for i := range smeJails {
		if on {
			e.jail(&smeJails[i], all)
		}
	}
}

// set is an option of the file that the databases come to; what it says is taken as it stands.
func (e *esmith) set(sec *section, key, text string, r *record) {
	v := &Value{Text: text, File: e.file.name, key: key}
	if r != nil {
		v.Line = r.line
	}
	sec.set(key, v)
}

// The settings of an SME Server that its record fail2ban does not have.
var smeDefaults = map[string]string{
	"BanTime": "1800", "FindTime": "900", "MaxRetry": "3", "FilterLocalNetworks": "disabled", "Mail": "enabled", "MailRecipient": "root",
	"RecidiveBanTime": "604800", "RecidiveFindTime": "86400", "RecidiveMaxRetry": "5",
}

// defaults are the settings of all jails.
func (e *esmith) defaults(own *record) (wrong *Problem) {
	recidive := newSection("recidive", 0)
	for i := range settingKeys {
		k := &settingKeys[i]
		text := trim(own.get(k.name))
		if text == "" {
			text = smeDefaults[k.name]
		}
		value, err := k.value(text, mailAction("%(action_)s"))
		if err != nil {
			p := *err
			p.File, p.Line, p.Key = e.db.file, own.line, k.name
			if p.Hint != "" {
				p.Hint += ": "
			}
			p.Hint += "db configuration setprop fail2ban " + k.name + " VALUE"
			if wrong == nil {
				wrong = &p
			}
			continue
		}
		if text == "" {
			continue // what the folder's files say holds
		}
		from := own
		if own.get(k.name) == "" {
			from = nil
		}
		to := e.file.defaults
		if k.section != defaultName {
			to = recidive
		}
		e.set(to, k.option, value, from)
	}
	e.file.sections = append(e.file.sections, recidive)
	return wrong
}

// trusted are the networks that SME Server calls local, and those that may manage the server.
func (e *esmith) trusted(t *tree) *Problem {
	add := func(to *[]string, d *database, r *record, word string) *Problem {
		if _, err := bantam.ParsePrefix(word); err != nil {
			return d.problem(r.line, fmt.Sprintf("the network of %s: %s", quote(r.name), err), "it must never be banned, so nobody is until it can be read")
		}
		*to = append(*to, word)
		return nil
	}
	for _, name := range []string{"httpd-admin", "server-manager"} {
		r := e.db.records[name]
		if p := e.db.wrong[name]; p != nil {
			return p
		}
		for _, word := range listed(r.get("ValidFrom")) {
			if p := add(&e.always, e.db, r, word); p != nil {
				return p
			}
		}
	}
	wrong := e.localNetworks(t, add)
	if filter, _ := e.switched(e.db.records["fail2ban"], "FilterLocalNetworks", false); filter {
		return nil // they are not needed
	}
	return wrong
}

// localNetworks reads them; add checks one.
func (e *esmith) localNetworks(t *tree, add func(to *[]string, d *database, r *record, word string) *Problem) *Problem {
	if r := e.db.records["InternalInterface"]; r.get("Network") != "" && r.get("Netmask") != "" {
		if p := add(&e.local, e.db, r, r.get("Network")+"/"+r.get("Netmask")); p != nil {
			return p
		}
	}
	d := e.networks
	switch {
	case d.broken != nil && !t.exists(place{false, d.file}) && len(e.local) > 0:
		p := *d.broken
		p.Hint = "local networks are listed in it; only that of the internal interface is left out of bans"
		t.warn(&p)
		return nil
	case d.broken != nil:
		p := *d.broken
		p.Hint = "local networks are listed in it, which must not be banned"
		return &p
	case d.cut != nil:
		return d.cut
	}
	for _, name := range d.names {
		r := d.records[name]
		if r == nil || r.kind != "network" {
			continue
		}
		word := name
		if mask := r.get("Mask"); mask != "" && !strings.Contains(name, "/") {
			word += "/" + mask
		}
		if p := add(&e.local, d, r, word); p != nil {
			return p
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.wrong)) {
		return d.wrong[name]
	}
	return nil
}

var portForm = regexp.MustCompile(`^\d{1,5}(?:[:-]\d{1,5})?$`)

// portsOf are the ports of a jail, from the records of its services.
func (e *esmith) portsOf(j *smeJail) (ports []string, wrong *Problem) {
	for _, sp := range j.ports {
		r := e.db.records[sp.service]
		if p := e.db.wrong[sp.service]; p != nil {
			return nil, p
		}
		on, problem := e.switched(r, "status", true)
		if problem != nil {
			return nil, problem
		}
		if r == nil && !sp.always || !on && !sp.always {
			continue
		}
		text := r.get("TCPPort") + "," + r.get("TCPPorts")
		if text == "," {
			text = sp.ports
		}
		for _, word := range listed(text) {
			if !goodPort(word) {
				return nil, e.db.problem(r.line, fmt.Sprintf("%s is no port of %s", quote(word), quote(r.name)), "db configuration setprop "+printable(r.name)+" TCPPort NUMBER")
			}
			if word = strings.Replace(word, "-", ":", 1); !slices.Contains(ports, word) {
				ports = append(ports, word)
			}
		}
	}
	return ports, nil
}

func goodPort(word string) bool {
	if !portForm.MatchString(word) {
		return false
	}
	for part := range strings.FieldsFuncSeq(word, func(r rune) bool { return r == ':' || r == '-' }) {
		if n, err := strconv.Atoi(part); err != nil || n < 1 || n > 65535 {
			return false
		}
	}
	return true
}

// wanted is whether a jail is to be there by the records of its services.
func (e *esmith) wanted(j *smeJail) (on bool, r *record, wrong *Problem) {
	found := false
	for _, name := range j.services {
		own := e.db.records[name]
		if p := e.db.wrong[name]; p != nil {
			return true, nil, p
		}
		if own == nil {
			continue
		}
		if found = true; r == nil {
			r = own
		}
		runs, problem := e.switched(own, "status", true)
		if problem != nil {
			return true, own, problem
		}
		watched, problem := e.switched(own, "Fail2Ban", !j.asked)
		if problem != nil {
			return true, own, problem
		}
		e.note(own, watched && runs)
		if !watched && !j.asked {
			return false, own, nil // said of one service of a jail, it is meant of the jail
		}
		if runs && watched && !on {
			on, r = true, own
		}
	}
	switch {
	case found:
		return on, r, nil
	case j.unlisted():
		return true, nil, nil
	case e.db.cut != nil && !j.asked:
		return true, nil, e.db.cut // its record may be in what is missing
	}
	return false, nil, nil
}

// note keeps what a record says of its service.
func (e *esmith) note(r *record, on bool) {
	if e.named[r.name] != nil {
		return
	}
	value := "disabled"
	if on {
		value = "enabled"
	}
	e.named[r.name] = &Setting{Service: r.name, Key: serviceKey, Value: value, File: e.db.file, Line: r.line}
	e.order = append(e.order, r.name)
}

// jail adds one jail; all is what is wrong with all of them.
func (e *esmith) jail(j *smeJail, all *Problem) {
	on, r, wrong := e.wanted(j)
	if all != nil {
		on, wrong = on || e.db.broken != nil && !j.asked && j.name != "wordpress-login", all
	}
	sec := newSection(j.name, 0)
	if at := slices.IndexFunc(e.file.sections, func(s *section) bool { return s.name == j.name }); at >= 0 {
		sec = e.file.sections[at]
	} else {
		e.file.sections = append(e.file.sections, sec)
	}
	if !on {
		e.set(sec, "enabled", "false", r)
		return
	}
	e.set(sec, "enabled", "true", r)
	e.set(sec, "filter", j.filter, r)
	e.set(sec, "backend", "auto", r)
	if j.head != "" {
		e.set(sec, "prefregex", j.head, r)
	}
	if j.rules != "" {
		e.set(sec, "failregex", j.rules, r)
	}
	e.set(sec, "logpath", j.logs, r)
	ports, problem := e.portsOf(j)
	if wrong == nil {
		wrong = problem
	}
	if len(j.ports) == 0 {
		e.set(sec, "banaction", "%(banaction_allports)s", r)
	} else {
		e.set(sec, "port", strings.Join(ports, ","), r)
		e.set(sec, "protocol", "tcp", r)
	}
	if j.times > 0 {
		e.scaled[j.name] = j.times
		e.set(sec, "maxretry", strconv.Itoa(3*j.times), r) // until all files are read
	}
	if wrong != nil {
		e.aside[j.name] = wrong
	}
}

// scale gives some jails a multiple of what all have, whoever said that.
func (e *esmith) scale(s *set) {
	all := s.defaults.opts["maxretry"]
	for name, times := range e.scaled {
		old := s.sections[name].opts["maxretry"]
		if all == nil || old.File != e.file.name {
			continue // a person's own line
		}
		if n, err := integer(all.Text); err == nil && n > 0 && n <= 1_000_000 {
			s.sections[name].set("maxretry", &Value{Text: strconv.Itoa(n * times), File: all.File, Line: all.Line, key: "maxretry"})
		}
	}
}

// validText is text that a file of the configuration can hold.
func validText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
