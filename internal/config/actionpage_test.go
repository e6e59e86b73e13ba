package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bantam/internal/action"
	"bantam/internal/notify"
	"bantam/internal/report"
	"bantam/internal/smtp"
)

const actionPage = "../../docs/reference/actions.md"

// A pageRow is a parameter as docs/reference/actions.md has it.
type pageRow struct{ name, def, meaning string }

// pageTables are the tables of parameters of the page, by the title above each.
func pageTables(t *testing.T) map[string][]pageRow {
	t.Helper()
	text, err := os.ReadFile(actionPage)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][]pageRow{}
	title := ""
	for line := range strings.Lines(string(text)) {
		if head, ok := strings.CutPrefix(line, "### "); ok {
			title = strings.TrimSpace(head)
		}
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if title == "" || !strings.HasPrefix(line, "| `") || len(cells) != 3 {
			continue
		}
		tables[title] = append(tables[title], pageRow{
			strings.Trim(cells[0], "| `"), strings.Trim(cells[1], "`"), strings.TrimSuffix(cells[2], " |"),
		})
	}
	return tables
}

func names(rows []pageRow) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.name)
	}
	slices.Sort(out)
	return out
}

// Every parameter that is read has its row, and no other has.
func TestActionPageHasAllParameters(t *testing.T) {
	tables := pageTables(t)
	want := map[string][]string{"All messages": notifyParams, "Mail": mailParams, "bantam": {"type", "port", "protocol"}, action.LogName: action.LogParams}
	for _, params := range []map[string][]string{viaParams, chatParams, reportParams} {
		for kind, list := range params {
			want[kind] = list
		}
	}
	for title, list := range want {
		if got := names(tables[title]); !slices.Equal(got, slices.Sorted(slices.Values(list))) {
			t.Errorf("%s has under %q the rows %v, not %v", actionPage, title, got, list)
		}
	}
	for title := range tables {
		if want[title] == nil {
			t.Errorf("%s has parameters under %q, which is no action", actionPage, title)
		}
	}
	for kind, list := range want {
		if kind == "All messages" || kind == "Mail" {
			continue
		}
		for _, r := range tables[kind] {
			if says := strings.Contains(r.meaning, "secret"); slices.Contains(list, r.name) && says != isSecret(kind, r.name) {
				t.Errorf("%s: that %s of %s is a secret is %v there and %v here", actionPage, r.name, kind, says, !says)
			}
		}
	}
	if kinds := notify.Kinds(); len(kinds) != len(viaParams)+len(chatParams) {
		t.Errorf("the channels are %v", kinds)
	}
}

// The defaults of the page are those that hold.
func TestActionPageHasTheDefaults(t *testing.T) {
	tables := pageTables(t)
	yesNo := func(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }
	n, r := notify.Defaults(smtp.MTA), report.Defaults(report.Abuse)
	xarf := "text"
	if r.XARF {
		xarf = "text+xarf"
	}
	for title, want := range map[string]map[string]string{
		"All messages": {"lines": yesNo(n.Lines), "whois": yesNo(n.Whois), "on": strings.Join(n.On, " "), "digest": fmt.Sprintf("%gm", n.Digest.Minutes())},
		smtp.GmailAPI:  {"client": GmailClient, "token": GmailToken},
		report.Abuse: {
			"via": r.Via.Kind, "interval": fmt.Sprintf("%gh", r.Interval.Hours()), "format": xarf, "contact": strings.Join(r.Contact, ","),
			"redact": yesNo(r.Redact), "spoofable": yesNo(r.Spoofable),
		},
		report.AbuseIPDB: {"redact": yesNo(report.Defaults(report.AbuseIPDB).Redact)},
		report.Blocklist: {"redact": yesNo(report.Defaults(report.Blocklist).Redact)},
	} {
		for key, def := range want {
			i := slices.IndexFunc(tables[title], func(r pageRow) bool { return r.name == key })
			if i < 0 || tables[title][i].def != def {
				t.Errorf("%s: the default of %s of %s should be %s", actionPage, key, title, def)
			}
		}
	}
}

// What the page says is needed is: with it alone the action works, and without any of it the action is refused by its name.
func TestActionPageKnowsWhatIsNeeded(t *testing.T) {
	values := map[string]string{
		"relay": "mail.example.org", "password": "abcdefghijklmnop", "token": "123456789:AAFabcdefghijklmnopqrstuvwxyz0123456", "chat": "-1", "topic": "bans",
		"key": "0123456789abcdef", "from": "a@example.org", "file": "/var/log/b.log",
	}
	urls := map[string]string{
		notify.Discord: "https://discord.com/api/webhooks/1/abc", notify.Slack: "https://hooks.slack.com/services/T0/B0/abc", notify.Webhook: "https://hook.example.org/",
	}
	for kind, rows := range pageTables(t) {
		if !Tells(kind) {
			continue
		}
		var needed []string
		for _, r := range rows {
			if r.def == "needed" {
				needed = append(needed, r.name)
			}
		}
		for _, missing := range append([]string{""}, needed...) {
			var params []string
			for _, key := range needed {
				if value := values[key]; key != missing {
					if key == "url" {
						value = urls[kind]
					}
					params = append(params, key+"="+value)
				}
			}
			c := load(t, strings.Replace(tellJails, "root@<fq-hostname>", "bantam@example.org", 1)+"action = "+kind+"["+strings.Join(params, ", ")+"]\n[sshd]\n")
			tell, reports := c.Channels()
			switch works := len(tell)+len(reports) == 1; {
			case missing == "" && !works:
				t.Errorf("%s does not work with %v: %s", kind, params, problemsOf(c))
			case missing != "" && (works || !strings.Contains(problemsOf(c), missing)):
				t.Errorf("%s without %s says %s", kind, missing, problemsOf(c))
			}
		}
	}
}

// The lines to paste work as they stand, but for the secrets, which are no files here.
func TestDocumentedActionsWork(t *testing.T) {
	n := 0
	for _, page := range []string{"../../docs/guide.md", actionPage} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "\n\n") {
			if !strings.HasPrefix(block, "    ") || !strings.Contains(block, "action = ") {
				continue
			}
			n++
			var b strings.Builder
			for line := range strings.Lines(block) {
				b.WriteString(strings.TrimPrefix(line, "    "))
			}
			jail := strings.NewReplacer("file:/etc/bantam/smtp.secret", "opensesame", "file:/etc/bantam/telegram.secret", "123456789:AAFabcdefghijklmnopqrstuvwxyz0123456").Replace(b.String())
			if strings.HasPrefix(jail, "action") {
				jail = "[sshd]\n" + jail
			}
			c := load(t, "-- jail.conf --\n[DEFAULT]\nenabled = true\nfailregex = ^from <HOST>$\nlogpath = /var/log/a.log\naction_ = bantam[]\n-- jail.local --\n"+jail+"\n[sshd-two]\n")
			for _, p := range c.Problems {
				if !strings.Contains(p.Text, "others can read") && !strings.Contains(p.Text, "no action: it counts") {
					t.Errorf("%s:\n%s\nsays %s", page, block, p)
				}
			}
		}
	}
	if n < 4 {
		t.Errorf("%d blocks with actions were found", n)
	}
}
