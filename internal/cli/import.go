package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"bantam"
	"bantam/internal/config"
	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/jail"
)

// Bounds of one request, and of what is told of an import.
const (
	importedAtOnce = 4000
	importedBytes  = 512 << 10
	longestEntry   = 1 << 10 // bytes of a line's first word
	mostRefused    = 20      // of one kind that are printed
	longestJSON    = 1 << 30 // bytes of a list in JSON
	mostUnknown    = 100     // jails that do not run here, by their names
)

// othersJails stands for the jails beyond mostUnknown.
const othersJails = "(others)"

// databaseNames are what the database in a folder may be called.
var databaseNames = []string{"fail2ban.sqlite3", "bantam.db"}

func (a *app) importCommand() *cobra.Command {
	var name, length, reason string
	cmd := &cobra.Command{
		Use:   "import FILE|DIR|-",
		Short: "Take over bans of a database or a list",
		Long: `Take over bans into the running daemon:

  - a database of Fail2Ban's, of any version, or of Bantam's: its running
    bans, in the jails of the same names, with their ends; bans of jails that
    do not run here are named and left out, unless --jail says where to
  - a list of addresses and prefixes, one a line; what follows the first word
    is not read, nor is what begins with # or ;
  - what bantam banned --json has printed

A folder is a database's, or one of lists. - is a list on standard input. Lists are banned in the jail "manual", on
all ports, for ever, unless --jail and --for say otherwise. Whom the allow list or a jail's ignoreip lets off is not
banned, nor the address of an administrator's session, nor what is nearly everybody, as 0.0.0.0/0. What is no address
is named with its line, and the exit code is 1.`,
		Example: "  bantam import /var/lib/fail2ban\n  bantam import blocklist.txt --for 1w --reason 'blocklist'\n  ssh other bantam banned --json | bantam import -",
		Args:    exactlyOne("a file, a folder, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			i := importer{app: a, ctx: cmd.Context(), jail: name, reason: reason, now: time.Now()}
			i.show.out = terminal(a.stderr)
			if length != "" {
				s, err := config.Seconds(length)
				if err != nil || s == 0 {
					return usageError{fmt.Errorf("--for: %w", cmp.Or(err, errors.New("a ban of no length is none")))}
				}
				i.seconds = s
			}
			return i.run(args[0])
		},
	}
	cmd.Flags().StringVarP(&name, "jail", "j", "", "the jail that bans (default manual for lists, the bans' own for databases)")
	cmd.Flags().StringVar(&length, "for", "", "how long, as 10m, 2h, 1w; -1 is for ever")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look later")
	a.completeJail(cmd)
	return cmd
}

// An importer takes over bans in parts.
type importer struct {
	*app
	ctx     context.Context
	jail    string  // "" for the bans' own, or manual
	seconds float64 // 0 for the bans' own, or for ever
	reason  string
	now     time.Time

	waiting []control.ImportBan
	places  []string // of each of them, for people
	bytes   int
	show    progress
	read    int64

	reply importReply
}

// importReply is what import prints as JSON.
type importReply struct {
	Banned   int             `json:"banned"`
	Observed int             `json:"observed"`
	Already  int             `json:"already"`
	Over     int             `json:"over"`
	Refused  []importRefused `json:"refused"` // the first of each kind
	// Unknown are how many bans there were of jails that do not run, and Wrong entries that are no address.
	Unknown map[string]int `json:"unknown_jails"`
	Wrong   int            `json:"wrong"`
	LetOff  int            `json:"let_off"` // by the allow list, an ignore rule, or as an administrator of the other host
}

type importRefused struct {
	Place string `json:"place"`
	Why   string `json:"why"`
}

func (i *importer) run(from string) error {
	i.reply.Refused, i.reply.Unknown = []importRefused{}, map[string]int{}
	// Who is not there is told before anything is read.
	if _, err := control.Call(i.ctx, control.NewClient(i.socket), control.Ping, control.None{}); err != nil {
		return err
	}
	err := i.all(from)
	if err == nil {
		err = i.flush()
	}
	i.show.end()
	switch {
	case err == nil && i.json:
		i.print(i.reply)
	case err == nil, !i.json && i.reply.Banned+i.reply.Observed > 0:
		i.printReply()
	}
	if err == nil && i.reply.Wrong+len(i.reply.Unknown) > 0 {
		return errSilent
	}
	return err
}

// all reads what there is to be taken over.
func (i *importer) all(from string) error {
	if from == "-" {
		return i.list("standard input", os.Stdin)
	}
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if !info.IsDir() {
		return i.file(from)
	}
	for _, name := range databaseNames {
		if file := filepath.Join(from, name); isFile(file) {
			return i.database(file)
		}
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	found := false
	for _, e := range entries {
		if file := filepath.Join(from, e.Name()); e.Name()[0] != '.' && isFile(file) {
			found = true
			if err := i.file(file); err != nil {
				return err
			}
		}
	}
	if !found {
		return control.Refuse("name a file", "%s holds no database and no list", from)
	}
	return nil
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// file takes over a database or a list.
func (i *importer) file(name string) (err error) {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("import: %w", err)
	}
	if strings.HasPrefix(string(head[:n]), "SQLite format 3") { // sqlite.org/fileformat.html, 1.3
		return i.database(name)
	}
	if info, err := f.Stat(); err == nil {
		i.show.size += info.Size()
	}
	return i.list(name, io.MultiReader(bytes.NewReader(head[:n]), f))
}

// database takes over the running bans of a database.
func (i *importer) database(name string) error {
	rows := 0
	err := daemon.ReadBans(i.ctx, i.folder(), i.library, name, i.now, func(b bantam.Ban) error {
		rows++
		i.read++
		i.show.show(i.read)
		one := control.ImportBan{ID: b.ID, Jail: cmp.Or(i.jail, b.Jail), End: b.End, Reason: b.Reason}
		if b.Permanent() {
			one.Seconds = -1
		}
		return i.add(one, fmt.Sprintf("%s: %s", filepath.Base(name), b.Jail))
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil {
		return err
	}
	var refused *control.Error
	if errors.As(err, &refused) {
		return err
	}
	return &control.Error{Text: err.Error(), Hint: "import takes databases of Fail2Ban's and of Bantam's, and lists of addresses"}
}

// list takes over a list: text, or the JSON of banned.
func (i *importer) list(name string, from io.Reader) error {
	in := bufio.NewReaderSize(from, 64<<10)
	head, err := in.Peek(4 << 10) // as much as it takes to tell
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("import %s: %w", name, err)
	}
	if isJSON(head) {
		return i.bans(name, in)
	}
	return i.lines(name, in)
}

// isJSON reports whether what begins so is an object or a list of objects; a line may begin with a bracket, too.
func isJSON(head []byte) bool {
	head = bytes.TrimSpace(head)
	rest, list := bytes.CutPrefix(head, []byte("["))
	if rest = bytes.TrimSpace(rest); list && len(rest) > 0 && rest[0] == ']' {
		return true
	}
	return len(rest) > 0 && rest[0] == '{'
}

// lines takes over a list of a word a line.
func (i *importer) lines(name string, in *bufio.Reader) error {
	for n := 1; ; n++ {
		line, more, err := in.ReadLine()
		read := len(line) + 1
		// What is too long is no address, whatever follows.
		text := strings.TrimPrefix(string(line[:min(len(line), longestEntry)]), "\ufeff")
		for more && err == nil {
			line, more, err = in.ReadLine()
			read += len(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("import %s: %w", name, err)
		}
		i.show.read += int64(read)
		i.read++
		i.show.show(i.read)
		if at := strings.IndexAny(text, "#;"); at >= 0 {
			text = text[:at]
		}
		words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == ',' })
		if len(words) == 0 {
			continue
		}
		place := fmt.Sprintf("%s:%d", name, n)
		id, err := bantam.ParsePrefix(words[0])
		if err != nil {
			i.wrong(place, err.Error())
			continue
		}
		if err := i.add(i.forever(control.ImportBan{ID: id, Jail: i.jail}), place); err != nil {
			return err
		}
	}
}

// forever gives a ban of a list its length.
func (i *importer) forever(b control.ImportBan) control.ImportBan {
	if b.Jail == "" || b.Jail == jail.Manual {
		b.Seconds = -1
	}
	return b // other jails know how long they ban
}

// bans takes over what banned --json prints, or a list of such bans.
func (i *importer) bans(name string, in *bufio.Reader) error {
	var bans []bantam.Ban
	raw, err := io.ReadAll(io.LimitReader(in, longestJSON))
	if err == nil {
		if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
			err = json.Unmarshal(raw, &bans)
		} else {
			var reply control.BansReply
			err = json.Unmarshal(raw, &reply)
			bans = reply.Bans
		}
	}
	if err != nil {
		return &control.Error{Text: fmt.Sprintf("import %s: %v", name, err), Hint: "a list in JSON is what bantam banned --json prints"}
	}
	for n, b := range bans {
		place := fmt.Sprintf("%s: ban %d", name, n+1)
		if b.ID.IsZero() {
			i.wrong(place, "it says nobody")
			continue
		}
		if b.Held() {
			i.letOff(place, fmt.Sprintf("%s is held back where the list is from: %s", b.ID, b.Reason))
			continue
		}
		one := control.ImportBan{ID: b.ID, Jail: cmp.Or(i.jail, b.Jail), End: b.End, Reason: b.Reason}
		if b.Permanent() {
			one.Seconds = -1
		}
		if err := i.add(one, place); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) wrong(place, why string) {
	if i.reply.Wrong++; i.reply.Wrong <= mostRefused {
		i.reply.Refused = append(i.reply.Refused, importRefused{place, why})
	}
}

func (i *importer) letOff(place, why string) {
	if i.reply.LetOff++; i.reply.LetOff <= mostRefused {
		i.reply.Refused = append(i.reply.Refused, importRefused{place, why})
	}
}

// add puts a ban among those that wait, and has them taken over when they are many.
func (i *importer) add(b control.ImportBan, place string) error {
	if i.seconds != 0 {
		b.End, b.Seconds = time.Time{}, i.seconds
	}
	b.Seconds = min(b.Seconds, math.MaxInt64)
	const most = 4096 // as a reason, a name and an ID are long at most
	if len(b.Reason) > most || len(b.Jail) > most || len(b.ID.String()) > most {
		i.wrong(place, "it is too long")
		return nil
	}
	i.waiting, i.places = append(i.waiting, b), append(i.places, place)
	// Each character is six bytes of JSON at most.
	if i.bytes += 200 + 6*(len(b.Reason)+len(b.Jail)) + 6*len(b.ID.String()); len(i.waiting) == importedAtOnce || i.bytes >= importedBytes {
		return i.flush()
	}
	return nil
}

// flush has the daemon take over those that wait.
func (i *importer) flush() error {
	if len(i.waiting) == 0 {
		return nil
	}
	reply, err := control.Call(i.ctx, control.NewClient(i.socket), control.Import, control.ImportRequest{Bans: i.waiting, Reason: i.reason})
	if err != nil {
		return err
	}
	i.reply.Banned += reply.Banned
	i.reply.Observed += reply.Observed
	i.reply.Already += reply.Already
	i.reply.Over += reply.Over
	for _, r := range reply.Refused {
		if r.Place < 0 || r.Place >= len(i.waiting) {
			continue
		}
		if r.Unknown {
			name := i.waiting[r.Place].Jail
			if _, known := i.reply.Unknown[name]; !known && len(i.reply.Unknown) >= mostUnknown {
				name = othersJails
			}
			i.reply.Unknown[name]++
			continue
		}
		i.letOff(i.places[r.Place], r.Why)
	}
	i.waiting, i.places, i.bytes = i.waiting[:0], i.places[:0], 0
	return nil
}

// printReply says what became of all.
func (i *importer) printReply() {
	r := &i.reply
	for _, x := range r.Refused {
		i.printf("%s: %s\n", safe(x.Place), safe(x.Why))
	}
	if rest := r.Wrong + r.LetOff - len(r.Refused); rest > 0 {
		i.printf("and %d more like these\n", rest)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unknown)) {
		i.printf("%s of the jail %s left out: it does not run here; --jail says who bans them\n", plural(r.Unknown[name], "ban"), safe(name))
	}
	parts := []string{plural(r.Banned, "ban") + " taken over"}
	for _, p := range []struct {
		n    int
		text string
	}{{r.Observed, "observed only"}, {r.Already, "banned already"}, {r.Over, "over meanwhile"}, {r.LetOff, "let off"}, {r.Wrong, "no address"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.text))
		}
	}
	i.printf("%s\n", strings.Join(parts, ", "))
}
