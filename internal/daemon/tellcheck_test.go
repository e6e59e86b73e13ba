package daemon

import (
	"os"
	"strings"
	"testing"

	"bantam/library"
)

// check says of channels what this machine can know without asking anybody.
func TestCheckOfTelling(t *testing.T) {
	const jail = "[web]\nenabled = true\nobserve = true\nfilter =\nlogpath = DIR/web.log\nfailregex = ^ denied <HOST>$\nsender = bantam@example.org\ndestemail = ops@example.org\naction = bantam\n  "
	for _, c := range []struct{ name, action, want, hint string }{
		{"all is well", "mta[program=DIR/sendmail]", "", ""},
		{"a relay is not asked", "smtp[relay=mail.example.org]", "", ""},
		{"no sendmail", "mta[program=DIR/none]", "jail.local:9: action: mta: find DIR/none: no such file or directory; install a package that has it", "waits until then"},
		{"a sendmail that cannot be run", "mta[program=DIR/web.log]", "mta: find DIR/web.log: permission denied", "waits until then"},
		{"no client of Gmail's API", "gmail-api[client=DIR/none.json]", "gmail-api: ", "waits until then"},
		{"reports by a sendmail that is not there", `abuse[via="mta[program=DIR/none]"]`, "abuse: find DIR/none", "waits until then"},
		{"the receiver of the stock file, by a relay", "smtp[relay=mail.example.org, to=root@localhost]", `smtp: nobody outside this machine can deliver mail to "root@localhost"`, "destemail"},
		{"the same by sendmail", "mta[program=DIR/sendmail, to=root@localhost]", "", ""},
		{"abuse reports from nowhere", `abuse[via="smtp[relay=mail.example.org]", from=root@localhost.localdomain]`, `abuse: no abuse desk can answer "root@localhost.localdomain"`, "sender"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, map[string]string{"jail.local": jail + c.action + "\n[sshd]\nenabled = no\n", "web.log": "", "sendmail": "#!/bin/sh\n"})
			if err := os.Chmod(dir+"/sendmail", 0o700); err != nil {
				t.Fatal(err)
			}
			cfg, problems, err := Check(dir, library.FS)
			if err != nil || len(cfg.Jails) != 1 {
				t.Fatalf("%d jails, %v", len(cfg.Jails), err)
			}
			want := strings.ReplaceAll(c.want, "DIR", dir)
			switch {
			case want == "" && len(problems) > 0, want != "" && len(problems) != 1:
				t.Errorf("it says %v, want %q", problems, want)
			case want != "" && (!strings.Contains(problems[0].String(), want) || !strings.Contains(problems[0].Hint, c.hint) || !problems[0].Warning):
				t.Errorf("it says %s, hint %q, want %q", problems[0], problems[0].Hint, want)
			}
		})
	}
}
