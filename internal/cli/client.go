package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/daemon"
)

// exitF2B is the only exit code but 0 of Fail2Ban's client and server.
const exitF2B = 255

// defaultF2BSocket is where Fail2Ban's socket is if nothing says otherwise.
const defaultF2BSocket = "/var/run/fail2ban/fail2ban.sock"

// A client is one run of the program as fail2ban-client or fail2ban-server.
type client struct {
	*app
	name  string // by which it was called
	stdin io.Reader

	folder   string // of the configuration, "" for the library alone
	override daemon.Override
	pidFile  string
	timeout  time.Duration
	readyFD  int // where to say that the server is ready, or why not; 0 for nowhere

	foreground, interactive, dump, test, force bool

	verbose  int
	finished bool // an option was the whole command
}

// clientOption is an option of both programs: without takes it stands alone.
type clientOption struct {
	short byte
	long  string
	takes string
	help  string
	// hidden options are for the program itself.
	hidden bool
	set    func(c *client, value string) error
}

// names are the option as it is written.
func (o *clientOption) names() (names []string) {
	if o.short != 0 {
		names = append(names, "-"+string(rune(o.short)))
	}
	if o.long != "" {
		names = append(names, "--"+o.long)
	}
	return names
}

// clientOptions are the options in the order in which help shows them.
func clientOptions() []clientOption {
	flag := func(to func(*client) *bool) func(*client, string) error {
		return func(c *client, _ string) error { *to(c) = true; return nil }
	}
	text := func(to func(*client) *string) func(*client, string) error {
		return func(c *client, v string) error { *to(c) = v; return nil }
	}
	ignore := func(*client, string) error { return nil }
	return []clientOption{
		{'c', "conf", "DIR", "folder of the configuration", false, text(func(c *client) *string { return &c.config })},
		{'s', "socket", "FILE", "Fail2Ban's socket", false, text(func(c *client) *string { return &c.override.Fail2BanSocket })},
		{'p', "pidfile", "FILE", "file for the process number", false, text(func(c *client) *string { return &c.pidFile })},
		{0, "pname", "NAME", "accepted; the process keeps its name", false, ignore},
		{0, "loglevel", "LEVEL", "what is logged", false, func(c *client, v string) error {
			if _, err := strconv.Atoi(v); err != nil && !slices.Contains(clientLevels, strings.ToUpper(v)) {
				return control.Invalid(fmt.Sprintf("Invalid log level '%s'", v))
			}
			c.override.LogLevel = v
			return nil
		}},
		{0, "logtarget", "TARGET", "where the log goes: a file, STDOUT, STDERR, SYSLOG, SYSTEMD-JOURNAL, SYSOUT", false, text(func(c *client) *string { return &c.override.LogTarget })},
		{0, "syslogsocket", "auto|FILE", "the socket of syslog", false, text(func(c *client) *string { return &c.override.SyslogSocket })},
		{'d', "", "", "print the configuration as a list of commands", false, flag(func(c *client) *bool { return &c.dump })},
		{0, "dp", "", "the same", false, flag(func(c *client) *bool { return &c.dump })},
		{0, "dump-pretty", "", "the same", false, flag(func(c *client) *bool { return &c.dump })},
		{'t', "test", "", "check the configuration first; alone: only that", false, flag(func(c *client) *bool { return &c.test })},
		{'i', "", "", "read commands from standard input", false, flag(func(c *client) *bool { return &c.interactive })},
		{'v', "", "", "say more on standard error", false, func(c *client, _ string) error { c.verbose++; return nil }},
		{'q', "", "", "say less", false, func(c *client, _ string) error { c.verbose--; return nil }},
		{'x', "", "", "accepted; a socket that nobody answers on is replaced", false, flag(func(c *client) *bool { return &c.force })},
		{'b', "", "", "start the server in the background, as without it", false, func(c *client, _ string) error { c.foreground = false; return nil }},
		{'f', "", "", "start the server in the foreground", false, flag(func(c *client) *bool { return &c.foreground })},
		{0, "async", "", "accepted; the server reads its configuration itself", false, ignore},
		{0, "ready-fd", "N", "used between the program and its server", true, func(c *client, v string) (err error) {
			c.readyFD, err = strconv.Atoi(v)
			return err
		}},
		{0, "timeout", "TIME", "how long to wait for the server", false, func(c *client, v string) error {
			f, err := config.Seconds(v)
			c.timeout = time.Duration(f * float64(time.Second))
			return err
		}},
		{0, "str2sec", "TIME", "how many seconds that is", false, func(c *client, v string) error { return c.printSeconds(v) }},
		{'h', "help", "", "show this", false, func(c *client, _ string) error { c.usage(); c.finished = true; return nil }},
		{'V', "", "", "the version, for programs", false, func(c *client, _ string) error {
			c.printf("%s\n", clientVersion)
			c.finished = true
			return nil
		}},
		{0, "version", "", "the version", false, func(c *client, _ string) error {
			c.printf("Fail2Ban v%s\n", clientVersion)
			c.finished = true
			return nil
		}},
	}
}

// clientVersion is the version whose behaviour this is, which scripts ask for.
const clientVersion = "1.1.2"

var clientLevels = []string{"CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "MSG", "DEBUG", "TRACEDEBUG", "HEAVYDEBUG"}

// clientUsageError is an option that is not understood.
type clientUsageError struct{ error }

// options takes the options off the command line, as getopt does: they end at the first
// word that is none, long ones may be cut short.
func (c *client) options(args []string) (words []string, err error) {
	options := clientOptions()
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if name, value, given := strings.Cut(strings.TrimPrefix(arg, "--"), "="); strings.HasPrefix(arg, "--") {
			o, err := longOption(options, name)
			if err != nil {
				return nil, err
			}
			switch {
			case o.takes == "" && given:
				return nil, clientUsageError{fmt.Errorf("option --%s must not have an argument", o.long)}
			case o.takes != "" && !given:
				if len(args) == 0 {
					return nil, clientUsageError{fmt.Errorf("option --%s requires argument", o.long)}
				}
				value, args = args[0], args[1:]
			}
			if err := o.set(c, value); err != nil || c.finished {
				return nil, err
			}
			continue
		}
		for rest := arg[1:]; rest != ""; {
			at := slices.IndexFunc(options, func(o clientOption) bool { return o.short == rest[0] })
			if at < 0 {
				return nil, clientUsageError{fmt.Errorf("option -%s not recognized", rest[:1])}
			}
			o, value := options[at], ""
			rest = rest[1:]
			if o.takes != "" {
				if value, rest = rest, ""; value == "" {
					if len(args) == 0 {
						return nil, clientUsageError{fmt.Errorf("option -%c requires argument", o.short)}
					}
					value, args = args[0], args[1:]
				}
			}
			if err := o.set(c, value); err != nil || c.finished {
				return nil, err
			}
		}
	}
	return args, nil
}

func longOption(options []clientOption, name string) (clientOption, error) {
	var found []clientOption
	for _, o := range options {
		if o.long == name && name != "" {
			return o, nil
		}
		if name != "" && strings.HasPrefix(o.long, name) {
			found = append(found, o)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		return clientOption{}, clientUsageError{fmt.Errorf("option --%s not a unique prefix", name)}
	}
	return clientOption{}, clientUsageError{fmt.Errorf("option --%s not recognized", name)}
}

// fail2banClient is the program as fail2ban-client or fail2ban-server.
func (a *app) fail2banClient(ctx context.Context, name string, args []string) int {
	c := &client{app: a, name: name, stdin: os.Stdin, timeout: 30 * time.Second, verbose: 1}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	words, err := c.options(args)
	var usage clientUsageError
	switch {
	case errors.As(err, &usage):
		c.usage()
		fmt.Fprintf(a.stderr, "%s\nInit of command line failed\n", usage)
		return exitF2B
	case err != nil:
		c.printf("ERROR: %s\n", printed(err.Error()))
		return exitF2B
	case c.finished:
		return ExitOK
	}
	if err := c.configure(); err != nil {
		c.printf("ERROR: %s\n", printed(err.Error()))
		return exitF2B
	}
	ok := c.main(ctx, words)
	if ctx.Err() != nil && !c.foreground {
		c.printf("\n")
		c.say("WARNING", "Caught signal. Exiting")
		ok = false
	}
	if !ok {
		return exitF2B
	}
	return ExitOK
}

// configure finds the configuration and what it says of the sockets.
func (c *client) configure() error {
	c.folder = c.app.folder()
	if c.config != "" && c.config != "library" {
		if info, err := os.Stat(c.config); err != nil || !info.IsDir() {
			return control.Invalid(fmt.Sprintf("Base configuration directory %s does not exist ", c.config))
		}
	}
	if c.override.Fail2BanSocket == "" {
		d, err := config.LoadDaemon(c.folder, c.library)
		if err != nil {
			return err
		}
		c.override.Fail2BanSocket = d.Socket
	}
	if c.override.Fail2BanSocket == "" {
		c.override.Fail2BanSocket = defaultF2BSocket
	}
	for _, path := range []*string{&c.override.Fail2BanSocket, &c.pidFile, &c.config} { // a server runs in another folder
		if *path == "" || *path == "library" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	if s := c.override.Fail2BanSocket; s != defaultF2BSocket && filepath.Dir(s) != "/run/fail2ban" {
		// Somebody runs it in a place of its own: the API's socket is there, too.
		c.socket = filepath.Join(filepath.Dir(s), "bantam.sock")
	}
	return nil
}

// main does what the words say and reports whether it could.
func (c *client) main(ctx context.Context, words []string) bool {
	if c.test {
		if !c.testConfiguration() {
			c.printf("ERROR: test configuration failed\n")
			return false
		}
		if len(words) == 0 && !c.interactive {
			c.printf("OK: configuration test is successful\n")
			return true
		}
	}
	switch {
	case c.dump:
		return c.dumpStream()
	case c.interactive:
		return c.loop(ctx, words)
	case len(words) == 0 && c.name == "fail2ban-server":
		words = []string{"start"}
	case len(words) == 0:
		c.usage()
		return false
	}
	return c.command(ctx, words)
}

// testConfiguration checks the configuration as the server would.
func (c *client) testConfiguration() bool {
	_, problems, err := daemon.Check(c.folder, c.library)
	ok := err == nil
	if err != nil {
		c.say("ERROR", err.Error())
	}
	for _, p := range problems {
		if !p.Warning {
			ok = false
			c.say("ERROR", p.String())
		} else if c.verbose > 1 {
			c.say("WARNING", p.String())
		}
	}
	return ok
}

// say writes a line of the client's own log. An ERROR is always shown.
func (c *client) say(level, text string) {
	if level == "WARNING" && c.verbose < 1 {
		return
	}
	at := time.Now()
	fmt.Fprintf(c.stderr, "%s,%03d %-24s[%d]: %-7s %s\n", at.Format(time.DateTime), at.Nanosecond()/1e6, "fail2ban", os.Getpid(), level, printed(text))
}

// command does one command.
func (c *client) command(ctx context.Context, words []string) bool {
	switch {
	case slices.Equal(words, []string{"start"}):
		return c.start(ctx)
	case slices.Equal(words, []string{"restart"}):
		if !c.ask(ctx, "stop") || !c.awaitGone(ctx) {
			return false
		}
		return c.start(ctx)
	case words[0] == "restart":
		return c.reload(ctx, append([]string{"--restart"}, words[1:]...))
	case words[0] == "reload":
		return c.reload(ctx, words[1:])
	case words[0] == "ping" && len(words) > 1:
		f, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			c.say("ERROR", "could not convert string to float: "+control.Repr(words[1]))
			return false
		}
		within, cancel := context.WithTimeout(ctx, time.Duration(f*float64(time.Second)))
		defer cancel()
		return c.ask(within, words...)
	}
	return c.ask(ctx, words...)
}

// request sends a command and returns its payload.
func (c *client) request(ctx context.Context, command control.List) (any, error) {
	conn, err := control.DialFail2Ban(ctx, c.override.Fail2BanSocket)
	if err != nil {
		return nil, err
	}
	v, err := conn.Ask(ctx, command)
	// What was asked is answered; a server that is gone needs no goodbye.
	_ = conn.Close()
	return v, err
}

func wordList(words []string) control.List {
	list := make(control.List, len(words))
	for i, w := range words {
		list[i] = w
	}
	return list
}

// ask sends a command and prints its answer.
func (c *client) ask(ctx context.Context, words ...string) bool {
	v, err := c.request(ctx, wordList(words))
	return c.answer(words, v, err)
}

// answer prints what came of a command.
func (c *client) answer(words []string, v any, err error) bool {
	var e *control.Exception
	socket := c.override.Fail2BanSocket
	switch {
	case err == nil:
		c.printf("%s\n", printed(c.beautify(words, v)))
		return true
	case errors.As(err, &e):
		args := e.Args
		if e.Class == "builtins.FileNotFoundError" {
			args = args[:min(2, len(args))] // the file is no argument in Python
		}
		c.say("ERROR", "NOK: "+control.Repr(args))
		c.printf("%s\n", printed(exceptionText(e)))
	case errors.Is(err, control.ErrProtocol):
		c.say("ERROR", strings.TrimPrefix(err.Error(), control.ErrProtocol.Error()+": "))
	case errors.Is(err, fs.ErrNotExist):
		c.say("ERROR", fmt.Sprintf("Failed to access socket path: %s. Is fail2ban running?", socket))
	case errors.Is(err, fs.ErrPermission):
		c.say("ERROR", fmt.Sprintf("Permission denied to socket: %s, (you must be root)", socket))
	case errors.Is(err, syscall.ECONNREFUSED) && words[0] == "ping":
		c.say("ERROR", "[Errno 111] Connection refused")
	case errors.Is(err, syscall.ECONNREFUSED):
		c.say("ERROR", "[[Errno 111] Connection refused] Unable to contact server. Is it running?")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		c.say("ERROR", "timed out")
	default:
		c.say("ERROR", err.Error())
	}
	return false
}

// exceptionText is what a person is told of an error.
func exceptionText(e *control.Exception) string {
	first := ""
	if len(e.Args) > 0 {
		first = control.Str(e.Args[0])
	}
	switch e.Class {
	case "fail2ban.exceptions.UnknownJailException":
		return fmt.Sprintf("Sorry but the jail '%s' does not exist", first)
	case "fail2ban.exceptions.DuplicateJailException":
		return fmt.Sprintf("The jail '%s' already exists", first)
	case "builtins.IndexError":
		return "Sorry but the command is invalid"
	}
	return e.Error()
}

// pingWait is how long start waits to hear that a server runs already.
const pingWait = 100 * time.Millisecond

// start starts the server, in the foreground until it ends.
func (c *client) start(ctx context.Context) bool {
	if c.answers(ctx) {
		c.say("ERROR", "Server already running")
		return false
	}
	if c.foreground {
		return c.serve(ctx)
	}
	exe, err := os.Executable()
	if err != nil {
		c.say("ERROR", err.Error())
		return false
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		c.say("ERROR", err.Error())
		return false
	}
	defer ours.Close()
	args := []string{"fail2ban-server", "-f", "--ready-fd", "3", "-s", c.override.Fail2BanSocket}
	for _, o := range []struct{ option, value string }{
		{"-c", c.config},
		{"-p", c.pidFile},
		{"--loglevel", c.override.LogLevel},
		{"--logtarget", c.override.LogTarget},
		{"--syslogsocket", c.override.SyslogSocket},
	} {
		if o.value != "" {
			args = append(args, o.option, o.value)
		}
	}
	process, err := os.StartProcess(exe, append(args, "start"), &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{nil, nil, nil, theirs}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	_ = theirs.Close() // the server has its own
	if err != nil {
		c.say("ERROR", err.Error())
		return false
	}
	defer func() { _ = process.Release() }() // it goes on without us
	if err := ours.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		c.say("ERROR", err.Error())
		return false
	}
	b, err := io.ReadAll(ours)
	switch text := strings.TrimSpace(string(b)); {
	case text == serverReady:
		c.printf("%s\n", serverReady)
		return true
	case text != "":
		c.say("ERROR", text)
	case err != nil:
		c.say("ERROR", fmt.Sprintf("the server (pid %d) is not ready after %s", process.Pid, c.timeout))
	default:
		c.say("ERROR", "Could not start server; its log says why")
	}
	return false
}

const serverReady = "Server ready"

// answers reports whether a server answers.
func (c *client) answers(ctx context.Context) bool {
	within, cancel := context.WithTimeout(ctx, pingWait)
	defer cancel()
	_, err := c.request(within, control.List{"ping"})
	return err == nil
}

// serve runs the server in this process.
func (c *client) serve(ctx context.Context) bool {
	ready := io.Discard
	if c.readyFD > 0 {
		f := os.NewFile(uintptr(c.readyFD), "ready")
		defer f.Close()
		ready = f
	} else {
		ready = c.stdout
	}
	failed := func(err error) bool {
		var refused *control.Error
		text := err.Error()
		if errors.As(err, &refused) && refused.Hint != "" {
			text += "\nhint: " + refused.Hint
		}
		c.say("ERROR", text)
		if c.readyFD > 0 {
			fmt.Fprintln(ready, text)
		}
		return false
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	override := c.override
	d, err := daemon.New(ctx, daemon.Options{
		Config: c.folder, Library: c.library, Socket: c.socket, PIDFile: c.pidFile, Stderr: c.stderr, Stdout: c.stdout, Override: override,
		DropPrivileges: c.stderr == os.Stderr, // not those of a program that runs this as a part
	})
	if err != nil {
		return failed(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if _, err := c.request(ctx, control.List{"ping"}); err != nil && ctx.Err() == nil {
		return failed(errors.Join(err, <-ended))
	}
	fmt.Fprintln(ready, serverReady)
	if f, ok := ready.(*os.File); ok && c.readyFD > 0 {
		_ = f.Close() // whoever waits has read it
	}
	for {
		select {
		case err := <-ended:
			if err != nil {
				c.say("ERROR", err.Error())
			}
			return err == nil
		case sig := <-signals:
			if sig == syscall.SIGUSR1 {
				d.Reopen()
			} else {
				_, _ = d.Reload(ctx, control.None{}) // what is wrong is in the log
			}
		}
	}
}

// awaitGone waits until nobody answers any more.
func (c *client) awaitGone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.override.Fail2BanSocket)
		if err != nil {
			return ctx.Err() == nil
		}
		_ = conn.Close() // it was only to see whether anybody answers
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.say("ERROR", "the server does not end")
			return false
		}
	}
}

// reload has the configuration read again, of all jails or of one.
func (c *client) reload(ctx context.Context, words []string) bool {
	options := control.List{}
	for len(words) > 0 && slices.Contains([]string{"--restart", "--unban", "--if-exists"}, words[0]) {
		options = append(options, words[0])
		words = words[1:]
	}
	if len(words) > 1 {
		c.say("ERROR", "Unexpected argument(s) for reload: "+control.Repr(words))
		return false
	}
	name := "--all"
	if len(words) > 0 {
		name = words[0]
	}
	version, err := c.request(ctx, control.List{daemon.Whose})
	var refused *control.Exception
	switch {
	case errors.As(err, &refused):
		c.say("ERROR", "this is not Bantam's server: reload it with the client that came with it")
		return false
	case err != nil:
		c.say("ERROR", "Could not find server")
		return false
	case c.verbose > 1:
		c.say("INFO", "the server is Bantam "+control.Str(version))
	}
	if name != "--all" {
		known, _ := config.Names(c.folder, c.library)
		if !slices.Contains(known, name) {
			c.say("ERROR", fmt.Sprintf("Failed during configuration: No section: %s", control.Repr(name)))
			return false
		}
	}
	if c.interactive {
		c.printf("  ## reload ... \n")
	}
	v, err := c.request(ctx, control.List{"reload", name, options, control.List{}})
	return c.answer(append([]string{"reload"}, words...), v, err)
}

// loop reads commands until there are no more.
func (c *client) loop(ctx context.Context, words []string) bool {
	if len(words) > 0 {
		c.command(ctx, words)
	}
	c.printf("Fail2Ban v%s, answered by Bantam\nexit or quit leaves, help shows the commands\n\n", clientVersion)
	lines := bufio.NewScanner(c.stdin)
	lines.Buffer(nil, 1<<20)
	for {
		c.printf("fail2ban> ")
		if !lines.Scan() || ctx.Err() != nil {
			c.printf("\n")
			c.say("ERROR", "the input has ended")
			return false
		}
		words, err := config.Words(lines.Text())
		switch {
		case err != nil:
			c.say("ERROR", err.Error())
		case len(words) == 0:
		case words[0] == "exit" || words[0] == "quit":
			return true
		case words[0] == "help":
			c.usage()
		default:
			c.command(ctx, words)
		}
	}
}

// printSeconds prints a time in seconds, as a whole number unless the original's would be a
// fraction: years and months are.
func (c *client) printSeconds(text string) error {
	f, err := config.TimeValue(text)
	if err != nil {
		return err
	}
	c.finished = true
	var v any = f
	if f == float64(int64(f)) && !strings.ContainsAny(text, "./yYoO") {
		v = int64(f)
	}
	c.printf("%s\n", control.Repr(v))
	return nil
}
