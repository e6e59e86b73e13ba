package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bantam/library"
)

// Whatever somebody gives as a value, it is refused or is one value: nothing else of the configuration changes by it.
func TestValuesOfSettingsInjectNothing(t *testing.T) {
	dir := folder(t, "-- jail.local --\n[sshd]\nenabled = true\nlogpath = /var/log/own\n")
	for _, words := range [][]string{
		{"BanTime", "1800\n[sshd]\nenabled = false"},
		{"BanTime", "1800\rmaxretry = 1000"},
		{"BanTime", "1800\x00"},
		{"BanTime", "1800\u0085maxretry = 1000"},
		{"BanTime", "1800\u2028maxretry = 1000"},
		{"BanTime", "%(maxretry)s"},
		{"BanTime", "<ip>"},
		{"BanTime", "1800 ; maxretry = 5"},
		{"BanTime", "__import__('os')"},
		{"BanTime", strings.Repeat("1", 1<<20)},
		{"BanTime", strings.Repeat("1m ", 1<<18)},
		{"BanTime", "1e999"},
		{"FindTime", "NaN"},
		{"FindTime", "Inf"},
		{"MaxRetry", "99999999999999999999999"},
		{"MaxRetry", "5\n[DEFAULT]"},
		{"IgnoreIP", "192.0.2.1\n[sshd]\nenabled = false"},
		{"IgnoreIP", "0.0.0.0/0"},
		{"IgnoreIP", "::/0"},
		{"IgnoreIP", "0/0"},
		{"IgnoreIP", "192.0.2.7%eth0"},
		{"IgnoreIP", "fe80::1%(x)s"},
		{"IgnoreIP", strings.Repeat("192.0.2.1,", 1<<17)},
		{"MailRecipient", "-oQ/tmp x"},
		{"MailRecipient", "-oQ"},
		{"MailRecipient", "-oQtmp@example.org"},
		{"MailRecipient", "a@example.org\nBcc: all@example.org"},
		{"MailRecipient", "a@example.org, b@example.org"},
		{"MailRecipient", `"a b"@example.org`},
		{"MailRecipient", "$(reboot)@example.org"},
		{"MailRecipient", "a@-example.org"},
		{"Mail", "enabled\naction = x"},
		{"FilterLocalNetworks", "enabled]"},
		{"sshd]\n[DEFAULT", "Fail2Ban", "disabled"},
		{"../../etc/passwd", "Fail2Ban", "disabled"},
		{"DEFAULT", "Fail2Ban", "disabled"},
		{"INCLUDES", "Fail2Ban", "disabled"},
		{"sshd", "Fail2Ban", "disabled\n[x]"},
		{"bantime", "\x1b[2J"},
		{"\x1b]0;t\a", "1"},
		{strings.Repeat("k", 1<<20), "1"},
	} {
		_, err := ChangeSetting(dir, library.FS, words, false, agreed)
		name := strings.Join(words, " ")
		name = name[:min(len(name), 60)]
		var p *Problem
		if !errors.As(err, &p) {
			t.Errorf("%q is taken: %v; the file is %.200q", name, err, kept(t, dir))
			_ = os.RemoveAll(filepath.Join(dir, "jail.d"))
			continue
		}
		if text := p.String() + p.Hint; len(text) > 2000 || strings.ContainsAny(text, "\n\r\x1b\x00\a") {
			t.Errorf("%q: it says %.300q", name, text)
		}
		if kept(t, dir) != "" {
			t.Fatalf("%q is refused, and the file is %q", name, kept(t, dir))
		}
	}
	// A link in the place of the file is not written through.
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("[DEFAULT]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, SettingsFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, file); err != nil {
		t.Fatal(err)
	}
	_, err := ChangeSetting(dir, library.FS, []string{"BanTime", "1800"}, false, agreed)
	if text, readErr := os.ReadFile(other); readErr != nil || string(text) != "[DEFAULT]\n" {
		t.Errorf("what a link leads to is changed to %q (%v, %v)", text, err, readErr)
	}
}
