package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/setup"
	"bantam/library"
)

// evil is what somebody may have called himself: it clears a terminal, sets its title and clipboard, reverses what
// follows, begins a line, and is no text at all.
const evil = "\x1b[2J\x1b]0;t\a\x1b]52;c;eA==\x1b\\\u009b31m\u202e\u2066\u200b\r\nbantam: all is well\n\x7f\x00\xffend"

// A filler fills values of replies with what attackers write.
type filler struct {
	n     int
	words map[string][]string // by name of a field: words that mean something
}

func (f *filler) fill(v reflect.Value, field string, depth int) {
	f.n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Now().Add(time.Duration(f.n%5-2) * time.Hour)
		return
	case *bantam.ID:
		if *x = bantam.TextID(evil); f.n%2 == 0 {
			*x = address("2001:db8::/48")
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
		if words := f.words[field]; words != nil {
			v.SetString(words[f.n%len(words)])
		}
	case reflect.Bool:
		v.SetBool(f.n%3 == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(f.n%7) + 1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(f.n%7) + 1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(f.n%7) + 60)
	case reflect.Pointer:
		if depth > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), field, depth-1)
		}
	case reflect.Slice:
		if depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), 3, 3))
			for i := range v.Len() {
				f.fill(v.Index(i), field, depth-1)
			}
		}
	case reflect.Map:
		if depth > 0 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key, "", depth-1)
			f.fill(value, field, depth-1)
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				f.fill(v.Field(i), v.Type().Field(i).Name, depth)
			}
		}
	}
}

// answers has a server answer a request with what attackers write.
func answers[Request, Reply any](s *control.Server, f *filler, e control.Endpoint[Request, Reply]) {
	control.Handle(s, e, func(context.Context, Request) (reply Reply, err error) {
		f.fill(reflect.ValueOf(&reply).Elem(), "", 6)
		return reply, nil
	})
}

// hostileDaemon answers everything, and all of its texts are an attacker's.
func hostileDaemon(t *testing.T, words map[string][]string) (socket string, f *filler) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	s, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	f = &filler{words: words}
	answers(s, f, control.Ping)
	answers(s, f, control.GetStatus)
	answers(s, f, control.GetBans)
	answers(s, f, control.GetHistory)
	answers(s, f, control.GetFailing)
	answers(s, f, control.Ban)
	answers(s, f, control.Unban)
	answers(s, f, control.Why)
	answers(s, f, control.Judge)
	answers(s, f, control.Import)
	answers(s, f, control.GetAllow)
	answers(s, f, control.Allow)
	answers(s, f, control.Disallow)
	answers(s, f, control.Reload)
	answers(s, f, control.Enforce)
	answers(s, f, control.GetChannels)
	answers(s, f, control.GetReports)
	answers(s, f, control.PreviewReport)
	answers(s, f, control.SendReport)
	control.Handle(s, control.Stop, func(context.Context, control.StopRequest) (none control.None, err error) {
		return none, control.Refuse(evil, "%s", evil)
	})
	control.HandleStream(s, control.Watch, func(context.Context, control.WatchRequest) (iter.Seq[[]control.Event], error) {
		return func(yield func([]control.Event) bool) {
			events := make([]control.Event, 40)
			for i := range events {
				f.fill(reflect.ValueOf(&events[i]).Elem(), "", 6)
			}
			yield(events)
		}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket, f
}

// harm is the first character of a text that is not for a terminal, "" for none.
func harm(text string) string {
	for i, r := range text {
		if r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar) {
			return fmt.Sprintf("%q in %.200q", r, text[max(0, i-60):])
		}
	}
	if strings.Contains("\n"+text, "\nbantam: all is well") {
		return "a line of the attacker's"
	}
	return ""
}

// Whatever text of an attacker's the daemon has kept, wherever it stands, no command lets it do anything to a
// terminal, as a screen or as JSON.
func TestNoCommandPrintsWhatATerminalObeys(t *testing.T) {
	jails := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(jails, []byte("192.0.2.1\n"+evil+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stages := []string{
		control.StageAside, control.StageDate, control.StagePrefregex, control.StageFailregex, control.StageIgnoreregex, control.StageSession,
		control.StageNobody, control.StageName, control.StageIgnored, control.StageOld, control.StageCounts, control.StageBans, control.StageBanned,
	}
	kinds := []string{
		control.EventFailure, control.EventIgnored, control.EventBan, control.EventProlong, control.EventUnban, control.EventRestore, control.EventHeld,
		control.EventReload, control.EventAside, control.EventLost,
	}
	for name, words := range map[string]map[string][]string{
		"texts where words are meant":  {"Aside": {"\x1b[2J\u202e"}},
		"words where words are meant":  {"Kind": kinds, "Stage": stages, "By": {bantam.ByFailures, bantam.ByOperator}, "State": {"reading", "waiting"}, "Aside": {""}},
		"no jail is set aside":         {"Kind": kinds, "Stage": stages, "By": {bantam.ByFailures}, "Aside": {""}, "Firewall": {""}},
		"countries are as they should": {"Country": {"CN"}, "Stage": stages[3:], "Jail": {"sshd"}, "Aside": {""}},
	} {
		socket, f := hostileDaemon(t, words)
		for _, line := range []string{
			"", "status", "status sshd", "status " + evil, "banned", "banned 192.0.2.1", "history", "why 192.0.2.1", "why " + evil, "why -j sshd -- " + evil,
			"ban 192.0.2.1", "ban 192.0.2.1 --reason " + evil, "unban 192.0.2.1", "unban " + evil, "allow list", "allow add 192.0.2.1", "allow remove 192.0.2.1", "reload", "ping",
			"notify queue", "report list", "report send 192.0.2.1", "import " + jails, "import " + evil, "stop", "watch",
			"enforce --confirm", "doctor -c library", evil, "ban " + evil, "config get " + evil, "config set BanTime " + evil, "--socket=" + evil + " ping",
		} {
			for _, more := range [][]string{nil, {"--json"}} {
				args := []string{"bantam", "--socket", socket}
				for word := range strings.SplitSeq(line, " ") {
					if word != "" {
						args = append(args, strings.ReplaceAll(word, "\x00", ""))
					}
				}
				var stdout, stderr bytes.Buffer
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				code := Main(ctx, append(args, more...), fs.FS(library.FS), &stdout, &stderr)
				cancel()
				if ctx.Err() == context.DeadlineExceeded || stdout.Len()+stderr.Len() == 0 && code != ExitOK {
					t.Errorf("%s: %.40q %q: it says nothing, and ends with %d", name, line, more, code)
				}
				for _, text := range []string{stdout.String(), stderr.String()} {
					if bad := harm(text); bad != "" {
						t.Errorf("%s: bantam %.40q %q: %s", name, line, more, bad)
					}
				}
				if more != nil && line != "watch" && stdout.Len() > 0 && !json.Valid(stdout.Bytes()) {
					t.Errorf("%s: %.40q: no JSON: %.200q", name, line, stdout.String())
				}
			}
		}
		s := &topScreen{app: &app{}, width: 200, height: 60}
		for range 2 {
			var figures topFigures
			f.fill(reflect.ValueOf(&figures).Elem(), "", 6)
			s.take(figures)
		}
		for _, key := range []string{"down", "down", "u", "n", "enter", "esc", "down", "down", "down", "down", "down", "down", "down", "u"} {
			press(s, key)
			if bad := harm(strings.Join(s.lines(), "\n")); bad != "" {
				t.Errorf("%s: top: %s", name, bad)
			}
		}
	}
}

// A list that somebody made to do harm is read to its end, in parts that the daemon takes, and what is told of it is
// bounded.
func TestListsThatMeanHarm(t *testing.T) {
	socket := aDaemon(t)
	var text strings.Builder
	text.WriteString(`{"bans":[{"jail":"` + strings.Repeat("x", 2<<20) + `","id":"192.0.2.1"},{"jail":"sshd","id":"` + strings.Repeat("y", 2<<20) + `"},{"jail":"sshd","id":"192.0.2.2","reason":"` + strings.Repeat("z", 2<<20) + `"}`)
	for n := range 3000 {
		fmt.Fprintf(&text, `,{"jail":"jail %d\u001b[2J","id":"192.0.2.1"}`, n)
	}
	text.WriteString(`,{"jail":"sshd","id":"192.0.2.3","end":"9999-12-31T23:59:59Z"},{"jail":"manual","id":"0.0.0.0/0"}]}`)
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := Main(t.Context(), []string{"bantam", "--socket", socket, "import", file}, library.FS, &stdout, &stderr); code != ExitFailed || stderr.Len() > 0 {
		t.Errorf("it ends with %d: %s", code, stderr.String())
	}
	for _, want := range []string{"1 observed only", "3 no address", "ban 1: it is too long", "2900 bans of the jail (others) left out", "0.0.0.0/0 is nearly everybody"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if lines := strings.Count(stdout.String(), "\n"); lines > 150 {
		t.Errorf("it says so in %d lines", lines)
	}
	if bad := harm(stdout.String()); bad != "" {
		t.Error(bad)
	}
}

// What is answered to setup is one parameter of one action, whatever it holds, or is asked for again.
func TestAnswersToSetupInjectNothing(t *testing.T) {
	for _, answer := range []string{
		"1 ; x", "1 # x", "1, to=x", "1]", `1" x="y`, "%(x)s", "<ip>", "1\x1b[2J", "1\u202e", "1\u0085x = y", "1\u2028x", "1\vx", "1\rx = y", "$(reboot)", "`reboot`", "a=b", strings.Repeat("a", 100_000),
		"\xff\xfe", "-oQ/tmp", "'", `\`, "1\x00",
	} {
		var out bytes.Buffer
		s := &setupRun{app: &app{stdout: &out}, dir: t.TempDir(), secrets: map[string]string{}}
		s.out.Plan = &setup.Plan{Dir: s.dir, New: true, Jails: []string{"sshd"}}
		s.asks = newAsker(strings.NewReader("telegram\nsecret\n"+answer+"\n12\n"), &out)
		if err := s.askTell(); err != nil {
			t.Fatalf("%.40q: %v", answer, err)
		}
		s.out.Plan.Fill(time.Now())
		if err := setup.Write(filepath.Join(s.dir, s.out.Plan.File), s.out.Plan.Text, 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, err := config.Load(s.dir, library.FS)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := cfg.Value("DEFAULT", "action")
		first, rest, _ := strings.Cut(strings.TrimSpace(v.Text), "\n")
		if first != "%(action_)s" || strings.TrimSpace(rest) != s.out.Plan.Tell || strings.Count(s.out.Plan.Tell, `"`) != 2 {
			t.Errorf("%.40q: the action is %.300q, not %.300q", answer, v.Text, s.out.Plan.Tell)
		}
		if bad := harm(s.out.Plan.Text + out.String()); bad != "" {
			t.Errorf("%.40q: %s", answer, bad)
		}
		if strings.Contains(s.out.Plan.Text, "secret\n") {
			t.Errorf("%.40q: the secret is in the file", answer)
		}
	}
}
