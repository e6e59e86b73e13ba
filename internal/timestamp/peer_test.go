package timestamp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"bantam/internal/peertest"
)

// A peerJob is what testdata/peer.py is asked.
type peerJob struct {
	Patterns string   `json:"patterns"` // as in the option; "" for the built-in ones
	Zone     *string  `json:"zone"`
	TZ       string   `json:"tz"`
	Now      int64    `json:"now"`
	Fresh    bool     `json:"fresh"` // a new detector for each line
	Lines    []string `json:"lines"`
}

// A peerDate is what was found in one line; nil when nothing was.
type peerDate struct {
	start, end int
	time       float64 // NaN when the date is of no possible instant
}

func (p *peerDate) String() string {
	if p == nil {
		return "nothing"
	}
	if math.IsNaN(p.time) {
		return fmt.Sprintf("%d to %d, unreadable", p.start, p.end)
	}
	return fmt.Sprintf("%d to %d, %s", p.start, p.end, time.UnixMicro(int64(math.Round(p.time*1e6))).UTC().Format(time.RFC3339Nano))
}

func (p *peerDate) equal(o *peerDate) bool {
	if p == nil || o == nil {
		return p == o
	}
	if p.start == o.start && p.end == o.end && p.start == p.end {
		return true // what no date means is not this package's to say
	}
	return p.start == o.start && p.end == o.end &&
		(math.IsNaN(p.time) && math.IsNaN(o.time) || math.Abs(p.time-o.time) < 2e-5)
}

func (p *peerDate) UnmarshalJSON(b []byte) error {
	var v [3]*float64
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*p = peerDate{start: int(*v[0]), end: int(*v[1]), time: math.NaN()}
	if v[2] != nil {
		p.time = *v[2]
	}
	return nil
}

// askPeer has the peer do the jobs.
func askPeer(t *testing.T, packages string, jobs []peerJob) [][]*peerDate {
	t.Helper()
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, j := range jobs {
		if err := enc.Encode(j); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), peertest.Python(), filepath.Join("testdata", "peer.py"),
		packages, fmt.Sprint(peerNow().Unix()))
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = &in, &errs
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("the peer does not run: %v: %s", err, errs.Bytes())
	}
	var answers [][]*peerDate
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var a []*peerDate
		if err := json.Unmarshal(s.Bytes(), &a); err != nil {
			a = nil // refused
			if j := jobs[len(answers)]; !bytes.HasPrefix(s.Bytes(), []byte(`"`)) {
				t.Fatalf("%q: answer %.200s: %v", j.Patterns, s.Bytes(), err)
			}
		}
		answers = append(answers, a)
	}
	if len(answers) != len(jobs) {
		t.Fatalf("%d answers to %d jobs: %s", len(answers), len(jobs), errs.Bytes())
	}
	return answers
}

// peerNow is a fixed moment of the running year: which years are plausible follows
// the clock of the machine in the peer, which cannot be told another.
func peerNow() time.Time { return time.Date(time.Now().Year(), 6, 15, 12, 0, 0, 0, time.UTC) }

// ours does a job with this package.
func ours(t *testing.T, j peerJob) (dates []*peerDate, err error) {
	t.Helper()
	local, err := time.LoadLocation(j.TZ)
	if err != nil {
		t.Skip("no zone data on this machine: ", err)
	}
	o := Options{Local: local}
	if j.Zone != nil {
		o.Zone = *j.Zone
	}
	var d *Detector
	for _, line := range j.Lines {
		if d == nil || j.Fresh {
			if d, err = New(strings.Split(j.Patterns, "\n"), o); err != nil {
				return nil, err
			}
		}
		m, ok := d.Find([]byte(line), time.Unix(j.Now, 0))
		if !ok {
			dates = append(dates, nil)
			continue
		}
		p := &peerDate{start: m.Start, end: m.End, time: math.NaN()}
		if !m.Time.IsZero() {
			p.time = float64(m.Time.UnixMicro()) / 1e6
		}
		dates = append(dates, p)
	}
	return dates, nil
}

// compare fails for each line that is read in two ways, up to a bound.
func compare(t *testing.T, packages string, jobs []peerJob) {
	t.Helper()
	theirs := askPeer(t, packages, jobs)
	lines, found, wrong, columns := 0, 0, 0, 0
	for i, j := range jobs {
		got, err := ours(t, j)
		if err == nil && theirs[i] == nil && blankHour.MatchString(j.Patterns) {
			continue
		}
		if (err != nil) != (theirs[i] == nil) {
			t.Errorf("datepattern %q: error %v, the peer's answer %v", j.Patterns, err, theirs[i])
			continue
		}
		if err != nil {
			continue
		}
		for k, line := range j.Lines {
			lines++
			if theirs[i][k] != nil {
				found++
			}
			if got[k].equal(theirs[i][k]) || known(j, line, got[k], theirs[i][k]) {
				continue
			}
			if !j.Fresh && !ascii(j.Lines[:k+1]) {
				// Its columns are characters and ours bytes: which pattern is the
				// leftmost may go by that.
				columns++
				break // what follows goes by this line
			}
			if !j.Fresh {
				t.Errorf("datepattern %q, after %q: %q: got %v, want %v", j.Patterns, j.Lines[:k], line, got[k], theirs[i][k])
				break
			}
			if wrong++; wrong <= 40 {
				zone := ""
				if j.Zone != nil {
					zone = *j.Zone
				}
				t.Errorf("datepattern %q, zone %s %s, line %d:\n%q\n got %v\nwant %v", j.Patterns, j.TZ, zone, k, line, got[k], theirs[i][k])
			}
		}
	}
	t.Logf("%d lines, %d of them with a date, %d read in two ways, %d sequences in another order by their columns", lines, found, wrong, columns)
	if columns > lines/3000+1 {
		t.Errorf("%d sequences of lines differ by their columns", columns)
	}
}

func ascii(lines []string) bool {
	for _, line := range lines {
		for i := range len(line) {
			if line[i] >= 0x80 {
				return false
			}
		}
	}
	return true
}

// hyphenOrColons are dates that later releases of the peer read and this one does not.
var hyphenOrColons = regexp.MustCompile(`^20[0-2]\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:-(?:[01]\d|2[0-3]):?[0-5]\d:?|(?:T|  ?)(?:[01]\d|2[0-3])(?:[0-5]\d:|:[0-5]\d:?))[0-6]\d`)

// blankHour are hours at the start of a datepattern, which the peer cannot compile.
var blankHour = regexp.MustCompile(`^(?:\{\S+?\}|\*\*|\^)?%(?:k|Exk|l|Exl)`)

// known reports whether a difference is one of those in docs/differences.md.
func known(j peerJob, line string, got, want *peerDate) bool {
	switch {
	case got != nil && hyphenOrColons.MatchString(line[got.start:]):
		return true
	case got == nil || want == nil || got.start != want.start || got.end != want.end:
		return false
	}
	diff := math.Abs(got.time - want.time)
	switch {
	case math.IsNaN(got.time) && math.Abs(want.time) > lastSecond:
		return true
	case j.TZ != "UTC":
		// The hour that a clock set back shows twice, or leaves out when set forward.
		local, err := time.LoadLocation(j.TZ)
		at := time.Unix(int64(got.time), 0).In(local)
		_, before := at.Add(-3 * time.Hour).Zone()
		_, after := at.Add(3 * time.Hour).Zone()
		return err == nil && diff == 3600 && before != after
	}
	return diff == 24*3600 && movedDay(line[got.start:got.end], time.Unix(int64(got.time), 0).UTC(), time.Unix(int64(want.time), 0).UTC())
}

var (
	zoneText = regexp.MustCompile(`[A-Z]*[+-]\d\d(?::?\d\d)?`)
	zoneName = regexp.MustCompile(`[A-Z]+`)
)

// movedDay reports whether a date without year was moved to the last one, and want
// keeps the day that was written for what in Greenwich is another one.
func movedDay(date string, got, want time.Time) bool {
	date = strings.ToUpper(date)
	for _, z := range append(zoneText.FindAllString(date, -1), zoneName.FindAllString(date, -1)...) {
		offset, ok := zoneOffset(z)
		if written := got.Add(time.Duration(offset) * time.Second); ok && written.Year() == peerNow().Year()-1 && written.YearDay() == want.YearDay() {
			return true
		}
	}
	return false
}

// A dice makes random lines, the same in every run unless BANTAM_PEER_SEED is set.
type dice struct{ *rand.Rand }

func newDice(t *testing.T) dice {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("BANTAM_PEER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return dice{rand.New(rand.NewPCG(seed, 1))}
}

func (r dice) of(s ...string) string { return s[r.IntN(len(s))] }
func (r dice) one(in int) bool       { return r.IntN(in) == 0 }

// num is a number from low to high, now and then one beyond, with or without zero.
func (r dice) num(low, high int) string {
	n := low + r.IntN(high-low+1)
	if r.one(30) {
		n = high + r.IntN(3)
	}
	switch r.IntN(12) {
	case 0:
		return fmt.Sprint(n)
	case 1:
		return fmt.Sprintf("%2d", n)
	}
	return fmt.Sprintf("%02d", n)
}

func (r dice) year() string {
	switch r.IntN(8) {
	case 0:
		return fmt.Sprintf("%04d", r.IntN(10000))
	case 1:
		return fmt.Sprint(1990 + r.IntN(50))
	case 2:
		return fmt.Sprint(time.Now().Year() + r.IntN(3) - 1)
	}
	return fmt.Sprint(2000 + r.IntN(30))
}

func (r dice) cased(s string) string {
	switch r.IntN(12) {
	case 0:
		return strings.ToLower(s)
	case 1:
		return strings.ToUpper(s)
	}
	return s
}

func (r dice) month() string {
	return r.cased(r.of("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"))
}

func (r dice) weekday() string {
	return r.cased(r.of("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"))
}

func (r dice) clock() string {
	return r.num(0, 23) + ":" + r.num(0, 59) + ":" + r.num(0, 59)
}

func (r dice) fraction(marks ...string) string {
	if r.one(2) {
		return ""
	}
	return r.of(marks...) + fmt.Sprintf("%09d", r.IntN(1e9))[:1+r.IntN(7)]
}

func (r dice) zone() string {
	switch r.IntN(4) {
	case 0:
		return r.of("Z", "UTC", "GMT", "CET", "EST", "z", "XYZ", "PDT", "A", "utc")
	case 1:
		return r.of("", "CET", "UTC", "GMT") + r.offset()
	}
	return r.offset()
}

func (r dice) offset() string {
	s := r.of("+", "-") + fmt.Sprintf("%02d", r.IntN(13))
	return s + r.of("", ":", "") + r.of("00", "30", "45", "00", "") + r.of("", "", "", "", "5")
}

func (r dice) maybe(s string) string {
	if r.one(2) {
		return ""
	}
	return s
}

// date is a date in the format of that row of the built-in ones.
func (r dice) date(format int, zoned bool) string {
	zone := func(blank string) string {
		if !zoned || r.one(2) {
			return ""
		}
		return blank + r.zone()
	}
	sep := func(s ...string) (string, string) {
		a := r.of(s...)
		if r.one(25) {
			return a, r.of(s...)
		}
		return a, a
	}
	asctime := func() string {
		return r.maybe(r.weekday()+" ") + r.month() + " " + r.num(1, 31) + " " + r.clock() + r.fraction(".") + r.maybe(" "+r.year())
	}
	two := func() string { return fmt.Sprintf("%02d", r.IntN(100)) }
	switch format {
	case 0:
		a, b := sep("-", "/", ".")
		return r.year() + a + r.num(1, 12) + b + r.num(1, 31) + r.of("T", " ", "  ") + r.clock() + r.fraction(".", ",") + zone(r.of("", " ", "  ", "\t"))
	case 1:
		return asctime()
	case 2:
		return r.maybe(r.weekday()+" ") + r.month() + " " + r.num(1, 31) + " " + r.year() + " " + r.clock() + r.fraction(".")
	case 3:
		a, b := sep("-", "/")
		return r.num(1, 31) + a + r.num(1, 12) + b + r.of(r.year(), two()) + " " + r.clock()
	case 4:
		a, b := sep("-", "/")
		return r.num(1, 31) + a + r.month() + b + r.year() + r.of("", " ", ":", ":") + r.clock() + r.fraction(".") + zone(r.of("", " "))
	case 5:
		return r.num(1, 12) + "/" + r.num(1, 31) + "/" + r.year() + ":" + r.clock()
	case 6:
		return r.num(1, 12) + "-" + r.num(1, 31) + "-" + r.year() + " " + r.clock() + r.fraction(".")
	case 7:
		n := fmt.Sprint(r.Int64N(1e11)) + r.fraction(".")
		return r.of(n, n, "["+n+"]", "audit("+n+":45)", "type=X msg=audit("+n+":45): x")
	case 8:
		return r.clock()
	case 9:
		return "<" + r.num(1, 12) + "/" + r.num(1, 31) + "/" + two() + "@" + r.clock() + ">"
	case 10:
		return two() + r.num(1, 12) + r.num(1, 31) + r.of(" ", "  ") + r.clock()
	case 11:
		return r.month() + " " + r.num(1, 31) + ", " + r.year() + " " + r.num(1, 12) + ":" + r.num(0, 59) + ":" + r.num(0, 59) + " " + r.of("AM", "PM", "am", "pm")
	case 12:
		return r.month() + "-" + r.num(1, 31) + "-" + two() + " " + r.clock()
	case 13:
		// The package's Fail2Ban does not know the hyphen and the colons that
		// later ones read here.
		return r.year() + r.num(1, 12) + r.num(1, 31) + r.of("T", " ", "  ") + r.num(0, 23) + r.num(0, 59) + r.num(0, 59) + r.fraction(".", ",") + zone(r.of("", " "))
	case 14:
		if !zoned {
			return r.of("host ", "ab ", "x ") + asctime()
		}
		return r.of("host ", "PDT ", "CEST ", "Z ", "Q ", "AB ", "CET ", "XYZ ", "est ", "UTC ") + asctime()
	case 15:
		if !zoned {
			return asctime()
		}
		return r.offset() + " " + asctime()
	}
	return "@4" + fmt.Sprintf("%015x%08x", r.Int64N(1<<33), r.Uint32()) + r.of("", "", "0")
}

// line is a date with text around it, now and then spoilt.
func (r dice) line(format int, zoned bool) string {
	date := r.date(format, zoned)
	if r.one(3) {
		date = r.spoil(date)
	}
	before := r.of("", "", "", "", "", "[", "<[", "<14>", " ", "x", "x ", "_", "[[[", "192.0.2.1 - - [", "myhost ", "web: ", "é ", "é", "2026-01-", "Jan ", "(", "«")
	after := r.of("", " x", "]", "x", "_", " 2026", "é", " é", "»", ": 11:00:00", ".5", ", ", " gate sshd[1]: x", " +0100 Jun 15 10:00:00", "0", ">")
	return before + date + after
}

// spoil changes, doubles or drops a character or two.
func (r dice) spoil(s string) string {
	b := []rune(s)
	for n := 1 + r.IntN(2); n > 0 && len(b) > 0; n-- {
		i := r.IntN(len(b))
		switch r.IntN(5) {
		case 0:
			b[i] = rune(r.of("x", "0", "9", " ", "-", "/", ":", ".", "T", "Z", "+", "[", "M", "é", "_", ",", "a")[0])
		case 1:
			b = append(b[:i], b[i+1:]...)
		case 2:
			b = append(b[:i+1], b[i:]...)
		case 3:
			b = b[:i]
		case 4:
			b[i], b[len(b)-1] = b[len(b)-1], b[i]
		}
	}
	return string(b)
}

// The distribution's Fail2Ban reads the same. BANTAM_PEER_FULL=1 asks it about five
// times as many lines.
func TestPeer(t *testing.T) {
	packages := peertest.Modules(peertest.Tree(t))
	for name, test := range map[string]func(*testing.T, string){
		"dates": peerReadsTheSameDates, "order": peerRanksTheSame,
		"patterns": peerReadsTheSamePatterns, "special patterns": peerReadsTheSameSpecialPatterns,
	} {
		t.Run(name, func(t *testing.T) { test(t, packages) })
	}
}

// few is n for a full run and a fifth of it for the usual one.
func few(n int) int {
	if os.Getenv("BANTAM_PEER_FULL") != "" {
		return n
	}
	return n / 5
}

// Random dates in every built-in format, each by a new detector.
func peerReadsTheSameDates(t *testing.T, packages string) {
	r := newDice(t)
	now := peerNow().Unix()
	var jobs []peerJob
	for format := range formats {
		for _, tz := range []string{"UTC", "Europe/Berlin", "America/New_York"} {
			j := peerJob{TZ: tz, Now: now, Fresh: true}
			for range few(500) {
				j.Lines = append(j.Lines, r.line(format, tz == "UTC"))
			}
			jobs = append(jobs, j)
		}
	}
	compare(t, packages, jobs)
}

// Lines of several formats seen by one detector: which pattern wins, and which is
// tried first the next time.
func peerRanksTheSame(t *testing.T, packages string) {
	r := newDice(t)
	now := peerNow().Unix()
	var jobs []peerJob
	for range few(300) {
		j := peerJob{TZ: "UTC", Now: now}
		formats := []int{r.IntN(len(formats)), r.IntN(len(formats)), r.IntN(len(formats)), 1, 0}[:1+r.IntN(5)]
		for range 40 {
			f := formats[r.IntN(len(formats))]
			line := r.of("", "", "", "[", "192.0.2.1 - - [", "x ", "192.0.2.111 - bob [", "app: ", "11-") + r.date(f, true)
			if r.one(3) {
				line += r.of(" ", "] ", " x ") + r.date(formats[r.IntN(len(formats))], true)
			}
			j.Lines = append(j.Lines, line+r.of("", " x", "] x"))
		}
		jobs = append(jobs, j)
	}
	compare(t, packages, jobs)
}

// codeTexts are random texts for the %-codes; now and then one the code refuses.
func (r dice) codeText(code string) string {
	two := func(low, high int) string { return fmt.Sprintf("%02d", low+r.IntN(high-low+1)) }
	switch code {
	case "Y", "ExY", "G":
		return r.year()
	case "y", "Exy":
		return two(0, 99)
	case "m":
		return r.num(1, 12)
	case "d":
		return r.num(1, 31)
	case "Exm":
		return two(1, 13)
	case "Exd":
		return two(1, 31)
	case "H", "k", "Exk":
		return r.num(0, 23)
	case "ExH":
		return two(0, 24)
	case "I", "l", "Exl":
		return r.num(1, 12)
	case "M", "S":
		return r.num(0, 59)
	case "ExM", "ExS":
		return two(0, 61)
	case "f":
		return fmt.Sprint(r.IntN(1e7))
	case "p":
		return r.of("AM", "PM", "am", "pm", "Pm", "XM")
	case "j":
		return fmt.Sprintf(r.of("%03d", "%d"), 1+r.IntN(367))
	case "U", "W", "V":
		return fmt.Sprintf(r.of("%02d", "%d"), r.IntN(54))
	case "w", "u":
		return fmt.Sprint(r.IntN(8))
	case "z", "Z", "Exz", "ExZ":
		return r.zone()
	case "a":
		return r.weekday()
	case "b":
		return r.month()
	case "A":
		return r.cased(r.of("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"))
	case "B":
		return r.cased(r.of("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"))
	case "c":
		return r.weekday() + " " + r.month() + " " + r.num(1, 31) + " " + r.clock() + " " + r.year()
	case "x":
		return r.num(1, 12) + "/" + r.num(1, 31) + "/" + two(0, 99)
	case "X":
		return r.clock()
	case "{EPOCH}", "{LEPOCH}":
		return fmt.Sprint(r.Int64N(1e11)) + fmt.Sprint(r.IntN(1e7))[:r.IntN(2)] + r.of("", "", "", "."+fmt.Sprint(100+r.IntN(900)))
	}
	return ""
}

// Datepatterns of every %-code, put together at random.
func peerReadsTheSamePatterns(t *testing.T, packages string) {
	r := newDice(t)
	kinds := [][]string{
		{"Y", "ExY", "y", "Exy", "Y"},
		{"m", "Exm", "b", "B"},
		{"d", "Exd"},
		{"H", "ExH", "k", "Exk", "I", "l", "Exl"},
		{"M", "ExM"},
		{"S", "ExS"},
		{"f"},
		{"p"},
		{"z", "Z", "Exz", "ExZ"},
		{"a", "A"},
		{"j"},
		{"U", "W"},
		{"w"},
		{"V", "G", "u"},
		{"c", "x", "X"},
	}
	now := peerNow().Unix()
	var jobs []peerJob
	for range few(1000) {
		order := r.Perm(len(kinds))
		switch r.IntN(3) {
		case 0:
			order = []int{0, 1, 2, 3, 4, 5, 8}[:3+r.IntN(5)]
		case 1:
			order = []int{0, 10 + r.IntN(2), 12}
		default:
			order = order[:1+r.IntN(5)]
		}
		var pattern strings.Builder
		var codes, seps []string
		pattern.WriteString(r.of("", "", "", "^", "{^LN-BEG}", "{UNB}", "**", `\[`, "at "))
		var lead string
		switch p := pattern.String(); p {
		case `\[`:
			lead = "["
		case "at ":
			lead = p
		}
		group := r.one(6)
		if group {
			pattern.WriteString("(")
		}
		for i, k := range order {
			code := kinds[k][r.IntN(len(kinds[k]))]
			if i > 0 {
				sep := r.of("-", " ", ":", "/", "", "T", ", ")
				seps = append(seps, sep)
				pattern.WriteString(sep)
			}
			codes = append(codes, code)
			pattern.WriteString("%" + code)
		}
		if group {
			pattern.WriteString(")")
		}
		pattern.WriteString(r.of("", "", "", "**", "$", `\s`, "%%"))
		j := peerJob{TZ: "UTC", Now: now, Fresh: r.one(2), Patterns: pattern.String()}
		for range 12 {
			line := r.of("", "", "", "x ", "[", "x") + lead
			for i, c := range codes {
				if i > 0 {
					line += seps[i-1]
				}
				line += r.codeText(c)
			}
			if r.one(4) {
				line = r.spoil(line)
			}
			j.Lines = append(j.Lines, line+r.of("", " x", "x", "]", " ", "%", "% x"))
		}
		jobs = append(jobs, j)
	}
	compare(t, packages, jobs)
}

// Datepatterns as filters have them, on dates of every built-in format.
func peerReadsTheSameSpecialPatterns(t *testing.T, packages string) {
	r := newDice(t)
	now := peerNow().Unix()
	var jobs []peerJob
	for _, p := range []string{
		"{^LN-BEG}", "{^ln-beg}", "Epoch", "^Epoch", "{^LN-BEG}Epoch", "LEPOCH", "^LEPOCH", "{^LN-BEG}LEPOCH", "TAI64N", "{^LN-BEG}TAI64N", "^TAI64N", "tai64n",
		"at {EPOCH}", "{EPOCH}", "{LEPOCH}", `"ts":{LEPOCH}`, "{NONE}", `^[^\[]*\[({DATE})`, "^{DATE}", "{^LN-BEG}{DATE}", "{DATE}",
		`^(?:x )?\[?{DATE}`, "^prefix()**", `%Y-%m-%d (x)?%H:%M`, `%d(?P<s>[-/])%m(?P=s)%Y`, "%Y-%m-%d\n{^LN-BEG}", "^%%%Y", "%H:%M\n%Y",
		`(?<=\[)%d/%b/%Y:%H:%M:%S`, `(?i)^x %Y`, `^(?:x )%Y[-/]%m`, `\b%Y-%m-%d\b`, `(^|\s)%H:%M`, `[(]%Y`, `{UNB}%H:%M:%S`, `**%H:%M:%S**`,
		"%H:%M:%S\n%Y-%m-%d %H:%M:%S", "\n  %Y\n\n", "ISO8601",
	} {
		for _, fresh := range []bool{true, false} {
			j := peerJob{TZ: "UTC", Now: now, Fresh: fresh, Patterns: p}
			for format := range formats {
				for range few(10) {
					j.Lines = append(j.Lines, r.line(format, true))
				}
			}
			for range few(20) {
				n := fmt.Sprint(r.Int64N(1e11))
				j.Lines = append(j.Lines, r.of("", "at ", `{"ts":`, "x at ", "[", "x")+n+fmt.Sprint(r.IntN(1e7))[:r.IntN(2)]+r.of("", "123", ".123", "123456", "123.456", ".12")+r.of("", " x", "]", "}", "x"),
					r.of("prefix", "prefixed", "x prefix ", "é prefix")+r.of("", " x"), r.of("2026-06-15 x11:00 z", "15.06.2026 11", "%2026", "x 2026 x", "12:30"))
			}
			jobs = append(jobs, j)
		}
	}
	compare(t, packages, jobs)
}
