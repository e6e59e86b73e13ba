package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/daemon"
	"bantam/internal/filter"
)

// Exit codes of fail2ban-regex where they are not Bantam's.
const (
	regexWrong = 255 // wrong use, or what it was given cannot be read
	regexUsage = 2   // an option it does not know
)

// regexOptions are those of fail2ban-regex (detection.md 8.2), which bantam regex knows, too.
type regexOptions struct {
	datePattern, timezone, encoding, useDNS string
	journalMatch, logLevel, out             string
	maxLines, verbose                       int
	raw, verboseDate, debuggex              bool
	noCheckAll, invert, traceback           bool

	allMatched, allMissed, allIgnored bool
	noMissed, noIgnored               bool
}

func (o *regexOptions) register(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVarP(&o.datePattern, "datepattern", "d", "", "how time stamps look; stronger than the filter's")
	f.StringVar(&o.timezone, "timezone", "", "zone of stamps that name none (also --TZ)")
	f.StringVarP(&o.encoding, "encoding", "e", "", "encoding of the log")
	f.BoolVarP(&o.raw, "raw", "r", false, "host names stay names")
	f.StringVar(&o.useDNS, "usedns", "warn", "what becomes of host names: yes, warn, no, raw")
	f.IntVarP(&o.maxLines, "maxlines", "L", 0, "lines an expression may span; also how many lines a list shows")
	f.StringVarP(&o.journalMatch, "journalmatch", "m", "", "replaces the filter's journalmatch")
	f.StringVarP(&o.logLevel, "log-level", "l", "critical", "accepted; there is no log")
	f.CountVarP(&o.verbose, "verbose", "v", "also expressions without a hit, and who matched when; twice: also the filter's options")
	f.IntVar(&o.verbose, "verbosity", 0, "the same as a number")
	f.BoolVar(&o.verboseDate, "verbose-date", false, "show the date patterns in full (also --VD)")
	f.BoolVarP(&o.debuggex, "debuggex", "D", false, "not built: links to a site that draws expressions")
	f.BoolVar(&o.noCheckAll, "no-check-all", false, "stop at the first expression that matches, as the daemon does")
	f.StringVarP(&o.out, "out", "o", "", "print only this of each failure: id, ip, msg, row, a group, or a text with <tags>")
	f.BoolVarP(&o.invert, "invert", "i", false, "with --out: print the lines that are no failure")
	f.BoolVar(&o.allMatched, "print-all-matched", false, "list every line that matched")
	f.BoolVar(&o.allMissed, "print-all-missed", false, "list every line that was missed")
	f.BoolVar(&o.allIgnored, "print-all-ignored", false, "list every line that was ignored")
	f.BoolVar(&o.noMissed, "print-no-missed", false, "do not list lines that were missed")
	f.BoolVar(&o.noIgnored, "print-no-ignored", false, "do not list lines that were ignored")
	f.BoolVarP(&o.traceback, "log-traceback", "t", false, "accepted; there are no tracebacks (also --full-traceback)")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		switch name {
		case "TZ":
			name = "timezone"
		case "VD":
			name = "verbose-date"
		case "full-traceback":
			name = "log-traceback"
		}
		return pflag.NormalizedName(name)
	})
}

// check refuses what contradicts itself or is not built.
func (o *regexOptions) check() error {
	switch {
	case o.noMissed && o.allMissed:
		return errors.New("--print-no-missed and --print-all-missed contradict each other")
	case o.noIgnored && o.allIgnored:
		return errors.New("--print-no-ignored and --print-all-ignored contradict each other")
	case o.debuggex:
		return errors.New("--debuggex is not built: expressions are shown to no other site")
	case o.journalMatch != "":
		return errors.New("--journalmatch: reading the journal is not built yet: pipe journalctl into a file and try that")
	case o.maxLines < 0:
		return fmt.Errorf("--maxlines: %d is less than 1", o.maxLines)
	}
	return nil
}

// fail2banRegexCommand is the program called as fail2ban-regex.
func (a *app) fail2banRegexCommand() *cobra.Command {
	t := regexTrial{app: a, now: time.Now(), many: manyBytes, fail2ban: true}
	var short, long bool
	cmd := &cobra.Command{
		Use:           "fail2ban-regex [OPTIONS] LOG REGEX [IGNOREREGEX]",
		Short:         "Try expressions on a log",
		Long:          regexHelp,
		SilenceErrors: true, SilenceUsage: true,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case short:
				a.printf("%s\n", fail2banShort)
				return nil
			case long:
				a.printf("fail2ban-regex %s (bantam %s)\n", fail2banShort, bantam.Version)
				return nil
			case len(args) < 2 || len(args) > 3:
				fmt.Fprint(a.stderr, cmd.UsageString())
				return errors.New("a log and an expression or filter are needed, and perhaps an expression to ignore")
			}
			return t.report(cmd.Context(), args[0], args[1:2], args[2:])
		},
	}
	f := cmd.Flags()
	t.opt.register(f)
	f.StringVarP(&a.config, "config", "c", "", `folder of the configuration; "library" for what is built in`)
	f.BoolVarP(&short, "V", "V", false, "print the version in its short form")
	f.BoolVar(&long, "version", false, "print the version")
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return cmd
}

// fail2banRegex runs it with args and returns the exit code.
func (a *app) fail2banRegex(ctx context.Context, args []string) int {
	cmd := a.fail2banRegexCommand()
	cmd.SetArgs(args)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(a.stderr, "fail2ban-regex: "+safe(strings.TrimRight(line, "\n")))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return regexUsage
	}
	var problem *config.Problem
	if errors.As(err, &problem) && problem.Hint != "" {
		fmt.Fprintln(a.stderr, "fail2ban-regex: hint: "+safe(problem.Hint))
	}
	return regexWrong
}

// fail2banShort is what the original's -V says.
const fail2banShort = "1.1.2.1"

const regexHelp = `Try expressions on a log and report what they match.

LOG is a file, or else the text of a log. REGEX is the name of a jail or of a filter, the
path of a filter's file, or else one expression; a name may have parameters in
brackets: sshd[mode=aggressive]. IGNOREREGEX is an expression for lines that are no failures; it
replaces the filter's. Stamps count as they are written, however old; nobody is
counted or banned. The exit code is 0 whether or not anything matched.`

// bareWord is the form of a name or path, perhaps with parameters, that may be a jail's or
// a filter's.
var bareWord = regexp.MustCompile(`(?s)^[\w/.\-]+(?:\[.*\])?$`)

// find reads what is to be tried: a jail, a filter, or an expression by itself.
func (t *regexTrial) find(text string, ignore []string) (*config.Found, error) {
	found := &config.Found{Filter: filter.Config{Failregex: []string{text}}}
	if name, params, err := config.NameParams(text); err == nil && bareWord.MatchString(text) {
		maps.Copy(params, t.params)
		read, err := (*config.Found)(nil), error(config.ErrNoFilter)
		if !strings.Contains(name, "/") && !strings.HasSuffix(name, ".conf") && !strings.HasSuffix(name, ".local") {
			read, err = config.FindJail(t.folder(), t.library, name, params, "")
		}
		if errors.Is(err, config.ErrNoFilter) {
			read, err = config.FindFilter(t.folder(), t.library, name, params, "")
		}
		switch {
		case err == nil:
			found = read
		case !errors.Is(err, config.ErrNoFilter):
			return nil, err
		}
	}
	c := &found.Filter
	if len(ignore) > 0 {
		c.Ignoreregex = ignore
	}
	// Nothing of these is taken over from the jail or the filter.
	c.UseDNS, c.LogTimezone, c.LogEncoding = t.opt.useDNS, t.opt.timezone, t.opt.encoding
	if t.opt.raw {
		c.UseDNS = "raw"
	}
	if t.opt.maxLines > 0 {
		c.MaxLines = t.opt.maxLines
	}
	if t.opt.datePattern != "" {
		c.DatePattern = strings.Split(t.opt.datePattern, "\n")
	}
	return found, nil
}

// report tries each of regexes on the log and prints what came of it; ignore is empty or what
// replaces their ignoreregex.
func (t *regexTrial) report(ctx context.Context, log string, regexes, ignore []string) error {
	if err := t.opt.check(); err != nil {
		return err
	}
	if strings.HasPrefix(log, "systemd-journal") {
		return errors.New("reading the journal is not built yet: write journalctl's output into a file and try that")
	}
	r := regexReport{regexTrial: t, out: bufio.NewWriterSize(t.stdout, 64<<10), began: time.Now()}
	for _, text := range regexes {
		found, err := t.find(text, ignore)
		if err != nil {
			return err
		}
		rules, err := filter.Compile(found.Filter)
		if err != nil {
			if len(regexes) > 1 {
				err = fmt.Errorf("%s: %w", text, err)
			}
			return err
		}
		r.rules = append(r.rules, rules)
		r.runs = append(r.runs, t.newRun(found, rules, &r))
	}
	r.options = filter.TrialOptions{Every: !t.opt.noCheckAll && t.opt.out == "", Prefixes: t.prefixes(), Lines: t.opt.out != ""}
	r.trial = filter.NewTrial(r.options, r.rules...)
	lines, isFile := (*logReader)(nil), false
	if info, err := os.Stat(log); err == nil && !info.IsDir() {
		if lines, err = t.openLog(log); err != nil {
			return err
		}
		defer lines.Close()
		isFile = true
	} else {
		lines = newLogReader(strings.NewReader(log), progress{})
	}
	for _, run := range r.runs {
		defer run.close()
	}
	if lines.progress.size >= r.many {
		_ = daemon.ForgetProgram() // so that much is left of the machine; without it no less is right
	}
	read := r.read
	if r.onAllCores(lines) {
		read = r.readOnAllCores
	}
	if err := read(ctx, lines, isFile); err != nil {
		return errors.Join(err, r.out.Flush())
	}
	lines.Close()
	for _, run := range r.runs {
		if t.opt.out != "" {
			break
		}
		run.head(log, isFile)
		if err := run.results(); err != nil {
			return errors.Join(err, r.out.Flush())
		}
	}
	if err := r.out.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// regexReport is one pass over a log.
type regexReport struct {
	*regexTrial
	options filter.TrialOptions
	rules   []*filter.Rules
	runs    []*regexRun // one for each of rules
	trial   *filter.Trial
	out     *bufio.Writer
	began   time.Time // wall time
}

// newRun is the report of one filter.
func (t *regexTrial) newRun(found *config.Found, rules *filter.Rules, report *regexReport) *regexRun {
	c := &found.Filter
	r := &regexRun{
		regexTrial: t, found: found, rules: rules, resolver: newResolver(c.UseDNS), out: report.out, began: report.began,
		limit: 20, fail: make([]tried, len(c.Failregex)), ignore: make([]tried, len(c.Ignoreregex)), tty: terminal(t.stdout) != nil,
	}
	if t.opt.maxLines > 0 {
		r.limit = t.opt.maxLines
	}
	return r
}

// regexRun is what one filter made of the log.
type regexRun struct {
	*regexTrial
	found    *config.Found
	rules    *filter.Rules
	resolver *resolver
	out      *bufio.Writer
	began    time.Time // wall time
	tty      bool      // the output is a terminal

	total    int64
	limit    int // lines a list may not reach
	prefixed int64
	dated    int64

	fail, ignore             []tried
	matched, ignored, missed list
}

func (r *regexRun) close() {
	r.matched.close()
	r.ignored.close()
	r.missed.close()
}

// tried counts one expression's hits.
type tried struct {
	hits int64
	who  []seen
}

// seen is one hit as -v shows it.
type seen struct {
	id    string
	at    time.Time
	multi bool
}

// maxSeen is how many hits of one expression -v can show.
const maxSeen = 10_000

// A list counts lines and keeps the first of them, or all: then what is more than a little
// goes to a temporary file, so that memory does not grow with the log.
type list struct {
	count int64
	lines []string
	size  int // bytes of lines
	spill *os.File
	out   *bufio.Writer // to spill
}

// maxListed is how many bytes of a list are kept in memory.
const maxListed = 1 << 20

// add books a line; all of them are kept if all is true, else the first most.
func (l *list) add(line []byte, most int, all bool) error {
	l.count++
	switch {
	case !all && len(l.lines) >= most:
		return nil
	case l.size+len(line) <= maxListed && l.spill == nil:
		l.lines = append(l.lines, string(line))
		l.size += len(line) + 16 // a short line has its cost, too
		return nil
	case !all:
		return nil // so long that the list is not for looking at
	case l.spill == nil:
		f, err := os.CreateTemp("", "bantam-regex-")
		if err != nil {
			return fmt.Errorf("keep the lines to be listed: %w", err)
		}
		_ = os.Remove(f.Name()) // it lives as long as it is open; if not, the system's own broom takes it
		l.spill, l.out = f, bufio.NewWriterSize(f, 64<<10)
	}
	_, err := l.out.Write(line)
	if err = errors.Join(err, l.out.WriteByte('\n')); err != nil {
		return fmt.Errorf("keep the lines to be listed: %w", err)
	}
	return nil
}

// each calls show with every line that was kept, in order.
func (l *list) each(show func(line string)) error {
	for _, line := range l.lines {
		show(line)
	}
	if l.spill == nil {
		return nil
	}
	err := l.out.Flush()
	if err == nil {
		_, err = l.spill.Seek(0, io.SeekStart)
	}
	for r := bufio.NewReaderSize(l.spill, 64<<10); err == nil; {
		var line string
		if line, err = r.ReadString('\n'); err == nil {
			show(strings.TrimSuffix(line, "\n"))
		}
	}
	if err != io.EOF {
		return fmt.Errorf("read back the lines to be listed: %w", err)
	}
	return nil
}

// close lets go of what was spilled.
func (l *list) close() {
	if l.spill != nil {
		_ = l.spill.Close() // nobody will read it again
	}
}

// read tries every line. A line without a line end is being written still.
func (r *regexReport) read(ctx context.Context, lines *logReader, isFile bool) error {
	line := bantam.Line{}
	for {
		text, ended, err := lines.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if passedOver(text, ended, isFile) {
			continue
		}
		if lines.lines%askedEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line.Text, line.Read = text, r.now
		outcomes := r.trial.Try(&line)
		for i, run := range r.runs {
			if err := run.line(ctx, &line, &outcomes[i]); err != nil {
				return err
			}
		}
	}
}

// passedOver reports whether a line is none to be tried.
func passedOver(text []byte, ended, isFile bool) bool {
	return len(text) == 0 || text[0] == '#' || isFile && !ended
}

// askedEvery is after how many lines read looks whether it is to stop.
const askedEvery = 256

// line books what came of one line.
func (r *regexRun) line(ctx context.Context, line *bantam.Line, outcome *filter.Outcome) error {
	r.total++
	if outcome.Dated {
		r.dated++
	}
	if outcome.Prefixed {
		r.prefixed++
	}
	if outcome.Ignored > 0 {
		r.ignore[outcome.Ignored-1].hits++
	}
	failed, quiet := false, false // a line that says of itself that it is no failure is quiet
	for i := range outcome.Hits {
		hit := &outcome.Hits[i]
		silent := hit.Quiet && !hit.Waits // it is no failure
		if silent && r.opt.noCheckAll || hit.Quiet && r.opt.out != "" {
			continue // the daemon would say nothing of it
		}
		if !hit.Name && r.opt.verbose == 0 && r.opt.out == "" {
			// Who it was is asked for by nobody.
			quiet = quiet || silent
			failed = failed || hit.Waits || !silent && hit.Host != ""
			if hit.Quiet || hit.Host != "" {
				r.fail[hit.Regex-1].hits++
			}
			continue
		}
		ids := r.resolver.ids(ctx, hit)
		if hit.Quiet && len(ids) == 0 {
			ids = []string{""}
		}
		f := &r.fail[hit.Regex-1]
		for _, id := range ids {
			f.hits++
			if r.opt.verbose > 0 && len(f.who) < maxSeen {
				f.who = append(f.who, seen{id, hit.Time, len(outcome.Hits) > 1})
			}
			if r.opt.out != "" && !r.opt.invert {
				r.one(ctx, id, hit)
			}
		}
		if silent {
			quiet = true
		} else if len(ids) > 0 {
			failed = true
		}
	}
	switch {
	case r.opt.out != "":
		if r.opt.invert && !failed {
			fmt.Fprintln(r.out, r.shown(string(line.Text)))
		}
	case failed && !quiet:
		return r.matched.add(line.Text, r.limit, r.opt.allMatched)
	case quiet, outcome.Ignored > 0:
		return r.ignored.add(line.Text, r.limit, r.opt.allIgnored)
	default:
		return r.missed.add(line.Text, r.limit, r.opt.allMissed)
	}
	return nil
}

// use is a line of what is tried.
func (r *regexRun) use(label, value string) {
	if runes := []rune(value); len(runes) > 53 {
		value = string(runes[:50]) + "..."
	}
	fmt.Fprintf(r.out, "Use %17s : %s\n", label, safe(value))
}

func (r *regexRun) head(log string, isFile bool) {
	fmt.Fprintf(r.out, "\nRunning tests\n=============\n\n")
	c := &r.found.Filter
	if r.found.Jail != "" {
		r.use("jail", r.found.Jail)
	}
	if r.found.File != "" {
		from := r.folder()
		if from == "" {
			from = "library"
		}
		r.use("filter file", c.Name+", basedir: "+from)
		if r.opt.verbose > 1 {
			var opts []string
			for key, value := range r.found.Options {
				opts = append(opts, key+"="+value)
			}
			slices.Sort(opts)
			for _, o := range opts {
				r.use("filter options", o)
			}
		}
	}
	if c.MaxLines > 1 {
		r.use("maxlines", fmt.Sprint(c.MaxLines))
	}
	if len(c.DatePattern) > 0 {
		r.use("datepattern", strings.Join(c.DatePattern, " ")+" : "+daemon.DateName(c.DatePattern))
	}
	if r.found.File == "" && r.found.Jail == "" {
		r.use("failregex line", c.Failregex[0])
	}
	if len(c.Ignoreregex) == 1 && r.found.Options["ignoreregex"] != c.Ignoreregex[0] {
		r.use("ignoreregex line", c.Ignoreregex[0])
	}
	encoding := c.LogEncoding
	if encoding == "" {
		encoding = "UTF-8"
	}
	lines := strings.Split(log, "\n")
	switch {
	case isFile:
		r.use("log file", log)
		r.use("encoding", encoding)
	case len(lines) == 1:
		r.use("single line", log)
	default:
		r.use("multi line", plural(len(lines), "line"))
		for i, line := range lines[:min(len(lines), 5)] {
			r.use(fmt.Sprint(i+1), line)
		}
	}
	fmt.Fprintln(r.out)
}

// prefixes is whether the lines that prefregex matches are counted: nobody but
// fail2ban-regex's users asks for it, and it takes longer than all the rest.
func (t *regexTrial) prefixes() bool { return t.fail2ban || t.opt.verbose > 0 }

func (r *regexRun) results() error {
	p := func(format string, args ...any) { fmt.Fprintf(r.out, format, args...) }
	p("\nResults\n=======\n\n")
	if expr := r.rules.Expanded(); expr != "" && r.prefixes() {
		p("Prefregex: %d total\n|  %s\n`-\n\n", r.prefixed, safe(expr))
	}
	r.hits("Failregex", r.fail, r.found.Filter.Failregex)
	r.hits("Ignoreregex", r.ignore, r.found.Filter.Ignoreregex)
	if r.dated > 0 || r.opt.verbose > 0 {
		p("Date template hits:\n|- [# of hits] date format\n")
		p("|  [%d] %s\n", r.dated, safe(daemon.DateName(r.found.Filter.DatePattern)))
		if r.opt.verboseDate {
			for _, pattern := range r.found.Filter.DatePattern {
				p("|    %s\n", safe(pattern))
			}
		}
		p("`-\n\n")
	}
	p("Lines: %d lines, %d ignored, %d matched, %d missed\n", r.total, r.ignored.count, r.matched.count, r.missed.count)
	p("[processed in %.2f sec]\n\n", time.Since(r.began).Seconds())
	var errs [3]error
	if r.opt.allMatched {
		errs[0] = r.list("matched", &r.matched, true)
	}
	if !r.opt.noIgnored {
		errs[1] = r.list("ignored", &r.ignored, r.opt.allIgnored)
	}
	if !r.opt.noMissed {
		errs[2] = r.list("missed", &r.missed, r.opt.allMissed)
	}
	return errors.Join(errs[:]...)
}

// hits is the table of expressions that matched.
func (r *regexRun) hits(title string, counts []tried, exprs []string) {
	var total int64
	for i := range counts {
		total += counts[i].hits
	}
	fmt.Fprintf(r.out, "%s: %d total\n", title, total)
	rows := total > 0 || r.opt.verbose > 0 && len(counts) > 0
	if rows {
		fmt.Fprintf(r.out, "|-  #) [# of hits] regular expression\n")
	}
	for i, c := range counts {
		if c.hits == 0 && r.opt.verbose == 0 {
			continue
		}
		fmt.Fprintf(r.out, "|  %2d) [%d] %s\n", i+1, c.hits, safe(exprs[i]))
		for _, s := range c.who {
			at, multi := s.at, ""
			if at.IsZero() {
				at = r.now
			}
			if s.multi {
				multi = " (multiple regex matched)"
			}
			fmt.Fprintf(r.out, "|      %s  %s%s\n", safe(s.id), at.Local().Format("Mon Jan 02 15:04:05 2006"), multi)
		}
		if more := c.hits - int64(len(c.who)); len(c.who) == maxSeen && more > 0 {
			fmt.Fprintf(r.out, "|      and %d more\n", more)
		}
	}
	if rows {
		fmt.Fprintf(r.out, "`-\n")
	}
	fmt.Fprintln(r.out)
}

// list prints lines, if they are few or all are wanted.
func (r *regexRun) list(kind string, l *list, all bool) error {
	title := strings.ToUpper(kind[:1]) + kind[1:] + " line(s)"
	switch {
	case l.count == 0:
	case !all && l.count >= int64(r.limit):
		fmt.Fprintf(r.out, "%s: too many to print.  Use --print-all-%s to print all %d lines\n", title, kind, l.count)
	default:
		fmt.Fprintf(r.out, "|- %s:\n", title)
		if err := l.each(func(line string) { fmt.Fprintf(r.out, "|  %s\n", safe(strings.TrimRightFunc(line, unicode.IsSpace))) }); err != nil {
			return err
		}
		fmt.Fprintf(r.out, "`-\n")
	}
	return nil
}
