package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named begins a block of a page that is a file to paste.
var named = regexp.MustCompile(`^# ((?:filter\.d/|action\.d/)?[a-z-]+\.(?:local|conf))$`)

// pasted are the files that a page has its reader paste, in their order: name and text.
func pasted(page string) (files [][2]string) {
	var block []string
	for line := range strings.Lines(page + "\nend\n") {
		code, in := strings.CutPrefix(line, "    ")
		if in || strings.TrimSpace(line) == "" && len(block) > 0 {
			block = append(block, code)
			continue
		}
		if len(block) > 0 {
			if name := named.FindStringSubmatch(strings.TrimSpace(block[0])); name != nil {
				files = append(files, [2]string{name[1], strings.Join(block, "")})
			}
		}
		block = nil
	}
	return files
}

// Whatever the pages about telling people have their readers paste is right as it stands: check finds
// nothing wrong with it, and each channel is there that its page is about.
func TestHowToTellPeople(t *testing.T) {
	pages := map[string]string{
		"gmail.md":                       "gmail gmail-api smtp mta",
		"telegram-discord-slack-ntfy.md": "telegram discord slack ntfy",
		"webhook.md":                     "webhook",
	}
	g := follow(t, world{}, map[string]string{"/var/log/secure": "", "/var/log/nginx/error.log": "", "/var/www/blog/logs/access.log": ""})
	const credentials = "/etc/bantam/credentials/"
	for name, text := range map[string]string{
		"gmail-password": gmailPassword, "mail-password": "a password", "telegram-token": telegramToken, "discord-url": discordURL,
		"slack-url": slackURL, "ntfy-token": "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2", "webhook-key": hookKey, "webhook-url": hookURL,
		"webhook-header": "Authorization: Bearer abcdefghijkl",
	} {
		g.keep(credentials+name, text+"\n")
	}
	g.keep("/var/lib/bantam/gmail-token.json", "{}\n")
	for page, channels := range pages {
		text, err := os.ReadFile(filepath.Join("../docs/how-to", page))
		g.check(err)
		files := pasted(string(text))
		for _, f := range files {
			if f[0] != "jail.local" {
				g.keep("/etc/bantam/"+f[0], f[1])
			}
		}
		seen := ""
		for _, f := range files {
			if f[0] != "jail.local" {
				continue
			}
			g.keep("/etc/bantam/jail.local", f[1])
			cmd := g.inside(program, "check")
			cmd.Env = append(cmd.Env, "CREDENTIALS_DIRECTORY="+credentials)
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Contains(string(out), "warning") || !strings.Contains(string(out), "/etc/bantam: ") {
				t.Errorf("%s: %v: check says\n%s\nabout\n%s", page, err, out, f[1])
			}
			seen += string(out)
		}
		for channel := range strings.FieldsSeq(channels) {
			if !strings.Contains(seen, "action "+channel+", by bantam itself: ") {
				t.Errorf("%s has nothing to paste for %s", page, channel)
			}
		}
	}
}
