package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bantam/internal/peertest"
	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
)

// program writes a shell script that stands for sendmail.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sendmail")
	// A fork in another test would inherit the file while it is open for writing, and it would be busy.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSendmailIsGivenTheMailAndTheRecipients(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BANTAM_TEST_TOKEN", "hunter2")
	script := fmt.Sprintf(`printf '%%s\n' "$@" > %[1]s/args; cat > %[1]s/mail; env > %[1]s/env; echo done`, dir)
	if err := sendBy(t, smtp.Config{Kind: smtp.MTA, Program: program(t, script)}); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if got := read("args"); got != "-i\n-f\nbantam@gate.example.org\n--\nann@example.org\ncc@example.org\nsecret@example.org\n" {
		t.Errorf("arguments %q", got)
	}
	mail := read("mail")
	if strings.Contains(mail, "\r") {
		t.Error("the mail has the network's line ends")
	}
	if r, err := smtptest.Read([]byte(mail)); err != nil || r.Text != letter().Text {
		t.Errorf("the mail reads %+v, %v", r, err)
	}
	if strings.Contains(read("env"), "hunter2") {
		t.Error("our environment, where secrets may be, was passed on")
	}
}

func TestSendmailsExitCodeDecides(t *testing.T) {
	for _, c := range []struct {
		script string
		again  bool
		want   string
	}{
		{"exit 75", true, "exit status 75"},
		{"echo no such user >&2; exit 67", false, `"no such user"`},
		{"exit 65", false, "exit status 65"},
		{"exit 68", false, "exit status 68"},
		{"exit 78", true, "exit status 78"},
		{"exit 69", true, "exit status 69"},
		{"exit 1", true, "exit status 1"},
		{"kill -9 $$", true, "killed"},
		{`printf '\033[2J\r\nx'; exit 75`, true, `\x1b[2J\r\nx`},
		{"head -c 10000000 /dev/zero >&2; exit 75", true, `\x00`},
		{"exec 0<&-; exit 75", true, "exit status 75"}, // it never reads the mail
	} {
		path := program(t, c.script)
		err := sendBy(t, smtp.Config{Kind: smtp.MTA, Program: path})
		says(t, err, path, c.want)
		if again, _ := verdict(err); again != c.again {
			t.Errorf("%s: tried again: %v", c.script, again)
		}
	}
}

func TestAMachineWithoutSendmailIsToldWhatToInstall(t *testing.T) {
	config := smtp.Config{Kind: smtp.MTA, Program: filepath.Join(t.TempDir(), "sendmail")}
	says(t, config.Check(), "msmtp-mta", config.Program)
	err := sendBy(t, config)
	says(t, err, "msmtp-mta")
	if again, _ := verdict(err); !again {
		t.Error("the mail is lost")
	}
}

func TestASilentSendmailEndsWithItsChildren(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The child holds the pipe open as long as it lives.
	path := program(t, "exec 3>"+fifo+"; sleep 600 & echo started >&3; wait")
	transport := open(t, smtp.Config{Kind: smtp.MTA, Program: path})
	ctx, cancel := context.WithCancel(limited(t))
	sent := make(chan error, 1)
	p := packetOf(t, letter())
	go func() { sent <- transport.Send(ctx, p) }()
	alive, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	line := make([]byte, 100)
	if n, err := alive.Read(line); err != nil || string(line[:n]) != "started\n" {
		t.Fatalf("%q, %v", line[:n], err)
	}
	cancel()
	if err := <-sent; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if n, err := alive.Read(line); n != 0 { // the end, once nobody holds it
		t.Errorf("%q, %v", line[:n], err)
	}
}

// msmtp is Debian's msmtp-mta, unpacked, relaying to a test's server, behind a script that stands for
// /usr/sbin/sendmail.
func msmtp(t *testing.T, s *smtptest.Server) string {
	t.Helper()
	tree := peertest.Package(t, "msmtp-mta")
	rc := filepath.Join(t.TempDir(), "msmtprc")
	config := fmt.Sprintf("defaults\ntls on\ntls_starttls on\ntls_trust_file %s\ntimeout 10\n"+
		"account default\nhost localhost\nport %d\nauth plain\nuser ann\npassword %q\n", s.CAFile(), s.Port(), password)
	if err := os.WriteFile(rc, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return program(t, fmt.Sprintf(`LD_LIBRARY_PATH=%s exec %s/usr/sbin/sendmail -C %s "$@"`, peertest.Libraries(tree), tree, rc))
}

func TestDebiansMsmtpTakesTheMail(t *testing.T) {
	s := smtptest.New(t, smtptest.Options{User: "ann", Password: password})
	path := msmtp(t, s)
	if err := (smtp.Config{Kind: smtp.MTA, Program: path}).Check(); err != nil {
		t.Error(err)
	}
	if err := sendBy(t, smtp.Config{Kind: smtp.MTA, Program: path}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Next(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.From != "bantam@gate.example.org" || fmt.Sprint(m.To) != "[ann@example.org cc@example.org secret@example.org]" {
		t.Errorf("from %s to %s", m.From, m.To)
	}
	r, err := m.Read()
	if err != nil || r.Text != letter().Text || r.Subject != letter().Subject || len(r.Parts) != 2 {
		t.Errorf("it reads %+v, %v", r, err)
	}

	for _, c := range []struct {
		code  int
		again bool
	}{{451, true}, {550, false}} {
		s.Answer(func(verb, _ string) smtptest.Reply {
			if verb == "RCPT" {
				return smtptest.Reply{Code: c.code}
			}
			return smtptest.Reply{}
		})
		err := sendBy(t, smtp.Config{Kind: smtp.MTA, Program: path})
		says(t, err, fmt.Sprint(c.code))
		if again, _ := verdict(err); again != c.again {
			t.Errorf("%d: tried again: %v, for %v", c.code, again, err)
		}
	}
}
