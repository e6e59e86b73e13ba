package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/machine"
	"bantam/internal/setup"
)

// setupReply is what setup prints as JSON.
type setupReply struct {
	Survey *setup.Survey `json:"found"`
	Plan   *setup.Plan   `json:"plan"`
	// Written is true if the plan's file is there now, Running if a daemon works by it.
	Written bool `json:"written"`
	Running bool `json:"running"`
	// Warnings are what is not as it should be and keeps nothing from working.
	Warnings []string `json:"warnings,omitempty"`
}

// A setupRun is one run of setup.
type setupRun struct {
	*app
	yes, dryRun bool
	tell        string
	asks        *asker // nil if nothing is asked

	enforced bool   // a daemon runs and bans already
	dir      string // the folder to write into
	now      time.Time
	own      *config.Config // what is configured already
	secrets  map[string]string
	out      setupReply
}

func (a *app) setupCommand() *cobra.Command {
	s := &setupRun{app: a, secrets: map[string]string{}}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Find services, propose jails, write the configuration",
		Long: `Find what serves on this machine, show what each jail would have done in the last day, and
write the few lines that protect it: /etc/bantam/jail.local, or a file of its own beside
what is there already. Nothing is ever overwritten, and run again it changes nothing.

It asks at most three questions, each with an answer on Enter: which jails, who is never to be
banned, and where messages go. Asked, Bantam only observes until: bantam enforce. With --yes
it asks nothing, takes what it proposes and bans at once.

Where Fail2Ban is configured, that configuration is read as it stands, and nothing is written.`,
		Example: "  sudo bantam setup\n  sudo bantam setup --yes\n  bantam setup --dry-run",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	cmd.Flags().BoolVarP(&s.yes, "yes", "y", false, "ask nothing, take what is proposed, and ban at once")
	cmd.Flags().BoolVar(&s.dryRun, "dry-run", false, "show what would be written, and write nothing")
	cmd.Flags().StringVar(&s.tell, "tell", "", "with --yes, the action that sends messages: mta[to=you@example.org]")
	return cmd
}

// Folders of configurations.
const (
	bantamFolder   = "/etc/bantam"
	fail2banFolder = "/etc/fail2ban"
)

func (s *setupRun) run(ctx context.Context) error {
	s.now = time.Now()
	switch {
	case s.config == "library":
		return usageError{errors.New("setup writes into a folder, and the library is none")}
	case s.config == "" && config.Find("", bantamFolder, fail2banFolder) == fail2banFolder && holdsJails(fail2banFolder):
		return s.takeOver(ctx)
	}
	s.dir = cmp.Or(s.config, bantamFolder)
	writes := !s.dryRun && (s.yes || !s.json)
	if writes && !s.yes {
		if terminal(os.Stdin) == nil {
			return control.Refuse("bantam setup --yes takes what it proposes; --dry-run shows it", "setup asks questions, and there is no terminal to answer at")
		}
		s.asks = newAsker(os.Stdin, s.stdout)
	}
	if err := s.mayWrite(writes); err != nil {
		return err
	}
	st, err := control.Call(ctx, control.NewClient(s.socket), control.GetStatus, control.None{})
	s.enforced = err == nil && st.Firewall != "" && st.Trial == nil
	if err := s.look(ctx); err != nil {
		return err
	}
	if err := s.plan(); err != nil {
		return err
	}
	if writes && s.out.Plan.Text != "" {
		if err := s.write(); err != nil {
			return err
		}
	}
	if writes {
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	s.tellEnd(ctx, writes)
	return nil
}

// mayWrite says early if the folder cannot be written.
func (s *setupRun) mayWrite(writes bool) error {
	info, err := os.Stat(s.dir)
	if err == nil && !info.IsDir() {
		return control.Refuse("name a folder with -c", "%s is not a folder", s.dir)
	}
	if !writes {
		return nil
	}
	at := s.dir
	for err != nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		_, err = os.Stat(at)
	}
	switch err := unix.Access(at, unix.W_OK); {
	case errors.Is(err, fs.ErrPermission):
		return control.Refuse("use sudo; --dry-run shows what it would write", "you may not write into %s", at)
	case err != nil:
		return control.Refuse("--dry-run shows what it would write", "%s cannot be written into: %v", at, err)
	}
	return nil
}

// holdsJails reports whether a folder holds a configuration.
func holdsJails(dir string) bool {
	return slices.ContainsFunc([]string{"jail.conf", setup.MainFile}, func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	})
}

// look finds out what is here, and what the jails would have done.
func (s *setupRun) look(ctx context.Context) (err error) {
	dir := ""
	if holdsJails(s.dir) {
		dir = s.dir
	}
	if s.own, err = config.Load(dir, s.library); err != nil {
		return err
	}
	if s.out.Survey, err = setup.Look(machine.Machine{}, dir, s.library, s.now); err != nil {
		return err
	}
	s.out.Warnings = append(s.out.Warnings, s.out.Survey.Trouble...)
	return s.rehearse(ctx, dir)
}

// Bounds of the rehearsal.
const (
	rehearseDay  = 24 * time.Hour
	rehearseFor  = 10 * time.Second
	rehearseLogs = 64 << 20 // bytes of each file
)

// rehearse has the jails that were found read the logs of the last day, and notes what they would have done.
func (s *setupRun) rehearse(ctx context.Context, dir string) error {
	found := s.out.Survey.Jails
	var text strings.Builder
	for i := range found {
		fmt.Fprintf(&text, "[%s]\nenabled = true\nobserve = false\n%s\n", found[i].Jail, strings.Join(found[i].Options, "\n"))
	}
	staged, err := setup.Stage(dir, "jail.d/~setup.local", text.String())
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	show := &replayProgress{progress: progress{out: terminal(s.stderr)}, runs: 1}
	o := daemon.ReplayOptions{
		Config: staged, Library: s.library, From: s.now.Add(-rehearseDay), Most: rehearseLogs, Until: s.now.Add(rehearseFor),
	}
	if show.out != nil && !s.json {
		o.Progress = show.add
	}
	for i := range found {
		o.Jails = append(o.Jails, found[i].Jail)
	}
	done, err := daemon.RunReplay(ctx, o)
	show.end()
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.out.Warnings = append(s.out.Warnings, "what the jails would have done is not known: "+err.Error())
		return nil
	}
	s.out.Warnings = append(s.out.Warnings, done.Problems...)
	figures := map[string]*daemon.ReplayJail{}
	for i := range done.Jails {
		figures[done.Jails[i].Jail] = &done.Jails[i]
	}
	for i := range found {
		f := &found[i]
		j := figures[f.Jail]
		if j == nil {
			continue
		}
		f.Replayed = j.Logs > 0
		f.Failures, f.Bans, f.Offenders = j.Failures, j.Bans, j.Offenders
		for _, l := range done.Logs {
			if slices.Contains(l.Jails, f.Jail) {
				f.Lines += l.Lines
			}
		}
		for _, h := range done.Hits {
			if h.Jail == f.Jail {
				f.Logins++
			}
		}
	}
	return nil
}

// plan settles what to write: what is proposed, or what the answers say.
func (s *setupRun) plan() error {
	p := &setup.Plan{Dir: s.dir, New: !holdsJails(s.dir), Tell: s.tell}
	p.Observe = s.asks != nil && p.New && !s.enforced
	s.out.Plan = p
	if v, ok := s.own.Value("DEFAULT", "ignoreip"); ok && !p.New && strings.TrimSpace(v.Text) != "" && !strings.HasPrefix(v.File, "library/") {
		p.IgnoreIP = fmt.Sprintf("%s:%d", v.File, v.Line)
	}
	p.Options = map[string][]string{}
	for i := range s.out.Survey.Jails {
		f := &s.out.Survey.Jails[i]
		if len(f.Options) > 0 {
			p.Options[f.Jail] = f.Options
		}
		if f.Propose && !f.Enabled || p.New && f.Jail == "sshd" {
			p.Jails = append(p.Jails, f.Jail)
		}
	}
	for _, n := range s.out.Survey.Never {
		if !n.Own && !n.Covered {
			p.Never = append(p.Never, n)
		}
	}
	if !s.json {
		s.show()
	}
	if s.asks != nil {
		if err := s.ask(); err != nil {
			return err
		}
	}
	p.Fill(s.now)
	return s.check()
}

// show prints what was found.
func (s *setupRun) show() {
	s.printf("Found here, with what each jail would have done in the last day:\n\n")
	var rows [][]cell
	others := 0
	for i := range s.out.Survey.Jails {
		f := &s.out.Survey.Jails[i]
		mark := " "
		switch {
		case f.Propose:
			mark = "x"
		case f.Failures == 0:
			others++
			continue
		}
		failures, bans, logins := "-", "-", "-"
		if f.Replayed {
			failures, bans, logins = count(f.Failures), itoa(f.Bans), itoa(f.Logins)
		}
		rows = append(rows, cells(" "+mark+" "+safe(f.Jail), safe(cut(seenOf(f), 38)), failures, bans, logins))
	}
	s.printTable([]column{{title: "   JAIL"}, {title: "SEEN", least: 10}, {title: "FAILURES"}, {title: "BANS"}, {title: "LOGINS HIT"}}, rows)
	if others > 0 {
		s.printf("   %s could read these logs, too, and found nothing in them\n", plural(others, "more jail"))
	}
	for i := range s.out.Survey.Jails {
		f := &s.out.Survey.Jails[i]
		switch {
		case f.Note != "" && f.Propose:
			s.printf("\n%s: %s\n", safe(f.Service), wrap(safe(f.Note), 78-len(f.Service)))
		case f.Propose && f.Logins > 0:
			s.printf("\n%s would have shut out %s that worked: see bantam replay -j %s\n", safe(f.Jail), plural(f.Logins, "login"), safe(f.Jail))
		}
	}
	for _, text := range s.out.Warnings {
		s.printf("\nwarning: %s\n", safeLines(text))
	}
	s.printf("\n")
}

// seenOf is by what a jail's service shows.
func seenOf(f *setup.Found) string {
	switch {
	case len(f.Why) > 0:
		return strings.Join(f.Why, ", ")
	case len(f.Logs) > 1:
		return fmt.Sprintf("%s, %d more", f.Logs[0], len(f.Logs)-1)
	case len(f.Logs) == 1:
		return f.Logs[0]
	case f.Journal:
		return "the journal"
	}
	return "no log yet"
}

// cut shortens a text for a column: a path keeps its end.
func cut(text string, most int) string {
	r := []rune(text)
	switch {
	case len(r) <= most:
		return text
	case r[0] == '/':
		return "…" + string(r[len(r)-most+1:])
	}
	return string(r[:most-1]) + "…"
}

// wrap breaks a text between words, so that its first line has at most so many characters and the others hardly more
// than a terminal's 80.
func wrap(text string, first int) string {
	var b strings.Builder
	left := first
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i > 0 && n+1 > left:
			b.WriteString("\n  ")
			left = 78
		case i > 0:
			b.WriteString(" ")
			left--
		}
		b.WriteString(word)
		left -= n
	}
	return b.String()
}

// check tries the plan as the daemon would, before it is real.
func (s *setupRun) check() error {
	if s.out.Plan.Text == "" {
		return nil
	}
	dir := ""
	if !s.out.Plan.New {
		dir = s.dir
	}
	staged, err := setup.Stage(dir, s.out.Plan.File, s.out.Plan.Text)
	if err != nil {
		return control.Refuse("nothing was written; is the disk full?", "%v", err)
	}
	defer os.RemoveAll(staged)
	if err := s.stageSecrets(staged); err != nil {
		return control.Refuse("nothing was written; is the disk full?", "%v", err)
	}
	_, problems, err := daemon.Check(staged, s.library)
	if err != nil {
		return err
	}
	var wrong []string
	for _, p := range problems {
		if !p.Warning && p.File == s.out.Plan.File {
			wrong = append(wrong, p.String())
		}
	}
	if len(wrong) > 0 {
		return control.Refuse("nothing was written", "this configuration would not work:\n%s", strings.Join(wrong, "\n"))
	}
	return nil
}

// stageSecrets writes the secrets beside the staged file, and has that name them there.
func (s *setupRun) stageSecrets(staged string) error {
	text := s.out.Plan.Text
	for path, secret := range s.secrets {
		there := filepath.Join(staged, filepath.Base(path))
		text = strings.ReplaceAll(text, "file:"+path, "file:"+there)
		if err := os.WriteFile(there, []byte(secret), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(staged, filepath.FromSlash(s.out.Plan.File)), []byte(text), 0o600)
}

// write makes the plan's files, the secrets first.
func (s *setupRun) write() error {
	for path, text := range s.secrets {
		if err := setup.Write(path, text+"\n", 0o600); err != nil {
			return s.unwritten(err)
		}
	}
	path := filepath.Join(s.dir, filepath.FromSlash(s.out.Plan.File))
	if err := setup.Write(path, s.out.Plan.Text, 0o644); err != nil {
		return s.unwritten(err)
	}
	s.out.Written = true
	if !s.json {
		s.printf("Written: %s\n", safe(path))
	}
	return nil
}

// unwritten says why a file could not be written, and what to do.
func (s *setupRun) unwritten(err error) error {
	hint := "bantam setup --dry-run shows what it would write"
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		hint = "the disk is full: make room and try again; nothing is left behind"
	case errors.Is(err, unix.EROFS):
		hint = "the file system is read-only; name another folder with -c"
	case errors.Is(err, fs.ErrPermission):
		hint = "use sudo"
	}
	return control.Refuse(hint, "%v", err)
}

// underSystemd reports whether systemd runs this machine.
func underSystemd() bool {
	_, err := os.Stat("/run/systemd/system") // sd_booted(3)
	if err == nil {
		_, err = exec.LookPath("systemctl")
	}
	return err == nil
}

// systemctl has systemd do something.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// start puts the configuration to work: by a reload, or by systemd.
func (s *setupRun) start(ctx context.Context) error {
	client := control.NewClient(s.socket)
	_, err := control.Call(ctx, client, control.Ping, control.None{})
	switch {
	case err == nil:
		if s.out.Written {
			reply, err := control.Call(ctx, client, control.Reload, control.None{})
			if err != nil {
				return fmt.Errorf("the configuration is written; the running daemon did not take it: %w", err)
			}
			s.out.Warnings = append(s.out.Warnings, reply.Warnings...)
		}
		s.out.Running = true
		st, err := control.Call(ctx, client, control.GetStatus, control.None{})
		if err == nil && filepath.Clean(st.Config) != filepath.Clean(s.dir) {
			s.warn(fmt.Sprintf("the daemon that runs works by %s, not by %s; start it anew without -c, or with -c %s", cmp.Or(st.Config, "the library"), s.dir, s.dir))
		}
		return nil
	case !errors.Is(err, control.ErrNotRunning):
		return err
	case s.config == "" && s.socket == DefaultSocket && underSystemd():
		if err := systemctl(ctx, "enable", "--now", "bantam.service"); err != nil {
			s.warn(err.Error())
			return nil
		}
		s.out.Running = true
	}
	return nil
}

// warn tells of something at once, or as JSON at the end.
func (s *setupRun) warn(text string) {
	s.out.Warnings = append(s.out.Warnings, text)
	if !s.json {
		s.printf("warning: %s\n", safeLines(text))
	}
}

// tellEnd says how it stands and what comes next.
func (s *setupRun) tellEnd(ctx context.Context, wrote bool) {
	p := s.out.Plan
	switch {
	case s.json:
		s.print(s.out)
		return
	case p.Text == "":
		s.printf("Nothing to add: %s has it all.\n", safe(s.dir))
	case !wrote:
		s.printf("%s would be:\n\n%s", safe(filepath.Join(s.dir, p.File)), safeLines(p.Text))
		return
	}
	s.tellIgnore()
	s.tellNever()
	at := ""
	if s.config != "" {
		at = " -c " + s.config
	}
	switch {
	case !s.out.Running:
		s.printf("Start it with: sudo bantam run%s\n", safe(at))
	case p.Text != "":
		s.printf("The daemon works by it.\n")
		if p.New && !p.Observe {
			s.printf("Whoever fails too often is shut out from now on.\n")
		}
		s.offerTest(ctx)
	}
	if s.asks != nil && !p.New && len(p.Jails) > 0 {
		s.printf("The new jails do as the others here; observe = true in their sections has them only\nwatch.\n")
	}
	if p.Observe {
		s.printf("It only observes so far. When you have seen enough: sudo bantam enforce\n")
	}
	s.printf("Next: sudo bantam | sudo bantam doctor\n")
}

// tellNever says who is never banned by what nobody was asked about.
func (s *setupRun) tellNever() {
	p := s.out.Plan
	if s.asks != nil || !s.out.Written || p.IgnoreIP != "" || len(p.Never) == 0 {
		return
	}
	s.printf("Never banned, beside this machine:\n")
	for _, n := range p.Never {
		s.printf("  %-18s %s\n", n, safe(n.Why))
	}
}

// tellIgnore says who should be on an ignoreip that is somebody else's.
func (s *setupRun) tellIgnore() {
	if s.out.Plan.IgnoreIP == "" {
		return
	}
	for _, n := range s.out.Plan.Never {
		s.printf("%s (%s) is not in ignoreip of %s: bantam allow add %s\n", n, safe(n.Why), safe(s.out.Plan.IgnoreIP), n)
	}
}
