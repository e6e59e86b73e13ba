package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bantam/internal/action"
	"bantam/internal/peertest"
)

// strangersOf are the problems about tags that nothing knows, with their hints.
func strangersOf(c *Config) []string {
	var out []string
	for _, p := range c.Problems {
		if strings.HasPrefix(p.Text, "nothing knows the tag ") {
			name, _, _ := strings.Cut(strings.TrimPrefix(p.Text, "nothing knows the tag "), ":")
			out = append(out, fmt.Sprintf("%s:%d %s %s (%s)", p.File, p.Line, p.Key, name, p.Hint))
		}
	}
	return out
}

func TestTagsThatNothingKnows(t *testing.T) {
	const give = `give it a value, as a parameter: mine[%s="…"], or as an option under [Init] of the action's file`
	for _, tt := range []struct {
		name, params, file string
		want               []string
	}{
		{"placeholders of a recipe", "", "actionban = curl https://chat.example/bot<BOT_TOKEN>/send \\\n  -d chat_id=<CHAT_ID> \\\n  -d text=\"<ip> in <name>\"", []string{
			"action.d/mine.conf:2 actionban <BOT_TOKEN> (" + fmt.Sprintf(give, "BOT_TOKEN") + ")",
			"action.d/mine.conf:3 actionban <CHAT_ID> (" + fmt.Sprintf(give, "CHAT_ID") + ")",
		}},
		{"placeholders given as parameters", "[BOT_TOKEN=1:x, CHAT_ID=2]", "actionban = curl https://chat.example/bot<BOT_TOKEN>/send -d chat_id=<CHAT_ID>", nil},
		{"placeholders given under [Init]", "", "actionban = say <greeting>\n[Init]\ngreeting = hello", nil},
		{"capitals", "", "actionban = say <IP>", []string{"action.d/mine.conf:2 actionban <IP> (tags are written in small letters: <ip>)"}},
		{"a slip", "", "actionban = say <failure>", []string{"action.d/mine.conf:2 actionban <failure> (did you mean <failures>? Else " + fmt.Sprintf(give, "failure") + ")"}},
		{"a tag in what the command is made of", "", "actionban = <say> <ip>\nactionunban = <say> <ip>\nsay = echo <greeting>", []string{"action.d/mine.conf:4 say <greeting> (" + fmt.Sprintf(give, "greeting") + ")"}},
		{"one family only", "", "actionban = say <what>\n[Init]\nwhat = a\n[Init?family=inet6]\nwhat = <wat>", []string{"action.d/mine.conf:6 what <wat> (did you mean <what>? Else " + fmt.Sprintf(give, "wat") + ")"}},
		{"every tag of a ban", "", "actionban = say <" + strings.Join(action.Tags(), "> <") + "> <F-USER> <F-ANY-THING> <bantime> <timeout>", nil},
		{"redirections", "", "actionban = sort < /tmp/a > /tmp/b; cat </tmp/a >/tmp/b; diff <(echo a) <(echo b); f 2>&1 <&3", nil},
		{"here-documents", "", "actionban = cat <<EOF >> /tmp/x\n  <ip>\n  EOF\n  cat <<END>/tmp/x\n  x\n  END\n  cat <<-X\n  X", nil},
		{"the address in a header", "[sender=root]", "actionban = printf \"From: B <<sender>>\\nTo: <root@localhost>\\n\" | mail", nil},
		{"HTML", "", "actionban = printf '<html><b>Banned</b><br></html>' | mail", nil},
		{"Perl", "", "actionban = perl -e 'while (<STDIN>) { print if 1<2 }'", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := load(t, "-- jail.conf --\n[a]\nenabled = true\nfailregex = ^from <HOST>$\nlogpath = /var/log/a.log\naction = mine"+tt.params+
				"\n-- action.d/mine.conf --\n[Definition]\n"+tt.file+"\n")
			if j := jailOf(t, c, "a"); j.Err != nil {
				t.Fatal(j.Err)
			}
			if got := strangersOf(c); !slices.Equal(got, tt.want) {
				t.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// Of the package's actions only those have tags that nothing knows which need parameters to work at all.
func TestTagsOfStockActions(t *testing.T) {
	dir := filepath.Join(peertest.Tree(t), "etc/fail2ban")
	files, err := filepath.Glob(dir + "/action.d/*.conf")
	if err != nil || len(files) < 40 {
		t.Fatalf("the package has the actions %v: %v", files, err)
	}
	var local strings.Builder
	for i, file := range files {
		fmt.Fprintf(&local, "[j%d]\nenabled = true\nfailregex = <HOST>\nlogpath = /dev/null\naction = %s\n", i, strings.TrimSuffix(filepath.Base(file), ".conf"))
	}
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir, testLib)
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string][]string{
		"abuseipdb": {"<abuseipdb_category>"}, "blocklist_de": {"<agent>", "<apikey>", "<email>", "<service>"},
		"cloudflare-token": {"<cftoken>", "<cfzone>"}, "pf": {"<port>"},
		"xarf-login-attack": {"<debug>"}, // which is compared with a number, in vain
	}
	got := map[string][]string{}
	for _, said := range strangersOf(c) {
		words := strings.Fields(said)
		file, _, _ := strings.Cut(strings.TrimPrefix(words[0], "action.d/"), ".conf:")
		got[file] = append(got[file], words[2])
	}
	if !maps.EqualFunc(got, needs, slices.Equal) {
		t.Errorf("nothing is known of %v, want %v", got, needs)
	}
}

func FuzzUnknownTags(f *testing.F) {
	for _, s := range []string{"curl <BOT_TOKEN> <ip>", "cat <<EOF>x\nEOF", "<a</a>", "<b></b>", "<<<<>>>>", strings.Repeat("<a", 100)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 {
			return
		}
		found := unknownTags(text)
		if len(found) > maxStrangers {
			t.Errorf("%d tags are found", len(found))
		}
		for name := range found {
			if !strings.Contains(text, "<"+name+">") || action.KnowsTag(name) {
				t.Errorf("%q is found in %q", name, text)
			}
		}
	})
}
