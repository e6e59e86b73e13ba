package cli

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/control"
	"bantam/internal/jail"
	"bantam/internal/source"
	"bantam/internal/store"
)

const picturesFolder = "../../docs/pictures/"

// noon is when the pictures are taken.
var noon = time.Date(2025, 3, 2, 12, 0, 0, 0, time.Local)

func address(s string) bantam.ID {
	id, err := bantam.ParsePrefix(s)
	if err != nil {
		panic(err)
	}
	return id
}

// aJail is one that reads files.
func aJail(name string, perHour float64, failures uint64, banned int, last, country string, files ...string) control.JailStatus {
	j := control.JailStatus{Status: jail.Status{Jail: name, Failures: failures, Banned: banned, Bans: uint64(banned), MaxRetry: 5, FindTime: 600, BanTime: 600, Failing: banned / 2}, LastCountry: country}
	if last != "" {
		j.LastBan = address(last)
	}
	for i, f := range files {
		s := source.Status{Name: f, Jails: []string{name}, State: source.Reading, Live: true, Lines: int64(perHour)}
		if i == 0 {
			s.PerHour = perHour
		}
		j.Sources = append(j.Sources, s)
	}
	return j
}

// aDay is a daemon after a day.
func aDay() control.Status {
	waiting := aJail("wordpress", 0, 0, 0, "", "")
	waiting.Sources = []source.Status{{Name: "/var/www/*/logs/access.log", State: source.Waiting}}
	silent := aJail("dovecot", 40, 3, 0, "", "", "/var/log/dovecot.log")
	silent.Sources[0].Silent = noon.Add(-3 * time.Hour)
	observing := aJail("nextcloud", 12, 9, 2, "192.0.2.77", "", "/srv/nextcloud/nextcloud.log")
	observing.Observe = true
	return control.Status{
		Version: "0.1.0", PID: 812, Since: noon.Add(-28 * time.Hour), Config: "/etc/bantam", Firewall: "nftables inet bantam", Memory: 18_300_000, Allowed: 6,
		Jails: []control.JailStatus{
			aJail("sshd", 1234, 214, 31, "203.0.113.7", "CN", "journal"),
			aJail("nginx-http-auth", 9812, 12, 1, "2001:db8:9::/64", "NL", "/var/log/nginx/a.log", "/var/log/nginx/b.log", "/var/log/nginx/c.log"),
			aJail("postfix", 310, 95, 8, "198.51.100.0/24", "RU", "/var/log/mail.log"),
			silent, observing, waiting,
			{Status: jail.Status{Jail: "gitea"}, Aside: `jail.local:14: findtime: unknown unit "x" in "10x"`},
			{Status: jail.Status{Jail: jail.Manual, Banned: 2, Bans: 2}},
		},
		Actions: []action.Status{{Jail: "sshd", Action: "sendmail", Failing: 1, Err: "exit status 75"}},
	}
}

// crowded is a daemon with more jails than a screen has lines.
func crowded() control.Status {
	st := aDay()
	for n := range 36 {
		st.Jails = append(st.Jails, aJail(fmt.Sprintf("shop-%02d", n), 10, 0, 0, "", "", "/var/log/shop.log"))
	}
	return st
}

func aPast() control.HistoryReply {
	ban := func(id, country, jail string, ago, length time.Duration, cause string) store.PastBan {
		b := store.PastBan{Ban: bantam.Ban{Jail: jail, ID: address(id), Country: country, Time: noon.Add(-ago), End: noon.Add(length - ago), Failures: 5, Count: 1, By: bantam.ByFailures}, Cause: cause}
		if cause != "" {
			b.Ended = b.End
		}
		return b
	}
	byHand := ban("198.51.100.0/24", "RU", "manual", 5*time.Hour, 0, "")
	byHand.By, byHand.Reason, byHand.End = bantam.ByOperator, "scans us \x1b[31m", time.Time{}
	again := ban("2001:db8:9::/64", "NL", "nginx-http-auth", time.Hour, 10*time.Minute, bantam.CauseExpired)
	again.Count = 3
	return control.HistoryReply{Bans: []store.PastBan{
		ban("203.0.113.7", "CN", "sshd", 4*time.Minute, 10*time.Minute, ""), again,
		ban("192.0.2.50", "", "postfix", 2*time.Hour, time.Minute, bantam.CauseOperator), byHand,
	}, Fitting: 214, Since: noon.Add(-24 * time.Hour)}
}

func someFailing() (out []control.Failing) {
	for n, x := range []struct{ id, country, user string }{{"203.0.113.99", "CN", "root"}, {"192.0.2.14", "", "管理员"}, {"2001:db8:77::/64", "DE", "eve\x1b[2J"}} {
		out = append(out, control.Failing{Standing: jail.Standing{
			Jail: "sshd", ID: address(x.id), Count: 4 - n, MaxRetry: 5, Failures: 4 - n, FindTime: 600,
			Last: noon.Add(-time.Duration(n+1) * 7 * time.Second), User: x.user,
		}, Country: x.country})
	}
	return out
}

// aTop is a live screen with rates.
func aTop(a *app, width, height int) *topScreen {
	s := &topScreen{app: a, width: width, height: height}
	before := topFigures{At: noon.Add(-2 * time.Second), Status: aDay()}
	for i := range before.Status.Jails {
		j := &before.Status.Jails[i]
		j.Failures -= min(j.Failures, 2)
		for k := range j.Sources {
			j.Sources[k].Lines -= min(j.Sources[k].Lines, 3)
		}
	}
	s.take(before)
	s.take(topFigures{At: noon, Status: aDay(), Failing: someFailing(), Last: aPast().Bans})
	return s
}

func someEvents() []control.Event {
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	return []control.Event{
		{At: at(1), Kind: control.EventFailure, Jail: "sshd", ID: address("203.0.113.7"), Country: "CN", User: "root", Regex: 3},
		{At: at(2), Kind: control.EventIgnored, Jail: "sshd", ID: address("192.0.2.10"), Text: "ignoreself rule"},
		{At: at(4), Kind: control.EventFailure, Jail: "postfix", ID: address("198.51.100.9"), User: "eve\x1b[2J\n", Regex: 1},
		{At: at(5), Kind: control.EventBan, Jail: "sshd", ID: address("203.0.113.7"), Country: "CN", Failures: 5, Count: 2, By: bantam.ByFailures, End: at(605)},
		{At: at(6), Kind: control.EventBan, Jail: "nextcloud", ID: address("2001:db8:9::/64"), Failures: 5, Count: 1, By: bantam.ByFailures, End: at(3606), Observed: true},
		{At: at(7), Kind: control.EventHeld, Jail: "sshd", ID: address("192.0.2.10"), Text: "an administrator is logged in from there"},
		{At: at(9), Kind: control.EventProlong, Jail: "manual", ID: address("198.51.100.0/24"), By: bantam.ByOperator, Text: "scans us"},
		{At: at(9), Kind: control.EventRestore, Jail: "sshd", ID: address("192.0.2.8"), By: bantam.ByFailures, Failures: 6, End: at(69)},
		{At: at(12), Kind: control.EventUnban, Jail: "sshd", ID: address("203.0.113.7"), Country: "CN", Text: bantam.CauseOperator},
		{At: at(20), Kind: control.EventReload, Count: 7},
		{At: at(20), Kind: control.EventAside, Jail: "gitea", Text: `jail.local:14: findtime: unknown unit "x"`},
		{At: at(21), Kind: control.EventLost, Count: 120},
		{At: at(22), Kind: control.EventStop},
	}
}

func someJudged() (counts, refused control.JudgedLine) {
	line := "Mar  2 11:59:58 gate sshd[812]: Failed password for root from 203.0.113.7 port 4022 ssh2"
	rule := &control.Rule{Option: "failregex 3", Expression: `^Failed \b(?!publickey)\S+ for (?P<cond_inv>invalid user )?<F-USER>…</F-USER> from <HOST>`, File: "/etc/bantam/filter.d/sshd.conf", Line: 34}
	counts = control.JudgedLine{Line: line, Jails: []control.Judged{
		{
			Jail: "sshd", Stage: control.StageCounts, Rule: rule, Host: "203.0.113.7", ID: address("203.0.113.7"), Country: "CN", User: "root",
			Data: map[string]string{"user": "root", "ip4": "203.0.113.7"}, Time: noon.Add(-2 * time.Second), Before: 2, Count: 3, MaxRetry: 5, FindTime: 600, BanTime: 600,
		},
		{Jail: "postfix", Stage: control.StagePrefregex, Rule: &control.Rule{Option: "prefregex"}},
		{Jail: "nextcloud", Stage: control.StageFailregex, Tried: 2},
		{Jail: "gitea", Stage: control.StageAside, Text: `jail.local:14: findtime: unknown unit "x" in "10x"`},
	}}
	refused = control.JudgedLine{Line: "Mar  2 11:59:58 gate su\x1b[0m: all is well", Jails: []control.Judged{
		{Jail: "sshd", Stage: control.StagePrefregex, Rule: &control.Rule{Option: "prefregex"}},
		{Jail: "postfix", Stage: control.StagePrefregex, Rule: &control.Rule{Option: "prefregex"}},
		{Jail: "nextcloud", Stage: control.StageFailregex, Tried: 2},
	}}
	return counts, refused
}

// Each picture of docs/pictures is what the program prints, fits 80 columns where it is a screen, and holds nothing
// that a terminal would obey.
func TestScreensArePictured(t *testing.T) {
	counts, refused := someJudged()
	for _, c := range []struct {
		name  string
		draw  func(a *app)
		lines int // at most; 0 for a list
	}{
		{"status", func(a *app) { a.screen(aDay(), []string{"192.0.2.10"}, noon) }, 24},
		{"status-many-jails", func(a *app) { a.screen(crowded(), nil, noon) }, 24},
		{"status-observing", func(a *app) {
			st := aDay()
			st.Firewall, st.Jails, st.Actions = "", st.Jails[:3], nil
			for i := range st.Jails {
				st.Jails[i].Observe = true
			}
			a.screen(st, nil, noon)
		}, 24},
		{"history", func(a *app) { a.printHistory(aPast(), noon) }, 0},
		{"watch", func(a *app) {
			for _, e := range someEvents() {
				text, _ := eventText(&e)
				a.printf("%s  %s\n", e.At.Format(time.TimeOnly), text)
			}
		}, 0},
		{"why-line", func(a *app) { a.printJudged(&counts, noon) }, 0},
		{"why-line-refused", func(a *app) { a.printJudged(&refused, noon) }, 24},
		{"top", func(a *app) { a.printf("%s\n", strings.Join(aTop(a, 80, 24).lines(), "\n")) }, 24},
		{"top-jail", func(a *app) {
			s := aTop(a, 80, 24)
			s.key("enter")
			s.key("j")
			s.key("u")
			a.printf("%s\n", strings.Join(s.lines(), "\n"))
		}, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			c.draw(&app{stdout: &b})
			text := b.String()
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			for n, line := range lines {
				if c.lines > 0 && width(line) > screenWidth {
					t.Errorf("line %d has %d columns: %s", n+1, width(line), line)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("line %d holds a control character: %q", n+1, line)
				}
			}
			if c.lines > 0 && len(lines) > c.lines {
				t.Errorf("%d lines are more than a screen has:\n%s", len(lines), text)
			}
			for file, want := range map[string]string{"screen-" + c.name + ".txt": text, "screen-" + c.name + ".svg": svg(lines)} {
				if *update {
					if err := os.WriteFile(picturesFolder+file, []byte(want), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := os.ReadFile(picturesFolder + file); err != nil || string(got) != want {
					t.Errorf("%s is not what is printed (%v); take it anew with: go test ./internal/cli -run Pictured -update\n%s", file, err, text)
				}
			}
		})
	}
}

// svg is a picture of lines.
func svg(lines []string) string {
	const column, line = 8.4, 18
	most := screenWidth
	for _, l := range lines {
		most = max(most, width(l))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %d\">\n", float64(most+4)*column, (len(lines)+2)*line)
	b.WriteString("<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1c1f24\"/>\n<g font-family=\"monospace\" font-size=\"14\" fill=\"#d8dbe0\">\n")
	for n, l := range lines {
		fmt.Fprintf(&b, "<text x=\"16\" y=\"%d\" xml:space=\"preserve\" textLength=\"%.1f\">%s</text>\n", (n+2)*line-4, float64(width(l))*column, html.EscapeString(l))
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

func TestReadmeShowsTheFirstScreen(t *testing.T) {
	screen, err := os.ReadFile(picturesFolder + "screen-status.txt")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, []byte("```\n"+string(screen)+"```")) {
		t.Errorf("README.md does not show docs/pictures/screen-status.txt as it is")
	}
}
