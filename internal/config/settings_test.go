package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"bantam/library"
)

// kept is the file of settings of a folder, empty if there is none.
func kept(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, SettingsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func agreed() error { return nil }

// change sets what a line says, "-" in front to take it back.
func change(dir, line string) (Changed, error) {
	rest, unset := strings.CutPrefix(line, "- ")
	return ChangeSetting(dir, library.FS, strings.Fields(rest), unset, agreed)
}

func mustChange(t *testing.T, dir string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := change(dir, line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

func value(t *testing.T, dir, words string) string {
	t.Helper()
	s, err := GetSetting(dir, library.FS, strings.Fields(words))
	if err != nil {
		t.Fatal(err)
	}
	return s.Value
}

func TestSettingsBecomeOptions(t *testing.T) {
	dir := t.TempDir()
	mustChange(t, dir, "bantime 30m", "findtime 900", "MAXRETRY 3", "ignoreip 192.0.2.7,10.0.0.0/255.0.0.0, 2001:db8::/32",
		"Mail enabled", "MailRecipient admin@example.org", "RecidiveMaxRetry 4", "sshd fail2ban disabled", "nginx-http-auth Fail2Ban enabled",
		"fail2ban BanTime 1800")
	const want = settingsHead + `
[DEFAULT]
bantime = 1800
findtime = 900
maxretry = 3
ignoreip = 192.0.2.7 10.0.0.0/255.0.0.0 2001:db8::/32
action = %(action_)s
    mta[to="%(destemail)s", from="%(sender)s", digest=0]
destemail = admin@example.org

[recidive]
maxretry = 4

[sshd]
enabled = no

[nginx-http-auth]
enabled = yes
`
	if got := kept(t, dir); got != want {
		t.Errorf("the file is\n%swant\n%s", got, want)
	}
	c, err := Load(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Jails) != 1 || len(c.Problems) > 0 {
		t.Fatalf("%d jails and these problems: %s", len(c.Jails), problemsOf(c))
	}
	j := c.Jails[0]
	if j.Name != "nginx-http-auth" || j.Jail.BanTime.Seconds() != 1800 || j.Jail.FindTime.Minutes() != 15 || j.Jail.MaxRetry != 3 {
		t.Errorf("the jail is %+v", j.Jail)
	}
	if got := strings.Join(j.Lookup.IgnoreIP, " "); got != "192.0.2.7 10.0.0.0/255.0.0.0 2001:db8::/32" {
		t.Errorf("ignored are %s", got)
	}
	told := c.Told()
	if len(told) != 1 || told[0].Channel != "mta" || strings.Join(told[0].To, " ") != "admin@example.org" {
		t.Errorf("told are %+v", told)
	}
	if info, err := os.Stat(filepath.Join(dir, SettingsFile)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the file has mode %v: %v", info.Mode(), err)
	}
	mustChange(t, dir, "Mail disabled", "- findtime", "- maxretry", "- ignoreip", "- MailRecipient", "- bantime", "- RecidiveMaxRetry", "- nginx-http-auth Fail2Ban", "- sshd Fail2Ban")
	if got := kept(t, dir); got != settingsHead+"\n[DEFAULT]\naction = %(action_)s\n" {
		t.Errorf("with all taken back the file is\n%s", got)
	}
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	mustChange(t, dir, "BanTime 1800")
	before := kept(t, dir)
	for _, c := range []struct{ line, text, hint string }{
		{"BanTime 0", "BanTime: a ban must last longer than zero", "-1 bans for ever"},
		{"BanTime -5", "a ban must last longer than zero", "seconds"},
		{"BanTime soon", `"soon" is not a time`, "10m"},
		{"BanTime 10x", `unknown unit "x"`, "10m"},
		{"FindTime 0", "longer than zero", "10m"},
		{"FindTime 999999999999w", "292 years", ""},
		{"MaxRetry 0", "0 failures cannot make a ban", "1 or more"},
		{"MaxRetry many", `"many" is not a whole number`, ""},
		{"IgnoreIP home", `"home" is neither an address nor a prefix`, "jail.local"},
		{"IgnoreIP 192.0.2.0/33", "the length must be", ""},
		{"IgnoreIP 0.0.0.0/0", "nobody would ever be banned", ""},
		{"Mail perhaps", `"perhaps" is neither enabled nor disabled`, "enabled or disabled"},
		{"MailRecipient a@b;reboot", "is no mail address", ""},
		{"MailRecipient %(x)s", "is no mail address", ""},
		{"FilterLocalNetworks yes", "neither enabled nor disabled", ""},
		{"RecidiveBanTime never", "is not a time", ""},
		{"sshd Fail2Ban off", "neither enabled nor disabled", ""},
		{"sshd", "a service has one setting", "sshd Fail2Ban"},
		{"sshd Port 22", "a service has one setting", "[sshd] into jail.local"},
		{"sshq Fail2Ban disabled", `there is no service or jail "sshq"`, "did you mean sshd?"},
		{"BanTme 5", `there is no setting "BanTme"`, "did you mean BanTime?"},
		{"Colour red", `there is no setting "Colour"`, "IgnoreIP, FilterLocalNetworks"},
		{"BanTime", "the value is missing", ""},
		{"- BanTime 5", "nothing stands behind", ""},
		{"BanTime 5\x1b[31m", "no file can hold", ""},
	} {
		_, err := change(dir, c.line)
		var p *Problem
		if !errors.As(err, &p) || !strings.Contains(p.String(), c.text) || !strings.Contains(p.Hint, c.hint) {
			t.Errorf("%s: %v (%+v), want %q and a hint with %q", c.line, err, p, c.text, c.hint)
		}
		if got := kept(t, dir); got != before {
			t.Fatalf("%s changes the file to\n%s", c.line, got)
		}
	}
}

// A person's own lines survive, in whatever order they stand.
func TestSettingsKeepOtherLines(t *testing.T) {
	const mine = `# my own
[sshd]
port = 2222
  # a comment, indented
logpath = /var/log/a
    /var/log/b

# about all
[DEFAULT]
; another
bantime = 1h
[web]
# nothing here yet
`
	dir := folder(t, "-- jail.local --\n[DEFAULT]\nmaxretry = 9\n-- jail.d/bantam-settings.local --\n"+mine)
	mustChange(t, dir, "BanTime 2h", "MaxRetry 4", "sshd Fail2Ban enabled", "web Fail2Ban disabled", "RecidiveBanTime 2w")
	const want = `# my own
[sshd]
port = 2222
  # a comment, indented
logpath = /var/log/a
    /var/log/b
enabled = yes

# about all
[DEFAULT]
; another
bantime = 2h
maxretry = 4
[web]
enabled = no
# nothing here yet

[recidive]
bantime = 2w
`
	if got := kept(t, dir); got != want {
		t.Errorf("the file is\n%s", got)
	}
	mustChange(t, dir, "- BanTime", "- MaxRetry", "- sshd Fail2Ban", "- RecidiveBanTime")
	got := kept(t, dir)
	for line := range strings.Lines(mine) {
		if !strings.Contains(got, line) && line != "bantime = 1h\n" && line != "[web]\n" {
			t.Errorf("the file has lost %q:\n%s", line, got)
		}
	}
	if v := value(t, dir, "maxretry"); v != "9" {
		t.Errorf("MaxRetry is %s, not what jail.local says", v)
	}
}

func TestSettingsOfADamagedFileStay(t *testing.T) {
	const damaged = "[DEFAULT]\nbantime = 1h\nbantime = 2h\n"
	dir := folder(t, "-- jail.d/bantam-settings.local --\n"+damaged)
	_, err := change(dir, "BanTime 3h")
	if err == nil || !strings.Contains(err.Error(), "jail.d/bantam-settings.local:3: bantime: the option stands in [DEFAULT] a second time") {
		t.Errorf("the error is %v", err)
	}
	if got := kept(t, dir); got != damaged+"\n" {
		t.Errorf("the file is\n%s", got)
	}
}

// What check refuses leaves no trace, neither in the file nor of a folder that was not there.
func TestSettingsAreTakenBack(t *testing.T) {
	refuse := errors.New("no")
	dir := filepath.Join(t.TempDir(), "new")
	seen := ""
	_, err := ChangeSetting(dir, library.FS, []string{"BanTime", "5"}, false, func() error { seen = kept(t, dir); return refuse })
	if !errors.Is(err, refuse) || !strings.Contains(seen, "bantime = 5\n") {
		t.Errorf("the error is %v, check saw\n%s", err, seen)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	mustChange(t, dir, "MaxRetry 2")
	before := kept(t, dir)
	if _, err = ChangeSetting(dir, library.FS, []string{"MaxRetry", "3"}, false, func() error { return refuse }); !errors.Is(err, refuse) {
		t.Error(err)
	}
	if got := kept(t, dir); got != before {
		t.Errorf("the file is\n%s", got)
	}
	left, err := filepath.Glob(filepath.Join(dir, "jail.d", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over are %v: %v", left, err)
	}
}

func TestSettingsOfSeveralAtOnce(t *testing.T) {
	dir := t.TempDir()
	mustChange(t, dir, "Mail disabled")
	lines := []string{"BanTime 1h", "FindTime 2h", "MaxRetry 7", "IgnoreIP 192.0.2.1", "sshd Fail2Ban disabled", "RecidiveMaxRetry 3"}
	var all sync.WaitGroup
	for _, line := range lines {
		all.Go(func() {
			if _, err := change(dir, line); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		})
	}
	all.Wait()
	for _, line := range lines {
		words := strings.Fields(line)
		at := len(words) - 1
		if got := value(t, dir, strings.Join(words[:at], " ")); got != words[at] {
			t.Errorf("%s: it is %s", line, got)
		}
	}
}

func TestWhereSettingsComeFrom(t *testing.T) {
	dir := folder(t, "-- jail.conf --\n[DEFAULT]\nbantime = 5m\naction = %(action_mwl)s\n  telegram[token=env:X, chat=1]\n[sshd]\nenabled = true\nmaxretry = 8\nlogpath = /x\n"+
		"-- jail.d/z.local --\n[DEFAULT]\nfindtime = 3m\n")
	got, err := change(dir, "FindTime 4m")
	if err != nil || !got.Overruled || got.File != "jail.d/z.local" || got.Value != "3m" {
		t.Errorf("a file that wins: %+v, %v", got, err)
	}
	if got, err = change(dir, "MaxRetry 4"); err != nil || got.Overruled || !slices.Equal(got.Own, []string{"sshd"}) {
		t.Errorf("a jail with a value of its own: %+v, %v", got, err)
	}
	if v := value(t, dir, "mail"); v != "enabled" {
		t.Errorf("with action_mwl Mail is %s", v)
	}
	mustChange(t, dir, "Mail disabled")
	if got := kept(t, dir); !strings.Contains(got, "action = %(action_)s\n    telegram[token=env:X, chat=1]\n") {
		t.Errorf("without mails the file is\n%s", got)
	}
	all, err := Settings(dir, library.FS)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, s := range all {
		lines[s.Name()] = fmt.Sprintf("%s %s:%d", s.Value, s.File, s.Line)
	}
	want := map[string]string{
		"IgnoreIP": " :0", "FilterLocalNetworks": "enabled :0", "BanTime": "5m jail.conf:2", "FindTime": "3m jail.d/z.local:2",
		"MaxRetry": "4 jail.d/bantam-settings.local:7", "Mail": "disabled jail.d/bantam-settings.local:8", "MailRecipient": "root :0",
		"RecidiveBanTime": "5m jail.conf:2", "RecidiveFindTime": "3m jail.d/z.local:2", "RecidiveMaxRetry": "4 jail.d/bantam-settings.local:7",
		"sshd Fail2Ban": "enabled jail.conf:6",
	}
	if !maps.Equal(lines, want) {
		t.Errorf("the settings are %v,\nwant %v", lines, want)
	}
}

// A service of an SME Server stands for jails by their usual names where there is no such server.
func TestServicesElsewhere(t *testing.T) {
	dir := t.TempDir()
	got, err := change(dir, "httpd-e-smith Fail2Ban enabled")
	want := []string{"apache-overflows", "apache-noscript", "apache-botsearch", "apache-auth", "apache-badbots", "apache-fakegooglebot", "apache-shellshock"}
	if err != nil || !slices.Equal(got.Jails, want) {
		t.Errorf("its jails are %v: %v", got.Jails, err)
	}
	if v := value(t, dir, "apache-auth Fail2Ban"); v != "enabled" {
		t.Errorf("apache-auth is %s", v)
	}
}

func TestFindAFolderOfSettings(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	if got := Find("", dir, other); got != other {
		t.Errorf("an empty folder is taken: %s", got)
	}
	mustChange(t, dir, "BanTime 5m")
	if got := Find("", dir, other); got != dir {
		t.Errorf("a folder with settings is not taken: %s", got)
	}
}

func TestLocalNetworksAreIgnored(t *testing.T) {
	dir := t.TempDir()
	mustChange(t, dir, "FilterLocalNetworks disabled", "IgnoreIP 192.0.2.1")
	c, err := Load(dir, library.FS)
	if err != nil || len(c.Jails) != 1 {
		t.Fatalf("%v, %d jails", err, len(c.Jails))
	}
	if got, want := c.Jails[0].Lookup.IgnoreIP, append([]string{"192.0.2.1"}, localNetworks()...); !slices.Equal(got, want) {
		t.Errorf("ignored are %v, want %v", got, want)
	}
	mustChange(t, dir, "FilterLocalNetworks enabled")
	if c, err = Load(dir, library.FS); err != nil || !slices.Equal(c.Jails[0].Lookup.IgnoreIP, []string{"192.0.2.1"}) {
		t.Errorf("with them filtered ignored are %v: %v", c.Jails[0].Lookup.IgnoreIP, err)
	}
}

func TestPrivateNetworks(t *testing.T) {
	var addrs []net.Addr
	for _, text := range []string{"127.0.0.1/8", "::1/128", "192.168.7.1/24", "192.168.7.2/24", "203.0.113.5/24", "10.1.2.3/8", "172.16.5.5/12", "172.32.5.5/12", "fd12::5/64", "2001:db8::1/64", "fe80::1/64", "169.254.3.3/16"} {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	want := []string{"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.7.0/24", "fd12::/64", "fe80::/64"}
	if got := privateNetworks(addrs); !slices.Equal(got, want) {
		t.Errorf("private are %v, want %v", got, want)
	}
}

// Whatever a file of settings holds, a change of it is refused or is what was asked, and every other option
// stays as it was.
func FuzzEditOption(f *testing.F) {
	f.Add("", "DEFAULT", "bantime", "1800", false)
	f.Add("[DEFAULT]\nbantime = 1\n  2\n[sshd]\nenabled = no\n", "sshd", "enabled", "yes", false)
	f.Add("[DEFAULT]\n a = 1\n[DEFAULT]\nbantime : 3 ; x\n", "DEFAULT", "bantime", "a\nb", true)
	f.Add("# x\r[recidive]\rbantime =\r\r  [sshd]\r", "recidive", "bantime", "%(x)s", true)
	f.Fuzz(func(t *testing.T, text, section, option, value string, unset bool) {
		if len(text) > 1<<14 || len(value) > 1<<10 {
			return
		}
		old, err := parse("f", []byte(text))
		after, wrong := editOption([]byte(text), section, option, value, unset)
		if wrong != nil {
			return
		}
		if err != nil {
			t.Fatalf("a file that cannot be read was changed: %v", err)
		}
		if !sameBut(old, after, section, option, value, unset) && !(unset && string(after) == text) {
			t.Fatalf("%q became %q", text, after)
		}
	})
}

func BenchmarkSetting(b *testing.B) {
	dir := b.TempDir()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if _, err := change(dir, fmt.Sprintf("BanTime %d", 60+n%60)); err != nil {
			b.Fatal(err)
		}
	}
}
