package action

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/peertest"
)

// pythonAction is an action of this class, which has OUT, the file that a test reads.
func pythonAction(t *testing.T, class string, params map[string]string) (c Config, out func() string) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		peertest.Without(t, "python3 is not installed")
	}
	dir := t.TempDir()
	file, path := filepath.Join(dir, "own.py"), filepath.Join(dir, "out")
	head := "OUT = " + `"` + path + `"` + "\ndef say(*words):\n    open(OUT, 'a').write(' '.join(str(w) for w in words) + chr(10))\n"
	if err := os.WriteFile(file, []byte(head+class), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Kind: Python, Title: "own", Python: file, Params: params}, func() string {
		text, _ := os.ReadFile(path) // none is nothing
		return string(text)
	}
}

const goodClass = `
from fail2ban.server.action import ActionBase

class Action(ActionBase):
    def __init__(self, jail, name, host="none", **more):
        super().__init__(jail, name)
        self.host = host
        say("made", jail.name, name, host, jail.actions.getBanTime())
    def start(self):
        say("start")
        print("noise on standard output")
    def ban(self, info):
        say("ban", info["ip"], info["failures"] + 1, type(info["time"]).__name__, info["restored"], info["F-USER"], repr(info["matches"]), info["family"])
        if info["failures"] == 99:
            raise ValueError("too many")
    def unban(self, info):
        say("unban", info["ip"], "F-USER" in info, sorted(k for k in info if k.startswith("ip")))
    def stop(self):
        say("stop")
`

func TestAPythonActionIsRun(t *testing.T) {
	t.Parallel()
	c, out := pythonAction(t, goodClass, map[string]string{"host": "h:25", "name": "sshd"})
	b := newBench(t)
	b.world.BanTime = func(string) time.Duration { return 10 * time.Minute }
	b.configure(c)
	lines := func(b *bantam.Ban) { b.User, b.Lines = "ro\"ot", []string{"a 'b'", "$(c)\x80"} }
	b.must(about(bantam.Start, "192.0.2.1", lines))
	b.must(about(bantam.End, "192.0.2.1"))
	b.must(about(bantam.Start, "2001:db8::1", lines))
	b.stop()
	want := `made sshd own h:25 600
start
ban 192.0.2.1 6 float 0 ro"ot "a 'b'\n$(c)�" inet4
unban 192.0.2.1 False ['ip', 'ip-host', 'ip-rev', 'ipfailures', 'ipjailfailures', 'ipjailmatches', 'ipmatches']
ban 2001:db8::1 6 float 0 ro"ot "a 'b'\n$(c)�" inet6
unban 2001:db8::1 False ['ip', 'ip-host', 'ip-rev', 'ipfailures', 'ipjailfailures', 'ipjailmatches', 'ipmatches']
stop
`
	if out() != want {
		t.Errorf("got\n%s\nwant\n%s\nlog:\n%s", out(), want, b.logged())
	}
	if !strings.Contains(b.logged(), "noise on standard output") {
		t.Error("what it prints is not in the log")
	}
}

func TestAnExceptionOfAPythonActionIsAFailedBan(t *testing.T) {
	t.Parallel()
	c, out := pythonAction(t, goodClass, nil)
	b := newBench(t, c)
	err := b.do(about(bantam.Start, "192.0.2.1", func(b *bantam.Ban) { b.Failures = 99 }))
	if err == nil || !strings.Contains(err.Error(), "ValueError: too many") {
		t.Errorf("the error is %v", err)
	}
	b.must(about(bantam.Start, "192.0.2.2"))
	if n := strings.Count(out(), "made"); n != 1 {
		t.Errorf("it was begun %d times:\n%s", n, out())
	}
}

func TestAPythonActionThatDiesOrHangsIsBegunAnew(t *testing.T) {
	t.Parallel()
	c, out := pythonAction(t, `
import os, signal
class Action:
    norestored = True
    def __init__(self, jail, name): say("made")
    def start(self): pass
    def stop(self): say("stop")
    def ban(self, info):
        say("ban", info["ip"])
        if info["ip"].endswith(".1"): os._exit(3)
        if info["ip"].endswith(".2"): signal.pause()
    reban = ban
    def unban(self, info): pass
    def flush(self): say("flush")
`, nil)
	c.Timeout = time.Second
	b := newBench(t, c)
	if err := b.do(about(bantam.Start, "192.0.2.1")); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("the error is %v", err)
	}
	b.must(about(bantam.End, "192.0.2.1"))
	if err := b.do(about(bantam.Start, "192.0.2.2")); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("the error is %v", err)
	}
	b.must(about(bantam.End, "192.0.2.2"))
	b.must(about(bantam.Start, "192.0.2.3"))
	b.must(about(bantam.Restore, "192.0.2.4"))
	b.stop()
	if got := out(); strings.Count(got, "made") != 3 || !strings.HasSuffix(got, "ban 192.0.2.3\nflush\nstop\n") || strings.Contains(got, ".4") {
		t.Errorf("it says\n%s", got)
	}
}

func TestWrongPythonActionsAreTold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, class, check, start string }{
		{"no Python", "class Action(:", "invalid syntax", "invalid syntax"},
		{"no class", "x = 1", "", "no class Action"},
		{"a method is missing", "class Action:\n    def start(self): pass\n", "", "no method stop"},
		{"it does not come up", "import no_such_module_anywhere", "", "ModuleNotFoundError"},
		{"a parameter it does not know", goodClass + "\n    def __init__(self, jail, name): pass\n", "", "unexpected keyword"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := pythonAction(t, tt.class, map[string]string{"strange": "x"})
			switch err := Check(t.Context(), &c); {
			case tt.check == "" && err != nil, tt.check != "" && (err == nil || !strings.Contains(err.Error(), tt.check)):
				t.Errorf("the check says %v, want %q", err, tt.check)
			}
			b := newBench(t, c)
			b.until("it is told", func() bool { return strings.Contains(b.actions.Status()[0].Err, tt.start) })
		})
	}
}

func TestWithoutPythonTheJailSaysSo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := Check(t.Context(), &Config{Kind: Python, Python: "/x.py"}); err == nil || !strings.Contains(err.Error(), "python3 is not installed") {
		t.Errorf("the check says %v", err)
	}
}

// The package's own Python action, with nothing of Fail2Ban installed, says why it cannot work.
func TestTrapS49_TheMailActionInPythonWantsAPort(t *testing.T) {
	t.Parallel()
	c, _ := pythonAction(t, "", map[string]string{"host": "127.0.0.1"})
	c.Python = filepath.Join(peertest.Tree(t), "etc/fail2ban/action.d/smtp.py")
	b := newBench(t, c)
	b.until("it is told", func() bool { return b.actions.Status()[0].Err != "" })
	if st := b.actions.Status()[0]; !strings.Contains(st.Err, "start: ") || strings.Contains(st.Err, "ModuleNotFound") {
		t.Errorf("the status is %+v", st)
	}
}
