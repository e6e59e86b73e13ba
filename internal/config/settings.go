package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"bantam"
)

// SettingsFile is where settings by key are kept, relative to the folder. It is a jail file like
// others, and read after jail.local, so that what was set last wins.
const SettingsFile = "jail.d/bantam-settings.local"

// A Setting is one setting as it holds.
type Setting struct {
	// Service is the service or jail that it is of; empty for the settings of all.
	Service string `json:"service,omitempty"`
	Key     string `json:"key"`
	Value   string `json:"value"`
	// File and Line are where it was written, relative to the folder or absolute; no file means the default.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// Name is the setting as it is typed: its service, if it is of one, and its key.
func (s Setting) Name() string { return strings.TrimSpace(s.Service + " " + s.Key) }

// serviceKey is the one setting of a service.
const serviceKey = "Fail2Ban"

// A settingKey is a setting of all jails, and the option that it becomes.
type settingKey struct {
	name            string
	section, option string
	def             string // what holds where no file says anything
	kind            func(text string) (string, *Problem)
}

var settingKeys = []settingKey{
	{"IgnoreIP", defaultName, "ignoreip", "", ignoreSetting},
	{"FilterLocalNetworks", defaultName, "ignorelocal", "enabled", nil},
	{"BanTime", defaultName, "bantime", "10m", banSetting},
	{"FindTime", defaultName, "findtime", "10m", findSetting},
	{"MaxRetry", defaultName, "maxretry", "3", retrySetting},
	{"Mail", defaultName, "action", "disabled", nil},
	{"MailRecipient", defaultName, "destemail", "root", mailSetting},
	{"RecidiveBanTime", "recidive", "bantime", "", banSetting},
	{"RecidiveFindTime", "recidive", "findtime", "", findSetting},
	{"RecidiveMaxRetry", "recidive", "maxretry", "", retrySetting},
}

// value is the option's text for a value that somebody gave, or what is wrong with that. action is
// what the option action says for Mail.
func (k *settingKey) value(text string, action func(on bool) string) (string, *Problem) {
	text = trim(text)
	if !validText(text) || len(text) > 10_000 {
		return "", &Problem{Text: "the value has characters that no file can hold, or too many", Hint: "write it in one line"}
	}
	if k.kind != nil {
		return k.kind(text)
	}
	on, p := enabledSetting(text)
	if p != nil {
		return "", p
	}
	if k.option == "action" {
		return action(on), nil
	}
	return map[bool]string{true: "no", false: "yes"}[on], nil // filtered is not ignored
}

func enabledSetting(text string) (on bool, wrong *Problem) {
	switch strings.ToLower(text) {
	case "enabled":
		return true, nil
	case "disabled":
		return false, nil
	}
	return false, &Problem{Text: quote(text) + " is neither enabled nor disabled", Hint: "write enabled or disabled"}
}

func timeSetting(text string) (float64, *Problem) {
	f, err := seconds(text)
	if err != nil {
		return 0, &Problem{Text: err.Error(), Hint: "write seconds, or 10m, 2h, 1d, 1w"}
	}
	return f, nil
}

func banSetting(text string) (string, *Problem) {
	f, p := timeSetting(text)
	if p != nil {
		return "", p
	}
	if _, err := banTime(f); err != nil {
		return "", &Problem{Text: err.Error() + ", not " + quote(text), Hint: "write seconds, or 10m, 2h, 1d, 1w; -1 bans for ever"}
	}
	return text, nil
}

func findSetting(text string) (string, *Problem) {
	f, p := timeSetting(text)
	if p != nil {
		return "", p
	}
	if d, fits := duration(f); d <= 0 || !fits {
		return "", &Problem{Text: "failures must count for longer than zero and shorter than 292 years, not " + quote(text), Hint: "write seconds, or 10m, 2h, 1d"}
	}
	return text, nil
}

func retrySetting(text string) (string, *Problem) {
	n, err := integer(text)
	switch {
	case err != nil:
		return "", &Problem{Text: err.Error(), Hint: "write how many failures make a ban"}
	case n < 1:
		return "", &Problem{Text: fmt.Sprintf("%d failures cannot make a ban", n), Hint: "write 1 or more"}
	}
	return strconv.Itoa(n), nil
}

func ignoreSetting(text string) (string, *Problem) {
	var out []string
	for _, word := range listed(text) {
		id, err := bantam.ParsePrefix(word)
		prefix, _ := id.Prefix()
		switch {
		case err != nil:
			return "", &Problem{Text: err.Error(), Hint: "write addresses and prefixes, as 192.0.2.7,10.0.0.0/8; names go into ignoreip of jail.local"}
		case prefix.Bits() == 0:
			return "", &Problem{Text: quote(word) + " is everybody: nobody would ever be banned", Hint: "bantam stop --unban stops all bans"}
		case !slices.Contains(out, word):
			out = append(out, word)
		}
	}
	return strings.Join(out, " "), nil
}

// recipientForm begins with no minus sign: programs that send mail take such a one for an option.
var recipientForm = regexp.MustCompile(`^[A-Za-z0-9._+][A-Za-z0-9._+-]{0,63}(?:@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)?$`)

func mailSetting(text string) (string, *Problem) {
	if !recipientForm.MatchString(text) {
		return "", &Problem{Text: quote(text) + " is no mail address", Hint: "write one address, as admin@example.org, or a user of this machine, as root"}
	}
	if !strings.Contains(text, "@") {
		text += localMail
	}
	return text, nil
}

// localMail is behind the name of a user of this machine who gets mail.
const localMail = "@localhost"

// mailAction is what action says with mails and without, on top of what it says besides.
func mailAction(besides string) func(on bool) string {
	return func(on bool) string {
		if !on {
			return besides
		}
		return strings.TrimPrefix(besides+"\n"+`mta[to="%(destemail)s", from="%(sender)s", digest=0]`, "\n")
	}
}

// isMail is whether an entry of action sends mail about each ban.
func isMail(entry string) bool {
	name, _, _ := strings.Cut(entry, "[")
	kind := kindOf(trim(name))
	return viaParams[kind] != nil || strings.HasPrefix(name, "sendmail") || strings.HasPrefix(name, "mail")
}

// withoutMail is a text of the option action without what sends mail.
func withoutMail(text string) string {
	var out []string
	for _, entry := range entries(text) {
		switch {
		case entry == "%(action_mw)s" || entry == "%(action_mwl)s":
			entry = "%(action_)s"
		case isMail(entry):
			continue
		}
		if !slices.Contains(out, entry) {
			out = append(out, entry)
		}
	}
	return strings.Join(out, "\n")
}

// findKey is the setting of that name, in any spelling of capitals; nil if there is none.
func findKey(name string) *settingKey {
	for i := range settingKeys {
		if strings.EqualFold(settingKeys[i].name, name) {
			return &settingKeys[i]
		}
	}
	return nil
}

// SettingNames are the keys of settings of all jails, in the order in which they are shown.
func SettingNames() []string {
	names := make([]string, len(settingKeys))
	for i, k := range settingKeys {
		names[i] = k.name
	}
	return names
}

// settings are the merged jail files, seen as settings.
type settings struct {
	tree  *tree
	jails *set
	dir   string
}

func openSettings(dir string, lib fs.FS) (*settings, error) {
	if dir != "" {
		if err := checkDir(dir); err != nil {
			return nil, err
		}
	}
	t := newTree(dir, lib, "library/")
	jails, err := t.jails()
	if err != nil {
		return nil, err
	}
	return &settings{t, jails, dir}, nil
}

// of is a setting of all jails as it holds.
func (s *settings) of(k *settingKey) Setting {
	out := Setting{Key: k.name, Value: k.def}
	v := s.jails.raw(k.section, k.option)
	if v == nil {
		return out
	}
	out.File, out.Line = v.File, v.Line
	text, err := jailScope(s.dir, s.jails, k.section).expand(v)
	if err != nil {
		text = v.Text
	}
	switch k.option {
	case "ignorelocal":
		ignored, _ := boolean(text)
		out.Value = enabledWord(!ignored)
	case "action":
		out.Value = enabledWord(slices.ContainsFunc(entries(text), isMail))
	default:
		out.Value = strings.TrimSuffix(strings.Join(strings.Fields(text), " "), localMail)
	}
	return out
}

func enabledWord(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

// service is the setting of a service that has these jails.
func (s *settings) service(name string, jails []string) Setting {
	out := Setting{Service: name, Key: serviceKey, Value: "disabled"}
	for _, jail := range jails {
		v := s.jails.raw(jail, "enabled")
		if v == nil {
			continue
		}
		text, err := jailScope(s.dir, s.jails, jail).expand(v)
		on, _ := boolean(text)
		if out.File == "" || err == nil && on {
			out.File, out.Line = v.File, v.Line
		}
		if err == nil && on {
			out.Value = "enabled"
			break
		}
	}
	return out
}

// jailsOf are the jails of a service or the jail of that name; none if nobody knows it. name comes back as it is shown.
func (s *settings) jailsOf(service string) (name string, jails []string) {
	has := func(jail string) bool { return s.jails.sections[jail] != nil }
	esmith := s.tree.esmithIn != nil
	if has(service) && !esmith {
		return service, []string{service}
	}
	for i := range smeJails {
		j := &smeJails[i]
		at := slices.IndexFunc(j.services, func(known string) bool { return strings.EqualFold(known, service) })
		if at < 0 {
			continue
		}
		for _, jail := range []string{j.name, j.standard} {
			if has(jail) && !slices.Contains(jails, jail) && (jail == j.name || !esmith) {
				name, jails = j.services[at], append(jails, jail)
			}
		}
	}
	if len(jails) > 0 {
		return name, jails
	}
	for jail := range s.jails.sections {
		if strings.EqualFold(jail, service) {
			return jail, []string{jail}
		}
	}
	return "", nil
}

// noService is the problem of a service that nobody knows.
func (s *settings) noService(name string) *Problem {
	known := slices.Clone(s.jails.order)
	for i := range smeJails {
		known = append(known, smeJails[i].services...)
	}
	p := &Problem{Text: "there is no service or jail " + quote(name), Hint: guessHint(name, known)}
	if p.Hint == "" {
		p.Hint = "bantam config show lists what is on; a jail of your own goes into jail.local"
	}
	return p
}

// Settings are all settings of a folder, "" for the library alone, as they hold: those of all jails, then the
// services. Its error, a *Problem, is for files that cannot be read.
func Settings(dir string, lib fs.FS) ([]Setting, error) {
	s, err := openSettings(dir, lib)
	if err != nil {
		return nil, err
	}
	var out []Setting
	for i := range settingKeys {
		out = append(out, s.of(&settingKeys[i]))
	}
	var names []string
	if e := s.tree.esmithIn; e != nil {
		names = append(names, e.order...)
	}
	covered := map[string]bool{}
	add := func(name string) {
		shown, jails := s.jailsOf(name)
		if len(jails) == 0 || covered[shown] {
			return
		}
		covered[shown] = true
		for _, jail := range jails {
			covered[jail] = true
		}
		out = append(out, s.service(shown, jails))
	}
	for _, name := range names {
		add(name)
	}
	for _, jail := range s.jails.order {
		if covered[jail] {
			continue
		}
		if set := s.service(jail, []string{jail}); set.Value == "enabled" || set.File == SettingsFile {
			covered[jail] = true
			out = append(out, set)
		}
	}
	return out, nil
}

// A named setting is what the words of a command line mean.
type named struct {
	key     *settingKey // nil for a service's
	service string
	jails   []string
	rest    []string // the words behind
}

// name reads KEY, or SERVICE Fail2Ban, in front of words.
func (s *settings) name(words []string) (named, *Problem) {
	if len(words) > 1 && strings.EqualFold(words[0], "fail2ban") && findKey(words[1]) != nil {
		words = words[1:] // as the guide of SME Server has it
	}
	if len(words) == 0 {
		return named{}, &Problem{Text: "no setting is named", Hint: "they are " + strings.Join(SettingNames(), ", ")}
	}
	if k := findKey(words[0]); k != nil {
		return named{key: k, rest: words[1:]}, nil
	}
	service, jails := s.jailsOf(words[0])
	if len(words) > 1 && strings.EqualFold(words[1], serviceKey) {
		if len(jails) == 0 {
			return named{}, s.noService(words[0])
		}
		return named{service: service, jails: jails, rest: words[2:]}, nil
	}
	p := &Problem{Text: "there is no setting " + quote(words[0]), Hint: "they are " + strings.Join(SettingNames(), ", ")}
	switch {
	case len(jails) > 0:
		p = &Problem{Text: "a service has one setting, " + serviceKey, Hint: "bantam config set " + printable(words[0]) + " " + serviceKey + " disabled; for more write [" + printable(jails[0]) + "] into jail.local"}
	default:
		var lower []string
		for _, name := range SettingNames() {
			lower = append(lower, strings.ToLower(name))
		}
		if guess := nearest(strings.ToLower(words[0]), lower); guess != "" {
			p.Hint = "did you mean " + findKey(guess).name + "?"
		}
	}
	return named{}, p
}

// show is the setting as it holds.
func (s *settings) show(n named) Setting {
	if n.key != nil {
		return s.of(n.key)
	}
	return s.service(n.service, n.jails)
}

// GetSetting is the one that words name: KEY, or SERVICE Fail2Ban.
func GetSetting(dir string, lib fs.FS, words []string) (Setting, error) {
	s, err := openSettings(dir, lib)
	if err != nil {
		return Setting{}, err
	}
	n, p := s.name(words)
	if p == nil && len(n.rest) > 0 {
		p = &Problem{Text: "nothing stands behind a setting's name", Hint: "bantam config get " + s.show(n).Name()}
	}
	if p != nil {
		return Setting{}, p
	}
	return s.show(n), nil
}

// A Changed is what a change of a setting has come to.
type Changed struct {
	Setting
	// Was is what held before.
	Was Setting `json:"was"`
	// Jails are those that a setting of a service is of.
	Jails []string `json:"jails,omitempty"`
	// Own are the enabled jails that have an option of their own in place of a setting of all.
	Own []string `json:"own,omitempty"`
	// Overruled is true if another file, that of Setting, says otherwise and wins.
	Overruled bool `json:"overruled,omitempty"`
}

// ChangeSetting sets, or takes back, what words say: KEY VALUE…, or SERVICE Fail2Ban VALUE, without a value to unset it. The
// file of settings is replaced as a whole or not at all; in it only the lines of that setting change. Then check is
// asked whether the folder is as good as before: if it returns an error, the file is what it was and
// that error comes back. The folder is made if it is not there. Changes of several processes wait for each other.
func ChangeSetting(dir string, lib fs.FS, words []string, unset bool, check func() error) (Changed, error) {
	made, err := makeFolder(dir)
	if err != nil {
		return Changed{}, err
	}
	done := false
	defer func() {
		if !done {
			for _, name := range slices.Backward(made) {
				_ = os.Remove(name) // it is empty unless somebody uses it by now
			}
		}
	}()
	unlock, err := lockFolder(filepath.Join(dir, filepath.Dir(SettingsFile)))
	if err != nil {
		return Changed{}, err
	}
	defer unlock()
	s, err := openSettings(dir, lib)
	if err != nil {
		return Changed{}, err
	}
	n, problem := s.name(words)
	if problem != nil {
		return Changed{}, problem
	}
	out := Changed{Was: s.show(n), Jails: n.jails}
	text, problem := s.text(n, unset)
	if problem != nil {
		problem.Key = out.Was.Name()
		return Changed{}, problem
	}
	file := filepath.Join(dir, SettingsFile)
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Changed{}, &Problem{File: SettingsFile, Text: "the file cannot be read: " + plain(err), Hint: "run as root"}
	}
	after := before
	sections, option := n.jails, "enabled"
	if n.key != nil {
		sections, option = []string{n.key.section}, n.key.option
	}
	for _, section := range sections {
		if after, err = editOption(after, section, option, text, unset); err != nil {
			return Changed{}, err
		}
	}
	if err := replaceFile(file, after); err != nil {
		return Changed{}, err
	}
	undo := func(because error) (Changed, error) {
		if before == nil {
			err = os.Remove(file)
		} else {
			err = replaceFile(file, before)
		}
		if err != nil {
			return Changed{}, errors.Join(because, fmt.Errorf("put %s back: %w", SettingsFile, err))
		}
		return Changed{}, because
	}
	if err := check(); err != nil {
		return undo(err)
	}
	now, err := openSettings(dir, lib)
	if err != nil {
		return undo(err)
	}
	done = true
	out.Setting = now.show(n)
	out.Overruled = !unset && out.File != SettingsFile
	if n.key != nil && n.key.section == defaultName {
		out.Own = now.own(n.key.option)
	}
	return out, nil
}

// text is what the option of a setting is to say.
func (s *settings) text(n named, unset bool) (string, *Problem) {
	switch {
	case unset && len(n.rest) > 0:
		return "", &Problem{Text: "nothing stands behind the setting to take back"}
	case unset:
		return "", nil
	case len(n.rest) == 0:
		return "", &Problem{Text: "the value is missing", Hint: "write it behind the key"}
	case n.key == nil:
		on, p := enabledSetting(strings.Join(n.rest, " "))
		return map[bool]string{true: "yes", false: "no"}[on], p
	}
	return n.key.value(strings.Join(n.rest, " "), mailAction(s.besidesMail()))
}

// besidesMail is what action does in all jails but for mail, as the files say it below the settings.
func (s *settings) besidesMail() string {
	v := s.jails.defaults.opts["action"]
	if v == nil {
		v = s.jails.spare.opts["action"]
	}
	if v == nil {
		return ""
	}
	return withoutMail(v.Text)
}

// own are the enabled jails that have an option of their own.
func (s *settings) own(option string) (out []string) {
	for _, jail := range s.jails.order {
		v := s.jails.sections[jail].opts[option]
		if v == nil || s.service(jail, []string{jail}).Value != "enabled" {
			continue
		}
		if e := s.tree.esmithIn; e != nil && e.scaled[jail] > 0 && v.File == SettingsFile {
			continue // a multiple of it
		}
		out = append(out, jail)
	}
	return out
}

// localNetworks are the private networks that interfaces of this machine are in.
func localNetworks() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then nothing is known to be local
	}
	return privateNetworks(addrs)
}

// privateNetworks are the networks of addresses that RFC 1918 and RFC 4193 keep for private use, and link-local ones.
func privateNetworks(addrs []net.Addr) (out []string) {
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Bits() == 0 || !p.Addr().IsPrivate() && !p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if text := p.Masked().String(); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// trusted are the networks in which nobody is banned besides those of ignoreip.
func (r *jailReader) trusted() []string {
	e := r.tree.esmithIn
	local := r.boolean("ignorelocal", false)
	switch {
	case e == nil && local:
		return localNetworks()
	case e == nil:
		return nil
	case local:
		return slices.Concat(e.always, e.local)
	}
	return e.always
}

// makeFolder makes the folder of the settings, and names what it has made.
func makeFolder(dir string) (made []string, err error) {
	for _, name := range []string{dir, filepath.Join(dir, filepath.Dir(SettingsFile))} {
		err := os.Mkdir(name, 0o755)
		switch {
		case err == nil:
			made = append(made, name)
		case !errors.Is(err, fs.ErrExist):
			return made, writeProblem(name, err)
		}
	}
	return made, nil
}

// lockFolder waits until nobody else changes settings there.
func lockFolder(name string) (unlock func(), err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, writeProblem(name, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil // which ends the lock
}

func writeProblem(name string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "run it as root: sudo bantam config set …"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "the disk is full: make room; the settings are as they were"
	case errors.Is(err, syscall.EROFS):
		hint = "the file system is read-only"
	}
	return &Problem{File: name, Text: "the settings cannot be written: " + plain(err), Hint: hint}
}

// replaceFile puts a new file in the place of an old one: whoever looks sees the one or the other, also after a crash.
func replaceFile(name string, text []byte) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".bantam-settings-*")
	if err != nil {
		return writeProblem(name, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = writeProblem(name, err)
		}
	}()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
