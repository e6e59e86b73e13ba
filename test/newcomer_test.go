package test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The machine on which Bantam is tried as a newcomer would: its sshd is a real one.
func TestNewcomersMachine(t *testing.T) {
	d := newDebian(t, "openssh-server")
	d.sshd()
	if in, said := d.login("right"); !in {
		t.Fatalf("the right password does not let the administrator in: %s", said)
	}
	var tries sync.WaitGroup
	for range 5 {
		tries.Go(func() {
			if in, said := d.login("wrong"); in || !strings.Contains(said, "Permission denied") {
				t.Errorf("a wrong password: logged in %t, ssh says %q", in, said)
			}
		})
	}
	tries.Wait()
	const failure = "Failed password for admin from 198.51.100.23 port"
	d.until("sshd has logged five failures", func() bool {
		log, err := os.ReadFile(filepath.Join(d.dir, "var/log/auth.log"))
		d.check(err)
		return strings.Count(string(log), failure) >= 5
	})
	log, err := os.ReadFile(filepath.Join(d.dir, "var/log/auth.log"))
	d.check(err)
	if n := strings.Count(string(log), failure); n != 5 {
		t.Errorf("%d lines tell of five wrong passwords:\n%s", n, log)
	}
	if n := strings.Count(string(log), "Accepted password for admin from 198.51.100.23 port"); n != 1 {
		t.Errorf("%d lines tell of one right password:\n%s", n, log)
	}
}
