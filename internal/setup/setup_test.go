package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"bantam/internal/machine"
	"bantam/library"
)

// tree makes a machine's files.
func tree(t *testing.T, files map[string]string) machine.Machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return machine.Machine{Root: root}
}

// runs are the files by which systemd's services show.
func runs(files map[string]string, units ...string) map[string]string {
	for _, u := range units {
		folder := "/sys/fs/cgroup/system.slice/" + u
		files[folder+"/cgroup.procs"] = "812\n"
		files[folder+"/cgroup.events"] = "populated 1\nfrozen 0\n"
	}
	return files
}

// few is the library with some jails only, so that a test takes no longer than it must.
type few struct{ fs.FS }

var fewJails = regexp.MustCompile(`(?m)^\[(DEFAULT|sshd|pam-generic|dropbear|nginx-\w+-?\w*|http-\w+|postfix|postfix-sasl|dovecot|vsftpd|proftpd)\]\n`)

func (f few) Open(name string) (fs.File, error) {
	if name != "jail.conf" {
		return f.FS.Open(name)
	}
	text, err := fs.ReadFile(f.FS, name)
	if err != nil {
		return nil, err
	}
	var kept bytes.Buffer
	for i, section := range regexp.MustCompile(`(?m)^\[`).Split(string(text), -1) {
		if section = "[" + section; i > 0 && fewJails.MatchString(section) {
			kept.WriteString(section)
		}
	}
	return fstest.MapFS{name: {Data: kept.Bytes()}}.Open(name)
}

var someLibrary = few{library.FS}

// found is a jail of a survey, nil if it is not in it.
func found(s *Survey, jail string) *Found {
	if i := slices.IndexFunc(s.Jails, func(f Found) bool { return f.Jail == jail }); i >= 0 {
		return &s.Jails[i]
	}
	return nil
}

const combinedLine = `192.0.2.7 - - [21/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 612 "-" "curl"` + "\n"

func TestWhichJailsAreProposed(t *testing.T) {
	for _, c := range []struct {
		name             string
		files            map[string]string
		units            []string
		proposed, absent []string
	}{
		{
			"on a bare machine it is ssh alone",
			map[string]string{},
			nil,
			[]string{"sshd"},
			[]string{"nginx-http-auth", "postfix"},
		},
		{
			"a service that runs and writes its log has its jails",
			map[string]string{"/var/log/nginx/access.log": combinedLine, "/var/log/nginx/error.log": "x\n"},
			[]string{"nginx.service", "ssh.service"},
			[]string{"sshd", "nginx-http-auth", "nginx-botsearch", "nginx-bad-request", "nginx-limit-req"},
			nil,
		},
		{
			"one that is not there has none, though its log is a shared one",
			map[string]string{"/var/log/auth.log": "x\n", "/var/log/mail.log": "x\n"},
			[]string{"dovecot.service"},
			[]string{"sshd", "dovecot"},
			nil,
		},
		{
			"a log that only one jail reads is enough",
			map[string]string{"/var/log/vsftpd.log": "x\n"},
			nil,
			[]string{"sshd", "vsftpd"},
			nil,
		},
		{
			"a service that runs and has no log yet is not proposed",
			map[string]string{},
			[]string{"proftpd.service", "nginx.service"},
			[]string{"sshd", "proftpd"}, // whose journal is read
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Look(tree(t, runs(c.files, c.units...)), "", someLibrary, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range s.Jails {
				if f.Propose {
					got = append(got, f.Jail)
				}
			}
			slices.Sort(got)
			slices.Sort(c.proposed)
			if !slices.Equal(got, c.proposed) {
				t.Errorf("proposed are %v, want %v; trouble: %v", got, c.proposed, s.Trouble)
			}
			for _, name := range c.absent {
				if found(s, name) != nil {
					t.Errorf("%s is in the survey", name)
				}
			}
		})
	}
}

func TestALogOfAnUnknownFormIsSaid(t *testing.T) {
	files := runs(map[string]string{
		"/var/log/nginx/access.log": strings.Repeat("10:00:00|192.0.2.7|GET /|200\n", 2113),
		"/var/log/nginx/error.log":  time.Now().Format("2006/01/02 15:04:05") + " [notice] 812#812: start\n",
	}, "nginx.service")
	s, err := Look(tree(t, files), "", someLibrary, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := found(s, "nginx-botsearch").Note, "/var/log/nginx/access.log: none of its last 2113 lines understood: is its log_format combined?"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if note := found(s, "nginx-http-auth").Note; note != "" {
		t.Errorf("of the error log it says %q", note)
	}
	files["/var/log/nginx/access.log"] += combinedLine
	if s, err = Look(tree(t, files), "", someLibrary, time.Now()); err != nil {
		t.Fatal(err)
	}
	if note := found(s, "nginx-botsearch").Note; note != "" {
		t.Errorf("of a log that can be read it says %q", note)
	}
}

// The log of a container has its number in the path; the jail is for its successors, too, and for the port that
// clients dial.
func TestAServiceInAContainer(t *testing.T) {
	number := strings.Repeat("0f", 32)
	folder := "/var/lib/docker/containers/" + number + "/"
	config := func(name string) string {
		return `{"Name":"/` + name + `","LogPath":"` + folder + number + `-json.log","State":{"Running":true},"Config":{"Image":"docker.io/library/nginx:1.27"},` +
			`"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}],"81/tcp":[{"HostIp":"127.0.0.1","HostPort":"81"}]}}}`
	}
	for _, c := range []struct {
		name string
		want []string
	}{
		{"web", []string{
			"# The container web, and those that come after it:",
			"logpath = /var/lib/docker/containers/*/*-json.log", "port = 8080",
		}},
		{`we\nb`, []string{"logpath = /var/lib/docker/containers/*/*-json.log", "port = 8080"}},
	} {
		m := tree(t, map[string]string{folder + "config.v2.json": config(c.name), folder + number + "-json.log": "{}\n"})
		s, err := Look(m, "", someLibrary, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f := found(s, "nginx-http-auth")
		if f == nil || !f.Propose || !slices.Equal(f.Options, c.want) {
			t.Fatalf("it finds %+v; trouble: %v", f, s.Trouble)
		}
		p := Plan{New: true, Jails: []string{"nginx-http-auth"}, Options: map[string][]string{"nginx-http-auth": f.Options}}
		p.Fill(time.Now())
		if want := "\n[nginx-http-auth]\nenabled = true\n" + strings.Join(c.want, "\n") + "\n"; !strings.HasSuffix(p.Text, want) {
			t.Errorf("the file is\n%s\nwant at its end\n%s", p.Text, want)
		}
	}
}

// Podman's containers write to a file of theirs, or to the journal, which is told: what else the journal's lines would need
// is not known.
func TestAServiceInAContainerOfPodmans(t *testing.T) {
	number := strings.Repeat("0f", 32)
	folder := "/var/lib/containers/storage/overlay-containers/"
	files := map[string]string{
		folder + "containers.json": `[{"id":"` + number + `","names":["web"],"metadata":"{\"image-name\":\"docker.io/library/nginx:1.27\"}"}]`,
		"/run/containers/storage/overlay-containers/" + number + "/userdata/pidfile": "31",
		"/proc/31/status": "Name:\tnginx\nPPid:\t1\nUid:\t0\t0\t0\t0\n",
	}
	s, err := Look(tree(t, files), "", someLibrary, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Join(s.Trouble, "\n")
	if f := found(s, "nginx-http-auth"); f.Propose || !strings.Contains(told, "container web: ") || !strings.Contains(told, "journalmatch = CONTAINER_NAME=web") {
		t.Errorf("without a file it finds %+v and says %q", f, told)
	}
	files[folder+number+"/userdata/ctr.log"] = "2026-11-22T03:36:52.275787372+00:00 stdout F hello\n"
	if s, err = Look(tree(t, files), "", someLibrary, time.Now()); err != nil {
		t.Fatal(err)
	}
	want := []string{"# The container web, and those that come after it:", "logpath = " + folder + "*/userdata/ctr.log"}
	if f := found(s, "nginx-http-auth"); !f.Propose || !slices.Equal(f.Options, want) || len(s.Trouble) > 0 {
		t.Errorf("with a file it finds %+v and says %q", f, s.Trouble)
	}
}

// Labels say what the image's name does not: they are data, and what they say wrong is told.
func TestAContainersLabels(t *testing.T) {
	number := strings.Repeat("0f", 32)
	folder := "/var/lib/docker/containers/" + number + "/"
	for _, c := range []struct {
		name, labels string
		host         bool     // a log of the host's own is there
		jails        []string // that read the container's log
		port         string
		trouble      string
	}{
		{name: "nothing", labels: `{}`},
		{name: "a jail", labels: `{"bantam.jail":"nginx-http-auth"}`, jails: []string{"nginx-http-auth"}, port: "8080"},
		{name: "two jails at ports of their own", labels: `{"bantam.jail":"nginx-http-auth, nginx-botsearch","bantam.jail.port":"80, 8000:8010"}`, jails: []string{"nginx-http-auth", "nginx-botsearch"}, port: "80,8000:8010"},
		{name: "no such jail", labels: `{"bantam.jail":"x]\n[y"}`, trouble: `container web: its label bantam.jail names "x]\n[y", and there is no such jail`},
		{name: "no ports", labels: `{"bantam.jail":"nginx-http-auth","bantam.jail.port":"1\naction = x"}`, jails: []string{"nginx-http-auth"}, port: "8080", trouble: `names no ports such as 80,443`},
		{name: "a log of its own", labels: `{"bantam.jail":"nginx-http-auth"}`, host: true, trouble: "names jail nginx-http-auth, which reads /var/log/nginx/error.log already"},
		{name: "Compose's name of the service", labels: `{"com.docker.compose.service":"nginx"}`, jails: []string{"nginx-http-auth", "nginx-botsearch"}, port: "8080"},
		{name: "another service of Compose", labels: `{"com.docker.compose.service":"nginx-exporter"}`},
		{name: "the image's title", labels: `{"org.opencontainers.image.title":"Nginx"}`, jails: []string{"nginx-http-auth"}, port: "8080"},
		{name: "the image's source", labels: `{"org.opencontainers.image.source":"https://example.org/nginx/docker"}`, jails: []string{"nginx-http-auth"}, port: "8080"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{
				folder + number + "-json.log": "{}\n",
				folder + "config.v2.json": `{"Name":"/web","LogPath":"` + folder + number + `-json.log","State":{"Running":true},"Config":{"Image":"registry.example/team/a:1","Labels":` + c.labels +
					`},"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}}}`,
			}
			if c.host {
				files["/var/log/nginx/error.log"] = "2026/03/02 10:15:04 [error] 1#1: x\n"
			}
			s, err := Look(tree(t, files), "", someLibrary, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.Trouble, "\n"); c.trouble == "" && got != "" || !strings.Contains(got, c.trouble) {
				t.Errorf("trouble: %q, want %q", got, c.trouble)
			}
			for i := range s.Jails {
				f := &s.Jails[i]
				named := slices.Contains(c.jails, f.Jail) || c.jails != nil && !strings.Contains(c.labels, jailLabel)
				if f.Propose && !named && slices.Contains(f.Logs, folder+number+"-json.log") {
					t.Errorf("%s reads the container's log", f.Jail)
				}
			}
			for _, name := range c.jails {
				f := found(s, name)
				if f == nil || !f.Propose || !slices.Contains(f.Options, "port = "+c.port) || !slices.Contains(f.Why, "container web") {
					t.Errorf("%s: %+v", name, f)
				}
			}
		})
	}
}

func TestALogThatNobodyWritesHidesTheJournal(t *testing.T) {
	m := tree(t, runs(map[string]string{"/var/log/auth.log": "x\n"}, "ssh.service"))
	then := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(m.Root+"/var/log/auth.log", then, then); err != nil {
		t.Fatal(err)
	}
	s, err := Look(m, "", someLibrary, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := found(s, "sshd")
	if !f.Propose || f.Journal || len(f.Logs) > 0 || !strings.HasPrefix(f.Note, "/var/log/auth.log is there, and nobody has written to it for a week.") {
		t.Errorf("it finds %+v", f)
	}
	// Without the file it is the journal.
	if err := os.Remove(m.Root + "/var/log/auth.log"); err != nil {
		t.Fatal(err)
	}
	if s, err = Look(m, "", someLibrary, time.Now()); err != nil {
		t.Fatal(err)
	}
	if f := found(s, "sshd"); !f.Journal || f.Note != "" {
		t.Errorf("without the file it finds %+v", f)
	}
}

func TestOddDatesAreSaid(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name, stamp string // of the last line
		want        string
	}{
		{"a log of this zone", now.Format(time.Stamp), ""},
		{"one of a zone three hours west", now.Add(-3 * time.Hour).Format(time.Stamp), "dated 3h0m0s before it was written"},
		{"one of a zone half an hour east", now.Add(30 * time.Minute).Format(time.Stamp), "dated 30m0s after it was written"},
		{"one whose last line is simply older", now.Add(-100 * time.Minute).Add(-5 * time.Minute).Add(-2 * time.Minute).Format(time.Stamp), ""},
		{"a zone that is named", now.Add(-3 * time.Hour).UTC().Format(time.RFC3339), ""},
		{"dates in another language", "21. Grudzień 10:00:00", "none of its last 1 lines bears a date that is understood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := c.stamp + " gate sshd[812]: Failed password for root from 192.0.2.7 port 4022 ssh2\n"
			m := tree(t, map[string]string{"/var/log/auth.log": line})
			if err := os.Chtimes(m.Root+"/var/log/auth.log", now, now); err != nil {
				t.Fatal(err)
			}
			s, err := Look(m, "", someLibrary, now)
			if err != nil {
				t.Fatal(err)
			}
			if note := found(s, "sshd").Note; (note == "") != (c.want == "") || !strings.Contains(note, c.want) {
				t.Errorf("it says %q, want %q", note, c.want)
			}
		})
	}
}

func TestAnOldLogIsNoSignOfAService(t *testing.T) {
	m := tree(t, map[string]string{"/var/log/vsftpd.log": "x\n"})
	then := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(m.Root+"/var/log/vsftpd.log", then, then); err != nil {
		t.Fatal(err)
	}
	s, err := Look(m, "", someLibrary, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if found(s, "vsftpd") != nil {
		t.Error("a log of last month counts")
	}
}

func TestWhoIsNeverBanned(t *testing.T) {
	m := tree(t, map[string]string{
		"/etc/resolv.conf": "nameserver 198.51.100.53\nnameserver 127.0.0.53\n",
		"/proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
			"eth0\t00000000\t016433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
	})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte("[DEFAULT]\nignoreip = 198.51.100.0/28 203.0.113.4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Look(m, dir, someLibrary, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Never{}
	for _, n := range s.Never {
		got[n.String()] = n
	}
	if n, ok := got["198.51.100.1"]; !ok || n.Why != "gateway" || !n.Covered {
		t.Errorf("the gateway is %v; there is %v; trouble: %v", n, s.Never, s.Trouble)
	}
	if n, ok := got["198.51.100.53"]; !ok || n.Why != "name server" || n.Covered {
		t.Errorf("the name server is %v; there is %v", n, s.Never)
	}
	if _, ok := got["127.0.0.53"]; ok {
		t.Error("a loopback address is told")
	}
}

func TestAPlanIsFewCommentedLines(t *testing.T) {
	never := func(text, why string) Never { return Never{Prefix: netip.MustParsePrefix(text), Why: why} }
	p := Plan{
		Dir: t.TempDir(), New: true, Jails: []string{"sshd", "nginx-http-auth"}, Observe: true, Tell: "mta",
		Never: []Never{
			never("192.0.2.10/32", "your session"),
			never("2001:db8::/64", "you said so"),
			{Prefix: netip.MustParsePrefix("192.0.2.3/32"), Own: true},
			{Prefix: netip.MustParsePrefix("192.0.2.4/32"), Covered: true},
		},
	}
	p.Fill(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC))
	const want = `# Written by bantam setup, 2026-11-21. It is yours now: change it as you
# like; setup never overwrites it. bantam check finds mistakes, bantam reload
# puts it to work.

[DEFAULT]

# Nobody is banned yet: bantam enforce takes these lines out.
observe = true

# Never banned, beside this machine itself:
#   192.0.2.10: your session
#   2001:db8::/64: you said so
ignoreip = 192.0.2.10
           2001:db8::/64

# Ban, and tell:
action = %(action_)s
         mta

[sshd]
enabled = true

[nginx-http-auth]
enabled = true
`
	if p.Text != want || p.File != MainFile {
		t.Errorf("%s is\n%s\nwant\n%s", p.File, p.Text, want)
	}
	// Beside a human's file it has a name of its own, and nothing to add is no file.
	p.New, p.Observe = false, false
	if p.Fill(time.Now()); p.File != "jail.d/setup.local" {
		t.Errorf("the file is %s", p.File)
	}
	if err := Write(filepath.Join(p.Dir, p.File), p.Text, 0o644); err != nil {
		t.Fatal(err)
	}
	if p.Fill(time.Now()); p.File != "jail.d/setup-2.local" {
		t.Errorf("the second file is %s", p.File)
	}
	p.Jails, p.Never, p.Tell = nil, p.Never[2:], ""
	if p.Fill(time.Now()); p.Text != "" {
		t.Errorf("with nothing to add the file is\n%s", p.Text)
	}
}

func TestWriteMakesAFileAndReplacesNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/b/jail.local")
	if err := Write(path, "one\n", 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := Write(path, "two\n", 0o644); !errors.Is(err, ErrExists) {
		t.Errorf("the second time: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "one\n" {
		t.Errorf("the file is %q", text)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTakeObserve(t *testing.T) {
	const note = observeNote + "\n"
	for _, c := range []struct {
		name, text string
		line       int
		mine       bool
		want       string
	}{
		{"the line, its note and an empty line go", Header + "\n[DEFAULT]\n\n" + note + "observe = true\n\n[sshd]\n", 5, true, Header + "\n[DEFAULT]\n\n[sshd]\n"},
		{"a comment of somebody's stays", Header + "\n[DEFAULT]\n# mine\nobserve = true\n", 4, true, Header + "\n[DEFAULT]\n# mine\n"},
		{"the file of somebody else stays", "[DEFAULT]\n" + note + "observe = true\n", 3, false, ""},
		{"a line that somebody changed stays", Header + "\n[DEFAULT]\nobserve = yes\n", 3, false, ""},
		{"a line that is not there", Header + "\n", 99, false, ""},
		{"line 0, of nowhere", Header + "\nobserve = true\n", 0, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "jail.local")
			if err := os.WriteFile(path, []byte(c.text), 0o640); err != nil {
				t.Fatal(err)
			}
			mine, err := TakeObserve(path, c.line)
			if err != nil || mine != c.mine {
				t.Fatalf("it says %t, %v", mine, err)
			}
			want := c.want
			if !mine {
				want = c.text
			}
			text, err := os.ReadFile(path)
			if err != nil || string(text) != want {
				t.Errorf("the file is %q, %v; want %q", text, err, want)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("its mode is %v, %v", info.Mode(), err)
			}
		})
	}
}

// Whatever stands in a file, taking a line out takes at most three lines, and never of a file that is not ours.
func FuzzTakeObserve(f *testing.F) {
	f.Add(Header+"\n"+observeNote+"\nobserve = true\n\n", 3)
	f.Add("observe = true", 1)
	f.Fuzz(func(t *testing.T, text string, line int) {
		if len(text) > 1<<16 {
			t.Skip()
		}
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		mine, err := TakeObserve(path, line)
		if err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		gone := strings.Count(text, "\n") - strings.Count(string(after), "\n")
		if mine != (string(after) != text) || mine && !strings.HasPrefix(text, Header) || gone < 0 || gone > 3 {
			t.Errorf("mine %t, %d lines are gone: %q became %q", mine, gone, text, after)
		}
	})
}

func TestStageLooksLikeTheFolderAndChangesNothing(t *testing.T) {
	m := tree(t, map[string]string{"jail.local": "a", "jail.d/one.local": "b", "filter.d/x.conf": "c"})
	staged, err := Stage(m.Root, "jail.d/new.local", "new")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"jail.local": "a", "jail.d/one.local": "b", "filter.d/x.conf": "c", "jail.d/new.local": "new"} {
		if text, err := os.ReadFile(filepath.Join(staged, name)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v", name, text, err)
		}
	}
	if err := os.RemoveAll(staged); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.Root + "/jail.d/one.local"); err != nil {
		t.Errorf("removing it has removed more: %v", err)
	}
	if _, err := os.Stat(m.Root + "/jail.d/new.local"); err == nil {
		t.Error("the new file is in the folder")
	}
	if _, err := Stage(m.Root, "jail.d/one.local", "x"); err == nil {
		t.Error("a file that is there is replaced")
	}
	if text, _ := os.ReadFile(m.Root + "/jail.d/one.local"); string(text) != "b" {
		t.Errorf("it holds %q", text)
	}
}

func TestLocalChangesAreThoseOfLocalFiles(t *testing.T) {
	m := tree(t, map[string]string{
		"jail.conf":             "[DEFAULT]\nbantime = 10m\n",
		"jail.local":            "# bantime = 2h\n[sshd]\nenabled = true\nport = 22\n  2222 = x\n",
		"filter.d/sshd.local":   "[Definition]\nmode = aggressive\n",
		"action.d/nothing.here": "a = b\n",
	})
	n, files := LocalChanges(m.Root)
	slices.Sort(files)
	if n != 3 || !slices.Equal(files, []string{"filter.d/sshd.local", "jail.local"}) {
		t.Errorf("%d in %v", n, files)
	}
}

// Every jail that the tables name is one of the library.
func TestServicesAreOfTheLibrary(t *testing.T) {
	all, err := everyJail("", library.FS)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, j := range all.Jails {
		names[j.Name] = true
		if j.Err != nil {
			t.Errorf("%s: %v", j.Name, j.Err)
		}
	}
	for _, s := range services {
		for _, jail := range s.jails {
			if !names[jail] || byHand[jail] {
				t.Errorf("%s names the jail %s, which the library does not have, or nobody gets unasked", s.title, jail)
			}
		}
	}
	for jail := range byHand {
		if !names[jail] {
			t.Errorf("the library has no jail %s", jail)
		}
	}
}

// A machine with many logs is looked at in moments.
func BenchmarkLook(b *testing.B) {
	root := b.TempDir()
	if err := os.MkdirAll(root+"/var/log/apache2", 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range 100 {
		if err := os.WriteFile(fmt.Sprintf("%s/var/log/apache2/%d-access.log", root, i), []byte(combinedLine), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Look(machine.Machine{Root: root}, "", library.FS, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
