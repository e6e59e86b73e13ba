package setup

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bantam/internal/config"
	"bantam/internal/machine"
)

// Whatever a container is called, and wherever its log is, the file that setup writes says of it no more than where
// its log is and which ports it has.
func TestContainersInjectNothing(t *testing.T) {
	for _, c := range []struct{ name, container, log string }{
		{"a name with a line of its own", "web\n[sshd]\nenabled = false\n#", "/logs/a.log"},
		{"a name that is a section", "[DEFAULT]", "/logs/a.log"},
		{"a name with a tag and a value", "%(action_mwl)s<ip>", "/logs/a.log"},
		{"a name that draws on the terminal", "web\x1b[2J\u202e", "/logs/a.log"},
		{"a name without end", strings.Repeat("w", 100_000), "/logs/a.log"},
		{"a log with a line of its own", "web", "/logs/a.log\nignoreip = 0.0.0.0/0"},
		{"a log with a carriage return", "web", "/logs/a.log\rignoreip = 0.0.0.0/0"},
		{"a log with another behind a blank", "web", "/logs/a.log /etc/shadow"},
		{"a log with a tail", "web", "/logs/a.log tail"},
		{"a log with a value of the configuration", "web", "/logs/%(action_mwl)s"},
		{"a log with a tag", "web", "/logs/<ip>"},
		{"a log with a comment", "web", "/logs/a ; b # c"},
		{"a log that draws on the terminal", "web", "/logs/\x1b[2J\u202e\u009b31m.log"},
		{"a log without end", "web", strings.Repeat("/a", 50_000)},
		{"a log that is everything", "web", "/**/*"},
		{"a log that climbs", "web", "../../etc/shadow"},
		{"a log in no language", "web", "/logs/\xff\xfe"},
		{"a log with a separator of lines", "web", "/logs/a\u2028ignoreip = 0.0.0.0/0\u0085b\vc\fd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := contained(&machine.Container{
				Name: c.container, Log: c.log, Image: "nginx:1.27", Labels: map[string]string{"a\n[sshd]\nenabled": "false"},
				Ports: []machine.Published{{Protocol: "tcp", Outside: netip.MustParseAddrPort("0.0.0.0:8080"), Inside: 80}},
			}, "")
			p := Plan{Dir: t.TempDir(), New: true, Jails: []string{"sshd", "nginx-http-auth"}, Options: map[string][]string{"nginx-http-auth": lines}}
			p.Fill(time.Now())
			if len(p.Text) > 4096 {
				t.Errorf("the file has %d bytes", len(p.Text))
			}
			for line := range strings.Lines(p.Text) {
				line = strings.TrimSuffix(line, "\n")
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("a line of the file is %q", line)
				}
				key, value, _ := strings.Cut(line, " = ")
				if known := []string{"", "[sshd]", "[nginx-http-auth]", "enabled", "logpath", "port"}; !strings.HasPrefix(line, "#") && !slices.Contains(known, key) {
					t.Errorf("the file says %q", line)
				}
				if key == "logpath" && (value != c.log || value[0] != '/') || key == "port" && value != "8080" || key == "enabled" && value != "true" {
					t.Errorf("the file says %q", line)
				}
				if key == "logpath" && strings.ContainsAny(value, " %<;#*") {
					t.Errorf("the log is %q", value)
				}
			}
			if err := Write(filepath.Join(p.Dir, p.File), p.Text, 0o644); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(p.Dir, someLibrary)
			if err != nil {
				t.Fatal(err)
			}
			if v, _ := cfg.Value("sshd", "enabled"); v.Text != "true" {
				t.Errorf("sshd's enabled is %+v", v)
			}
			if v, _ := cfg.Value("DEFAULT", "ignoreip"); strings.Contains(v.Text, "0.0.0.0") {
				t.Errorf("ignoreip is %+v", v)
			}
		})
	}
}

// Where anybody may put a log, somebody puts a pipe, a link to a secret or to a device: setup waits for none, and tells
// nothing of what is in it.
func TestLogsThatSomebodyPlanted(t *testing.T) {
	m := tree(t, runs(map[string]string{"/etc/shadow": strings.Repeat("root:$6$swordfish:19000:0:99999:7:::\n", 100)}, "nginx.service"))
	folder := filepath.Join(m.Root, "/var/log/nginx")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		syscall.Mkfifo(filepath.Join(folder, "error.log"), 0o600), os.Symlink(filepath.Join(m.Root, "etc/shadow"), filepath.Join(folder, "access.log")),
		os.Symlink("/dev/zero", filepath.Join(folder, "zero-access.log")), os.Symlink("ring-access.log", filepath.Join(folder, "ring-access.log")),
		os.WriteFile(filepath.Join(folder, "x\x1b[2J\n[sshd]\nenabled = false\naccess.log"), []byte(combinedLine), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan *Survey, 1)
	go func() {
		s, err := Look(m, "", someLibrary, time.Now())
		if err != nil {
			t.Error(err)
		}
		done <- s
	}()
	select {
	case s := <-done:
		text, err := json.Marshal(s)
		if err != nil || strings.Contains(string(text), "swordfish") {
			t.Errorf("it tells a secret (%v):\n%s", err, text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for a pipe")
	}
}

// A link that somebody put in the place of the file is not followed, nor is one in the place of what is written first.
func TestWriteFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{other, filepath.Join(dir, "not there")} {
		path := filepath.Join(t.TempDir(), "jail.local")
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, "mine\n", 0o644); err == nil {
			t.Error("it writes in the place of a link")
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "keep me" {
		t.Errorf("the other file is %q, %v", text, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "not there")); err == nil {
		t.Error("it makes what a link leads to")
	}
}

// The folder that a configuration is tried in is open to nobody else, since secrets may be in it, and its name is not
// known beforehand.
func TestStageIsNobodyElses(t *testing.T) {
	names := map[string]bool{}
	for range 3 {
		staged, err := Stage("", "jail.d/x.local", "secret\n")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(staged)
		if info, err := os.Stat(staged); err != nil || info.Mode().Perm() != 0o700 || names[staged] {
			t.Errorf("%s: %v, %v", staged, info.Mode(), err)
		}
		names[staged] = true
	}
}

// What is no address, or everybody's, comes into no ignoreip.
func TestNobodyIsNeverBannedForNothing(t *testing.T) {
	var m machine.Machine
	m.Root = t.TempDir()
	path := filepath.Join(m.Root, "etc/resolv.conf")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\nnameserver 0.0.0.0\nnameserver ::\nnameserver 0.0.0.0/0\nnameserver fe80::1%eth0\n# x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Look(m, "", someLibrary, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var never []string
	for _, n := range s.Never {
		never = append(never, n.String())
	}
	if want := []string{"192.0.2.1", "fe80::1"}; !slices.Equal(never, want) {
		t.Errorf("never banned are %q, want %q", never, want)
	}
}
