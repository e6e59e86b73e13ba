package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/filter"
	"bantam/internal/source"
)

// regexReply is one line of `bantam regex --json`.
type regexReply struct {
	N     int64  `json:"n"`    // of the line, from 1 on
	Line  string `json:"line"` // without line end; what is no UTF-8 is U+FFFD
	Match bool   `json:"match"`
	// Host is who failed, as logged; with it come the user, if the expression names one, and
	// the event time in local time, if the line has one.
	Host    string  `json:"host,omitempty"`
	User    *string `json:"user,omitempty"`
	Time    string  `json:"time,omitempty"`
	Ignored bool    `json:"ignored"`         // an ignoreregex matched
	Regex   int     `json:"regex,omitempty"` // number of the failregex, from 1 on
}

func (a *app) regexCommand() *cobra.Command {
	var now, options string
	var filters []string
	t := regexTrial{app: a, many: manyBytes}
	cmd := &cobra.Command{
		Use:   "regex LOG REGEX [IGNOREREGEX] | regex LOG -f REGEX…",
		Short: "Try a filter or an expression on a log",
		Long: regexHelp + `

With --filter, given as often as you like, several are tried in one pass over the log, and each
has its report: bantam regex LOG -f sshd -f dovecot.

With --json there is one object per line of the log, and REGEX is the name of a filter or the path
of its file: bantam regex --json LOGFILE FILTER. LOGFILE - is standard input.`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case a.json && len(args)+len(filters) != 2:
				return usageError{errors.New("bantam regex --json takes a log and a filter")}
			case len(filters) > 0 && len(args) != 1:
				return usageError{errors.New("bantam regex takes a log and nothing else beside --filter")}
			case len(filters) > 1 && t.opt.out != "":
				return usageError{errors.New("--out takes one filter")}
			case len(filters) == 0 && len(args) != 2 && len(args) != 3:
				return usageError{errors.New("bantam regex takes a log, a filter or expression, and perhaps an expression to ignore")}
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				jails, filters := config.Names(a.folder(), a.library)
				names := append(jails, filters...)
				slices.Sort(names)
				return slices.Compact(names), cobra.ShellCompDirectiveDefault // or a file
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t.now = time.Now()
			if now != "" {
				var err error
				if t.now, err = time.Parse(time.RFC3339, now); err != nil {
					return usageError{fmt.Errorf("--now: %q is no time in RFC 3339", now)}
				}
			}
			params, err := jsonParams(options)
			if err != nil {
				return usageError{fmt.Errorf("--options: %w", err)}
			}
			log, ignore := args[0], args[min(2, len(args)):]
			if len(filters) == 0 {
				filters = args[1:2]
			}
			if a.json {
				return t.runJSON(cmd.Context(), log, filters[0], params)
			}
			t.params = params
			return t.report(cmd.Context(), log, filters, ignore)
		},
	}
	t.opt.register(cmd.Flags())
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "try this REGEX, too; may be repeated")
	cmd.Flags().StringVar(&now, "now", "", "the clock, in RFC 3339: what stamps without year or day mean")
	cmd.Flags().StringVar(&options, "options", "{}", "parameters of the filter, as a JSON object")
	return cmd
}

// jsonParams reads a filter's parameters from a JSON object of texts, numbers and truth values.
func jsonParams(text string) (map[string]string, error) {
	var values map[string]any
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&values); err != nil {
		return nil, fmt.Errorf("%q is no JSON object: %w", text, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%q is more than one JSON object", text)
	}
	params := make(map[string]string, len(values))
	for key, value := range values {
		switch v := value.(type) {
		case string:
			params[key] = v
		case json.Number:
			params[key] = v.String()
		case bool:
			params[key] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("%q is neither text, number nor truth value", key)
		}
	}
	return params, nil
}

// regexTrial is one run of regex.
type regexTrial struct {
	*app
	now  time.Time // the clock
	many int64     // bytes of a log that is worth all cores
	opt  regexOptions
	// fail2ban is whether it was called as fail2ban-regex.
	fail2ban bool
	// params are the filter's, stronger than those in its brackets.
	params map[string]string
}

// runJSON prints one object per line of the log.
func (t *regexTrial) runJSON(ctx context.Context, logfile, name string, params map[string]string) error {
	found, err := config.FindFilter(t.folder(), t.library, name, params, "")
	if err != nil {
		return err
	}
	found.Filter.UseDNS = "raw" // names are shown as they stand
	found.Filter.Jail = found.Filter.Name
	rules, err := filter.Compile(found.Filter)
	if err != nil {
		return fmt.Errorf("filter %s: %w", name, err)
	}
	log, err := t.openLog(logfile)
	if err != nil {
		return err
	}
	defer log.Close()

	trial := filter.NewTrial(filter.TrialOptions{}, rules)
	line := bantam.Line{Read: t.now}
	if params["logtype"] == "journal" {
		line.Time = t.now // the journal hands the time over apart from the text
	}
	out := bufio.NewWriterSize(t.stdout, 64<<10)
	e := json.NewEncoder(safeJSON{out})
	e.SetEscapeHTML(false)
	for {
		text, _, err := log.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read %s: %w", logfile, err), out.Flush())
		}
		if log.lines%askedEvery == 0 && ctx.Err() != nil {
			return errors.Join(ctx.Err(), out.Flush())
		}
		line.Text = text
		reply := regexReply{N: log.lines, Line: string(text)}
		outcome := &trial.Try(&line)[0]
		reply.Ignored = outcome.Ignored > 0
		for _, hit := range outcome.Hits {
			if hit.Quiet || hit.Host == "" {
				continue
			}
			reply.Match, reply.Host, reply.Regex = true, hit.Host, hit.Regex
			if user, ok := hit.Lookup("user"); ok {
				reply.User = &user
			}
			if !hit.Time.IsZero() {
				reply.Time = hit.Time.In(time.Local).Format(time.RFC3339)
			}
			break
		}
		if err := e.Encode(&reply); err != nil {
			return fmt.Errorf("print line %d: %w", log.lines, err)
		}
	}
	log.progress.end()
	if err := out.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// maxRegexLine is how much of a line is judged; what is beyond is passed over.
const maxRegexLine = 1 << 20

// A logReader reads a log's lines once, in memory that does not grow with it.
type logReader struct {
	in       io.Reader
	r        *bufio.Reader
	ready    []byte // of r's buffer, lines that next has not handed out
	lines    int64  // read so far
	progress progress
	long     []byte // scratch: a line that does not fit the buffer
}

// openLog opens a log to be tried on; "-" is standard input.
func (t *regexTrial) openLog(name string) (*logReader, error) {
	var log io.Reader = os.Stdin
	size := int64(0)
	if name != "-" {
		in, err := os.Open(name)
		if err != nil {
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err
			}
			return nil, fmt.Errorf("open the log %s: %w", name, err)
		}
		info, err := in.Stat()
		if err == nil && info.IsDir() {
			err = errors.New("it is a folder")
		}
		var unpacked *source.LogReader
		if err == nil {
			unpacked, err = source.Unpack(in)
		}
		if err != nil {
			in.Close()
			return nil, fmt.Errorf("open the log %s: %w", name, err)
		}
		if log = in; unpacked.Compressed() {
			log = unpacked
		} else if _, err := in.Seek(0, io.SeekStart); err == nil {
			size = info.Size()
		} else {
			log = unpacked // a pipe, of which the beginning was looked at
		}
	}
	p := progress{out: terminal(t.stderr), size: size}
	if t.json && terminal(t.stdout) != nil {
		p.out = nil // the answers are to be seen there
	}
	return newLogReader(log, p), nil
}

func newLogReader(in io.Reader, p progress) *logReader {
	return &logReader{in: in, r: bufio.NewReaderSize(in, 256<<10), progress: p}
}

// next is the next line without its line end, valid until the next call, and whether it
// had one. Its error is io.EOF behind the last line.
func (l *logReader) next() (text []byte, ended bool, err error) {
	if i := bytes.IndexByte(l.ready, '\n'); i >= 0 {
		text, l.ready = l.ready[:i], l.ready[i+1:]
		l.count(i + 1)
		if i > 0 && text[i-1] == '\r' {
			text = text[:i-1]
		}
		return text, true, nil
	}
	if text, ended, err = l.slow(); err == nil {
		l.ready, _ = l.r.Peek(l.r.Buffered()) // it is there
		i := bytes.LastIndexByte(l.ready, '\n')
		l.ready = l.ready[:i+1]
		_, _ = l.r.Discard(i + 1) // so is this; the bytes stay until r is read again
	}
	return text, ended, err
}

// count books what was read.
func (l *logReader) count(bytes int) {
	l.lines++
	l.progress.read += int64(bytes)
	if l.lines%progressLines == 1 {
		l.progress.show(l.lines)
	}
}

// slow is next where the line is not in the buffer yet.
func (l *logReader) slow() (text []byte, ended bool, err error) {
	text, err = l.r.ReadSlice('\n')
	read := len(text)
	if err == bufio.ErrBufferFull {
		l.long = append(l.long[:0], text...)
		for err == bufio.ErrBufferFull {
			text, err = l.r.ReadSlice('\n')
			read += len(text)
			l.long = append(l.long, text[:min(len(text), maxRegexLine-len(l.long))]...)
		}
		ended = err == nil
		text = l.long
	}
	if err != nil && (err != io.EOF || read == 0) {
		return nil, false, err
	}
	l.count(read)
	n := len(text)
	if n > 0 && text[n-1] == '\n' {
		n, ended = n-1, true
	}
	if n > 0 && text[n-1] == '\r' {
		n--
	}
	return text[:n], ended, nil
}

func (l *logReader) Close() {
	l.progress.end()
	if c, ok := l.in.(io.Closer); ok && l.in != os.Stdin {
		_ = c.Close() // it was only read
	}
}

// terminal is w if that is a terminal, else nil.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return w
}

// progress shows on a terminal how far a long input is read.
type progress struct {
	out   io.Writer // nil: nobody looks
	size  int64     // bytes, 0 if unknown
	read  int64
	next  time.Time // wall time
	shown bool
}

// Few clocks are read for many lines, and short runs show nothing.
const (
	progressLines = 1000
	progressEvery = 200 * time.Millisecond
	progressFirst = time.Second
)

// show says how far it is, if that was not said just now.
func (p *progress) show(lines int64) {
	if p.out == nil {
		return
	}
	now := time.Now()
	if p.next.IsZero() {
		p.next = now.Add(progressFirst)
	}
	if now.Before(p.next) {
		return
	}
	p.next, p.shown = now.Add(progressEvery), true
	if p.size > 0 {
		fmt.Fprintf(p.out, "\r%3d %%  %s read\x1b[K", min(100, 100*p.read/p.size), plural64(lines, "line"))
	} else {
		fmt.Fprintf(p.out, "\r%s read\x1b[K", plural64(lines, "line"))
	}
}

// end wipes what was shown.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}
