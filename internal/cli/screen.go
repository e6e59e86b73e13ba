package cli

import (
	"cmp"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/sys/unix"
)

// screenWidth is how wide a screen may be that is made for everybody.
const screenWidth = 80

// A tint is how a text looks where colours may be used, as parameters of ECMA-48's SGR; "" is as all text.
type tint string

const (
	asEver tint = ""
	faint  tint = "2"
	strong tint = "1"
	doubt  tint = "33"
	wrong  tint = "31"
)

// colourful reports whether colours may be sent to w: it is a terminal that knows them, and nobody has said
// no (no-color.org).
func colourful(w io.Writer, getenv func(string) string) bool {
	return terminal(w) != nil && getenv("NO_COLOR") == "" && getenv("TERM") != "" && getenv("TERM") != "dumb"
}

// tinted is text in a tint, where colours may be used.
func (a *app) tinted(t tint, text string) string {
	if !a.colour || t == asEver || text == "" {
		return text
	}
	return "\x1b[" + string(t) + "m" + text + "\x1b[0m"
}

// width is how many columns a text takes, wide and combining characters minded.
func width(s string) int { return ansi.StringWidth(s) }

// fit is a text of at most so many columns; what is cut off ends in "…".
func fit(s string, columns int) string { return ansi.Truncate(s, max(0, columns), "…") }

// pad is a text of at least so many columns.
func pad(s string, columns int, right bool) string {
	blanks := strings.Repeat(" ", max(0, columns-width(s)))
	if right {
		return blanks + s
	}
	return s + blanks
}

// A cell is one of a table; its text is safe.
type cell struct {
	text string
	tint tint
}

// A column is one of a table.
type column struct {
	title string
	right bool
	// least is to how many columns it may be cut where the table is too wide, 0 for never; those that yield more are
	// cut first.
	least, yield int
	// drop is when it is left out of a table that is too wide even so: 1 is first, 0 never.
	drop int
}

// table is the lines of a table whose columns are two blanks apart, at most so many columns wide if that can be had; 0 is
// no bound. It has a head if a column has a title.
func (a *app) table(most int, columns []column, rows [][]cell) []string {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = width(c.title)
		for _, row := range rows {
			widths[i] = max(widths[i], width(row[i].text))
		}
	}
	if i := dropped(most, columns, widths); i >= 0 {
		fewer := make([][]cell, len(rows))
		for n, row := range rows {
			fewer[n] = slices.Delete(slices.Clone(row), i, i+1)
		}
		return a.table(most, slices.Delete(slices.Clone(columns), i, i+1), fewer)
	}
	for most > 0 {
		total, first := 2*(len(columns)-1), -1
		for i, c := range columns {
			total += widths[i]
			if c.least == 0 || widths[i] <= c.least {
				continue
			}
			if first < 0 || cmp.Or(cmp.Compare(c.yield, columns[first].yield), cmp.Compare(widths[i], widths[first])) > 0 {
				first = i
			}
		}
		if total <= most || first < 0 {
			break
		}
		widths[first]--
	}
	line := func(cells []cell) string {
		var b strings.Builder
		for i, c := range cells {
			text := fit(c.text, widths[i])
			if last := i == len(cells)-1; !last || columns[i].right {
				text = pad(text, widths[i], columns[i].right)
			}
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(a.tinted(c.tint, text))
		}
		return strings.TrimRight(b.String(), " ")
	}
	var lines []string
	if slices.ContainsFunc(columns, func(c column) bool { return c.title != "" }) {
		head := make([]cell, len(columns))
		for i, c := range columns {
			head[i] = cell{c.title, faint}
		}
		lines = append(lines, line(head))
	}
	for _, row := range rows {
		lines = append(lines, line(row))
	}
	return lines
}

// dropped is the column that is left out first of a table that is still too wide with all cut as far as they may be, -1 if
// there is none.
func dropped(most int, columns []column, widths []int) int {
	total, first := 2*(len(columns)-1), -1
	for i, c := range columns {
		if c.least > 0 {
			total += min(widths[i], c.least)
		} else {
			total += widths[i]
		}
		if c.drop > 0 && (first < 0 || c.drop < columns[first].drop) {
			first = i
		}
	}
	if most <= 0 || total <= most {
		return -1
	}
	return first
}

// wrapped puts parts into lines of at most so many columns, with a separator between those of one line.
func wrapped(most int, separator string, parts []string) (lines []string) {
	for _, part := range parts {
		if n := len(lines); n > 0 && width(lines[n-1])+width(separator)+width(part) <= most {
			lines[n-1] += separator + part
		} else {
			lines = append(lines, part)
		}
	}
	return lines
}

// cells are cells that look as ever.
func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i].text = text
	}
	return row
}

// printTable prints a table: on a terminal as wide as that is, else whole, for those who search in it.
func (a *app) printTable(columns []column, rows [][]cell) {
	for _, line := range a.table(a.wide, columns, rows) {
		a.printf("%s\n", line)
	}
}

// terminalWidth is how many columns the terminal has that w is, 0 if it is none or does not say.
func terminalWidth(w io.Writer) int {
	f, ok := terminal(w).(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// printHanging prints a text in lines that fit the terminal, if stdout is one; those after the first are indented so far.
func (a *app) printHanging(indent int, text string) {
	if a.wide > 0 {
		text = hanging(a.wide, indent, text)
	}
	a.printf("%s\n", text)
}

// hanging is a text in lines of so many columns, of which the first already stands so far to the right as the others are
// indented. A word that is longer than a line, as a path or a rule may be, stays whole, so that it can be copied.
func hanging(most, indent int, text string) string {
	return strings.Join(wrapped(max(most-indent, 20), " ", strings.Fields(text)), "\n"+strings.Repeat(" ", indent))
}
