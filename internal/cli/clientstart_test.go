package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/control"
)

// lone is a folder of its own with one jail that only observes.
func lone(t *testing.T, jails string) place {
	t.Helper()
	dir := t.TempDir()
	p := place{dir, filepath.Join(dir, "conf")}
	for name, text := range map[string]string{
		"conf/jail.conf":     "[DEFAULT]\nobserve = true\naction =\n" + jails,
		"conf/fail2ban.conf": peerDaemon, "a.log": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(strings.ReplaceAll(text, "$DIR", dir), "[Definition]\n", "[DEFAULT]\n[Definition]\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

const oneJail = "[j1]\nenabled = true\nfailregex = ^bad <HOST>$\nlogpath = $DIR/a.log\nbantime = 1h\n"

// say runs our client on a place.
func (p place) say(t *testing.T, words ...string) said {
	t.Helper()
	return normal(ourClient(t)(append([]string{"-c", p.conf}, words...)...), p)
}

// A start in the background answers when the server is ready; stop when it is gone.
func TestStartAndStopInTheBackground(t *testing.T) {
	p := lone(t, oneJail)
	t.Cleanup(func() { p.say(t, "stop") })
	for _, step := range []struct {
		words []string
		want  said
	}{
		{[]string{"start"}, said{Out: "Server ready\n"}},
		{[]string{"start"}, said{Err: "fail2ban                [PID]: ERROR   Server already running\n", Code: 255}},
		{[]string{"ping"}, said{Out: "Server replied: pong\n"}},
		{[]string{"set", "j1", "banip", "203.0.113.9"}, said{Out: "1\n"}},
		{[]string{"restart"}, said{Out: "Shutdown successful\nServer ready\n"}},
		{[]string{"get", "j1", "banned"}, said{Out: "['203.0.113.9']\n"}},
		{[]string{"stop"}, said{Out: "Shutdown successful\n"}},
		{[]string{"ping"}, said{Err: "fail2ban                [PID]: ERROR   Failed to access socket path: $DIR/f2b.sock. Is fail2ban running?\n", Code: 255}},
	} {
		if got := p.say(t, step.words...); got != step.want {
			t.Fatalf("%v: got %s, want %s", step.words, got, step.want)
		}
	}
}

// TestTrapS28 and S29 of the list: what cannot start is not said to be ready, and nothing
// stays behind.
func TestTrapS28_AStartThatFailsIsNotReady(t *testing.T) {
	p := lone(t, "[j1]\nenabled = true\nfailregex = ^(bad <HOST>$\nlogpath = $DIR/a.log\n")
	got := p.say(t, "start")
	if got.Code != 255 || strings.Contains(got.Out, serverReady) || !strings.Contains(got.Err, "failregex 1") {
		t.Errorf("%s", got)
	}
	if got := p.say(t, "ping"); got.Code != 255 {
		t.Errorf("something answers: %s", got)
	}
}

func TestTrapS27_TheTestOfTheConfigurationCompilesExpressions(t *testing.T) {
	for jails, want := range map[string]said{
		oneJail: {Out: "OK: configuration test is successful\n"},
		"[j1]\nenabled = true\nfailregex = ^(bad <HOST>$\nlogpath = $DIR/a.log\n": {Out: "ERROR: test configuration failed\n", Code: 255},
	} {
		got := lone(t, jails).say(t, "-t")
		got.Err = ""
		if got != want {
			t.Errorf("%s: %s, want %s", jails, got, want)
		}
	}
}

// A live server is in the way; a socket nobody answers on is not.
func TestAStartBesideALiveServerIsRefused(t *testing.T) {
	p := lone(t, oneJail)
	path := filepath.Join(p.dir, "f2b.sock")
	live, err := control.ListenFail2Ban(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- live.Run(ctx, func(_ context.Context, _ control.Peer, c control.List) (any, error) {
			if c[0] == "version" {
				return "1.0.2", nil
			}
			return nil, control.Invalid("Invalid command")
		})
	}()
	got := p.say(t, "-f", "start")
	if got.Code != 255 || !strings.Contains(got.Err, "Fail2Ban 1.0.2") || !strings.Contains(got.Err, "answers on $DIR/f2b.sock") || !strings.Contains(got.Err, "hint: stop it first") {
		t.Errorf("%s", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.say(t, "-f", "start"); got.Code != 255 || !strings.Contains(got.Err, "it is not a socket") {
		t.Errorf("a file in the way: %s", got)
	}
}

func TestOptionsOfTheClient(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	p := lone(t, oneJail)
	for line, want := range map[string]said{
		"-V":                     {Out: "1.1.2\n"},
		"--version":              {Out: "Fail2Ban v1.1.2\n"},
		"--vers":                 {Out: "Fail2Ban v1.1.2\n"},
		"--str2sec 1d12h":        {Out: "129600\n"},
		"--str2sec 1h30m":        {Out: "5400\n"},
		"--str2sec 1mo":          {Out: "2629800.0\n"},
		"--str2sec=1y":           {Out: "31557600.0\n"},
		"--str2sec 1.5h":         {Out: "5400.0\n"},
		"--str2sec -1":           {Out: "-1\n"},
		"--str2sec 1y-6mo":       {Out: "15778800.0\n"},
		"--str2sec abc":          {Out: "ERROR: name 'abc' is not defined\n", Code: 255},
		"--loglevel BOGUS ping":  {Out: "ERROR: Invalid log level 'BOGUS'\n", Code: 255},
		"-c $DIR/nowhere ping":   {Out: "ERROR: Base configuration directory $DIR/nowhere does not exist \n", Code: 255},
		"-s $DIR/nope ping":      {Err: "fail2ban                [PID]: ERROR   Failed to access socket path: $DIR/nope. Is fail2ban running?\n", Code: 255},
		"-s $DIR/a.log status":   {Err: "fail2ban                [PID]: ERROR   [[Errno 111] Connection refused] Unable to contact server. Is it running?\n", Code: 255},
		"-vs $DIR/a.log ping":    {Err: "fail2ban                [PID]: ERROR   [Errno 111] Connection refused\n", Code: 255},
		"-qqqs $DIR/nope reload": {Err: "fail2ban                [PID]: ERROR   Could not find server\n", Code: 255},
	} {
		words, err := shellish(strings.ReplaceAll(line, "$DIR", p.dir))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.say(t, words...); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
	for _, line := range []string{"--bogus", "-Z", "--conf", "--dump-pretty=x"} {
		got := ourClient(t)(line)
		if got.Code != 255 || !strings.HasPrefix(got.Out, "Usage: fail2ban-client ") || !strings.HasSuffix(got.Err, "Init of command line failed\n") {
			t.Errorf("%s: %q", line, got)
		}
	}
	if got := ourClient(t)(); got.Code != 255 || !strings.HasPrefix(got.Out, "Usage: ") {
		t.Errorf("no command: %s", got)
	}
}

// Shell completions of the original read the help by its columns.
func TestHelpStandsInTheColumnsThatCompletionsRead(t *testing.T) {
	got := ourClient(t)("-h")
	if got.Code != 0 {
		t.Fatalf("%s", got)
	}
	_, commands, _ := strings.Cut(got.Out, "\nCommand:\n")
	for line := range strings.Lines(commands) {
		line = strings.TrimSuffix(line, "\n")
		text := strings.TrimLeft(line, " ")
		switch indent := len(line) - len(text); indent {
		case helpColumn:
		case 4:
			if len(line) > helpColumn && line[helpColumn-1] != ' ' && strings.Contains(text, "  ") {
				t.Errorf("the description of %q does not begin at its column", line)
			}
		default:
			t.Errorf("%q begins at column %d", line, indent)
		}
	}
}

// The new forms are tested against the texts of the specification.
func TestFormsThatThePackageDoesNotHave(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	p := lone(t, oneJail+strings.ReplaceAll(oneJail, "[j1]", "[a-jail-of-name]"))
	ourServer(t, p)
	for line, want := range map[string]string{
		"status --all short": "Status\n|- Number of jail:\t2\n|- Jail list:\ta-jail-of-name, j1\n`- Status for the jails:\n" +
			"   |- Jail: a-jail-of-name\n   |  |- Filter\n   |  |  |- Currently failed:\t0\n   |  |  |- Total failed:\t0\n   |  |  `- File list:\t$DIR/a.log\n" +
			"   |  `- Actions\n   |     |- Currently banned:\t0\n   |     `- Total banned:\t0\n" +
			"   `- Jail: j1\n      |- Filter\n      |  |- Currently failed:\t0\n      |  |- Total failed:\t0\n      |  `- File list:\t$DIR/a.log\n" +
			"      `- Actions\n         |- Currently banned:\t0\n         `- Total banned:\t0\n",
		"stats": "" +
			"                ║           ║ Filter    ║ Actions  \n" +
			" Jail           ║ Backend   ╟───────────╫───────────\n" +
			"                ║           ║ cur │ tot ║ cur │ tot\n" +
			"════════════════╬═══════════╬═══════════╬═══════════\n" +
			" a-jail-of-name ║ pyinotify ║   0 │   0 ║   0 │   0\n" +
			" j1             ║ pyinotify ║   0 │   0 ║   0 │   0\n" +
			"════════════════╩═══════════╩═══════════╩═══════════\n",
		"statistic":       "{'a-jail-of-name': ['pyinotify', (0, 0), (0, 0)], 'j1': ['pyinotify', (0, 0), (0, 0)]}\n",
		"status j1 stats": "['pyinotify', (0, 0), (0, 0)]\n",
	} {
		if got := p.say(t, strings.Fields(line)...); got != (said{Out: want}) {
			t.Errorf("%s:\n%s\nwant\n%s", line, show(got), want)
		}
	}
	t.Setenv("LC_ALL", "C")
	if got := p.say(t, "stats"); strings.ContainsAny(got.Out, "║╬─") || !strings.Contains(got.Out, "\n----------------x-----------x-----------x-----------\n") {
		t.Errorf("without UTF-8:\n%s", got.Out)
	}
	if got := p.say(t, "stat"); got.Code != 255 || got.Out != "Invalid command\n" {
		t.Errorf("stat: %s", got)
	}
}

// A change at run time acts at once; a wrong one changes nothing.
func TestChangesActAtOnce(t *testing.T) {
	p := lone(t, oneJail)
	ourServer(t, p)
	did := func(line, want string) {
		t.Helper()
		words, err := shellish(strings.ReplaceAll(line, "$DIR", p.dir))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.say(t, words...); !strings.Contains(got.Out, want) {
			t.Errorf("%s: %s", line, show(got))
		}
	}
	awaitSaid := func(want string, words ...string) {
		t.Helper()
		deadline := time.After(patience)
		for tick := time.Tick(5 * time.Millisecond); ; {
			got := p.say(t, words...)
			if strings.Contains(got.Out, want) {
				return
			}
			select {
			case <-tick:
			case <-deadline:
				t.Fatalf("%v: still %q", words, got)
			}
		}
	}
	write := func(text string) {
		logLine(t, filepath.Join(p.dir, "a.log"), time.Now().Format(time.DateTime)+" "+text)
	}
	did(`set j1 addfailregex '^\s*worse (<HOST>'`, "Unable to compile")
	did(`set j1 addfailregex '^\s*worse <HOST>$'`, "[1]")
	did("set j1 maxretry 1", "1")
	write("worse 203.0.113.7")
	awaitSaid("203.0.113.7", "get", "j1", "banned")
	did("set j1 addignoreip 203.0.113.0/24", "203.0.113.0/24")
	awaitSaid("[]", "get", "j1", "banned") // what is ignored now is banned no more
	did("set j1 idle on", "True")
	write("worse 198.51.100.1")
	awaitSaid("failed:\t0", "status", "j1")
	did("set j1 bantime -1", "-1")
	did("set j1 idle off", "False")
	awaitSaid("198.51.100.1 \tDATE + -1 = ", "get", "j1", "banip", "--with-time")
	did("set j1 addaction evil", "commands are not set through the socket")
	did("reload", "OK")
	did("get j1 bantime", "3600")
}
