package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/smtp"
)

const tellJails = `-- jail.conf --
[DEFAULT]
enabled = true
failregex = ^from <HOST>$
logpath = /var/log/a.log
destemail = ops@example.org
sender = root@<fq-hostname>
`

func TestChannels(t *testing.T) {
	t.Setenv("RELAY_PASSWORD", "hunter2hunter2")
	c := load(t, tellJails+`action = bantam[]
  smtp[relay=mail.example.org, user=bantam, password=env:RELAY_PASSWORD, from=bantam@example.org, name=%(__name__)s]
  abuse[via="smtp[relay=out.example.org, tls=tls]", from=abuse@example.org, format=text, interval=1d, cc="a@example.org, b@example.org"]
[sshd]
[dovecot]
[nginx]
action = smtp[relay=other.example.org, from=bantam@example.org, to="x@example.org,y@example.org", on="ban unban", digest=0, lines=no, whois=yes]
  telegram[token=123456789:AAFabcdefghijklmnopqrstuvwxyz0123456, chat=-1001]
  webhook[url=https://hooks.example.org/x, headers="X-A: b", template='{"ip":"<ip>"}']
`)
	for _, p := range c.Problems {
		if !p.Warning {
			t.Error(p)
		}
	}
	tell, reports := c.Channels()
	var got []string
	for _, n := range tell {
		got = append(got, fmt.Sprintf("%s %v to %v on %v every %v lines %v whois %v by %s", n.Channel, n.Jails, n.To, n.On, n.Digest, n.Lines, n.Whois, n.Mail.Server))
	}
	want := []string{
		"nginx/smtp [nginx] to [x@example.org y@example.org] on [ban unban] every 0s lines false whois true by other.example.org",
		"sshd/smtp [sshd dovecot] to [ops@example.org] on [ban] every 10m0s lines true whois false by mail.example.org",
		"telegram [nginx] to [] on [ban] every 10m0s lines true whois false by ",
		"webhook [nginx] to [] on [ban] every 10m0s lines true whois false by ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("channels are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if tell[1].Mail.Password.Reveal() != "hunter2hunter2" || tell[2].Token.Reveal() != "123456789:AAFabcdefghijklmnopqrstuvwxyz0123456" || tell[3].Headers[0].Reveal() != "X-A: b" || tell[3].Template != `{"ip":"<ip>"}` {
		t.Errorf("secrets and templates are not what was written: %+v", tell)
	}
	if len(reports) != 1 {
		t.Fatalf("%d ways to report", len(reports))
	}
	r := reports[0]
	if r.Via.Kind != smtp.Relay || r.Via.TLS != "tls" || r.XARF || r.Interval != 24*time.Hour || len(r.Cc) != 2 || len(r.Jails) != 2 || r.From != "abuse@example.org" {
		t.Errorf("reports go out as %+v", r)
	}
}

// One jail may tell several receivers by the same kind of channel.
func TestSeveralChannelsOfAKindInOneJail(t *testing.T) {
	c := load(t, tellJails+`action = mta[to=a@example.org]
  mta[to=b@example.org, name=B]
  mta[to=c@example.org, actname=boss]
  mta[to=d@example.org, name=D]
[sshd]
`)
	tell, _ := c.Channels()
	got := ""
	for _, n := range tell {
		got += n.Channel + " to " + n.To[0] + "\n"
	}
	if want := "boss to c@example.org\nsshd/mta to a@example.org\nsshd/mta-2 to b@example.org\nsshd/mta-3 to d@example.org\n"; got != want {
		t.Errorf("channels are\n%swant\n%s", got, want)
	}
}

// What is wrong with a channel is told, and the jail protects all the same.
func TestAWrongChannelIsNoReasonNotToBan(t *testing.T) {
	for _, tt := range []struct{ name, action, want string }{
		{"no relay", "smtp[from=a@example.org]", "relay"},
		{"no address", "mta[to=nobody at all]", "nobody at all"},
		{"a secret that is not there", "telegram[token=file:/no/such/file, chat=1]", "/no/such/file"},
		{"a time that is none", "mta[digest=soon]", "digest"},
		{"an event that is none", "mta[on=banned]", "banned"},
		{"no way to send", `abuse[via="pigeon[]"]`, "pigeon"},
		{"no format", `abuse[format=pdf]`, "pdf"},
		{"no key", "abuseipdb-report[]", "key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, tellJails+"action = bantam[]\n  "+tt.action+"\n[sshd]\n")
			j := jailOf(t, c, "sshd")
			if j.Err != nil {
				t.Errorf("the jail is set aside: %v", j.Err)
			}
			found := false
			for _, p := range c.Problems {
				found = found || !p.Warning && strings.Contains(p.Text, tt.want) && p.Line > 0
			}
			if !found {
				t.Errorf("the problems are\n%swant one with %q", problemsOf(c), tt.want)
			}
			if tell, reports := c.Channels(); len(tell)+len(reports) > 0 {
				t.Errorf("it is used all the same: %v %v", tell, reports)
			}
		})
	}
}

// Who checks in a shell has not the environment that systemd gives the service: a secret of the service's is
// no error there.
func TestSecretsOfTheServiceSeenFromAShell(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for _, secret := range []string{"credential:telegram", "env:NO_SUCH_VARIABLE"} {
		c := load(t, tellJails+"action = telegram[token="+secret+", chat=1]\n[sshd]\n")
		if len(c.Problems) != 1 || !c.Problems[0].Warning || c.Problems[0].Line == 0 || !strings.Contains(c.Problems[0].Hint, "the service") {
			t.Errorf("%s: the problems are\n%s", secret, problemsOf(c))
		}
		if tell, _ := c.Channels(); len(tell) != 0 {
			t.Errorf("%s: it is used without its secret: %v", secret, tell)
		}
	}
}

func TestUnknownParametersOfChannels(t *testing.T) {
	c := load(t, tellJails+"action = mta[form=a@example.org]\n[sshd]\n")
	if got := problemsOf(c); !strings.Contains(got, `mta has no parameter "form"`) || c.Problems[0].Hint != "did you mean from?" {
		t.Errorf("problems: %s%+v", got, c.Problems)
	}
}

func TestUnknownParametersAndTagsOfLog(t *testing.T) {
	c := load(t, tellJails+`action = log[file=/var/log/b.log, bann="<ip>", unban="<ip> <contry> <IP>", ignore="<ip> <F-USER>"]
[sshd]
`)
	var got []string
	for _, p := range c.Problems {
		got = append(got, p.Text+" ("+p.Hint+")")
	}
	want := []string{
		`log has no parameter "bann" (did you mean ban?)`,
		"log: nothing knows the tag <IP>: it stays in the line as it is (tags are written in small letters: <ip>)",
		"log: nothing knows the tag <contry>: it stays in the line as it is (did you mean <country>?)",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Secrets show nowhere: not in what is shown of a jail, not in what is said about it.
func TestSecretsOfChannelsAreNotShown(t *testing.T) {
	const jails = tellJails + `action = bantam[]
  smtp[relay=mail.example.org, password=hunter2hunter2, from=a@example.org]
  telegram[token="%(bot)s", chat=1]
  discord[url=https://discord.example/api/webhooks/1/verysecret]
  gmail-api[from=a@example.org, token=/var/lib/bantam/t.json]
  abuse[via="smtp[relay=mail.example.org, password=anothersecret]", from=a@example.org]
  slack [url=https://hooks.example.org/alsosecret]
  ntfy[topic=x, token=unclosedsecret
bot = 123456:botsecret
[sshd]
`
	dir := folder(t, jails)
	c, err := Load(dir, testLib)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Show(dir, testLib, "sshd")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v %+v %v", shown, c.Problems, jailOf(t, c, "sshd").Actions)
	for _, s := range []string{"hunter2", "botsecret", "verysecret", "anothersecret", "alsosecret", "unclosedsecret"} {
		if strings.Contains(text, s) {
			at := strings.Index(text, s)
			t.Errorf("%s is shown: …%s", s, text[max(0, at-100):at+len(s)])
		}
	}
	if !strings.Contains(text, "/var/lib/bantam/t.json") || !strings.Contains(text, "relay=mail.example.org") {
		t.Errorf("what is no secret is not shown: %s", text)
	}
}

func TestSecretsInFilesOfOthersAreTold(t *testing.T) {
	dir := folder(t, tellJails+"action = telegram[token=123456789:AAFabcdefghijklmnopqrstuvwxyz0123456, chat=1]\n[sshd]\n[dovecot]\n")
	path := filepath.Join(dir, "jail.conf")
	for mode, want := range map[os.FileMode]int{0o644: 1, 0o600: 0} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		c, err := Load(dir, testLib)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, p := range c.Problems {
			if strings.Contains(p.Text, "others can read") && strings.Contains(p.Hint, "chmod 600 "+path) {
				n++
			}
		}
		if n != want {
			t.Errorf("with mode %o it is told %d times, not %d: %v", mode, n, want, c.Problems)
		}
	}
}

// What jail.conf makes of mta is native where the folder has no file of the name.
func TestMailsThatJailConfAsksFor(t *testing.T) {
	const stock = tellJails + `action_ = bantam[]
action_mw = %(action_)s
  %(mta)s-whois[sender="%(sender)s", dest="%(destemail)s", protocol="tcp", chain="INPUT"]
action_mwl = %(action_)s
  %(mta)s-whois-lines[sender="%(sender)s", dest="%(destemail)s", logpath="%(logpath)s", chain="INPUT"]
`
	for _, tt := range []struct{ name, jail, want string }{
		{"mta's own", "mta = mta\naction = %(action_mw)s", "mta-whois: mta to [ops@example.org] lines false whois true"},
		{"with lines", "mta = mta\naction = %(action_mwl)s", "mta-whois-lines: mta to [ops@example.org] lines true whois true"},
		{"sendmail", "mta = sendmail\naction = %(action_mwl)s", "sendmail-whois-lines: mta to [ops@example.org] lines true whois true"},
		{"mail alone", "action = mail[dest=a@example.org]", "mail: mta to [a@example.org] lines false whois false"},
		{"Gmail's API", "mta = gmail-api\naction = %(action_mw)s", "gmail-api-whois: gmail-api to [ops@example.org] lines false whois true"},
		{"a relay that nobody names", "mta = smtp\naction = %(action_mw)s", "; write it out below %(action_)s with all that it needs, as in smtp[relay=…, whois=yes]"},
		{"Gmail without a password", "mta = gmail\naction = %(action_mw)s", "; write it out below %(action_)s with all that it needs, as in gmail[password=…, whois=yes]"},
		{"a way that there is not", "mta = pigeon\naction = %(action_mw)s", `there is no action "pigeon-whois"`},
		{"a file of the folder", "mta = filed\naction = %(action_mw)s", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, stock+"[sshd]\n"+tt.jail+"\n-- action.d/filed-whois.conf --\n[Definition]\nactionban = mail <dest>\n")
			tell, _ := c.Channels()
			got := ""
			for _, n := range tell {
				got += fmt.Sprintf("%s: %s to %v lines %v whois %v", n.Channel, n.Kind, n.To, n.Lines, n.Whois)
			}
			for _, p := range c.Problems {
				got += p.Text + "; " + p.Hint
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || strings.Contains(got, "no parameter") {
				t.Errorf("it comes to %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStockReportsToAbuseIPDB(t *testing.T) {
	const jails = tellJails + "action_abuseipdb = abuseipdb\naction = bantam[]\n  %(action_abuseipdb)s[abuseipdb_apikey=\"0123456789verysecret\", abuseipdb_category=\"18,22\"]\n[sshd]\n"
	dir := folder(t, jails)
	if err := os.Chmod(filepath.Join(dir, "jail.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir, testLib)
	if err != nil || len(c.Problems) > 0 {
		t.Fatalf("%v %v", err, c.Problems)
	}
	_, reports := c.Channels()
	if len(reports) != 1 || reports[0].Kind != "abuseipdb-report" || reports[0].Key.Reveal() != "0123456789verysecret" || reports[0].Category != "18,22" {
		t.Errorf("reports go out as %+v", reports)
	}
	shown, err := Show(dir, testLib, "sshd")
	if text := fmt.Sprintf("%+v %v", shown, jailOf(t, c, "sshd").Actions); err != nil || strings.Contains(text, "verysecret") {
		t.Errorf("the key is shown: %s, %v", text, err)
	}
}

func TestTwoActionsOfOneKindNeedNames(t *testing.T) {
	const chat = "telegram[token=123456789:AAFabcdefghijklmnopqrstuvwxyz0123456, chat=%d%s]"
	two := func(name string) *Config {
		return load(t, tellJails+"action = bantam[]\n  "+fmt.Sprintf(chat, 1, "")+"\n  "+fmt.Sprintf(chat, 2, name)+"\n[sshd]\n")
	}
	c := two("")
	if j := jailOf(t, c, "sshd"); j.Err != nil {
		t.Errorf("the jail is set aside: %v", j.Err)
	}
	var said *Problem
	for i, p := range c.Problems {
		if strings.Contains(p.Text, `two actions "telegram"`) {
			said = &c.Problems[i]
		}
	}
	if said == nil || said.Warning || said.Hint != "tell them apart with telegram[actname=OTHER]" {
		t.Errorf("it says\n%s", problemsOf(c))
	}
	if tell, _ := c.Channels(); len(tell) != 1 || tell[0].Chat != "1" {
		t.Errorf("without a name there are the channels %+v", tell)
	}
	if tell, _ := two(", actname=second").Channels(); len(tell) != 2 || tell[0].Channel != "second" || tell[0].Chat != "2" {
		t.Errorf("with a name there are the channels %+v", tell)
	}
}
