package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bantam"
)

// A sheet is an edition put into words, before it becomes text or HTML. All of its texts are plain.
type sheet struct {
	subject string // without the machine's name
	place   string // the machine, and the jail if it is about one
	title   string
	intro   string
	colour  string
	facts   []fact
	blocks  []block
	foot    string
}

// A block is a list of lines under a heading.
type block struct {
	title string
	lines []string
	code  bool // they are commands
	rows  bool // they are a table in columns, which is not to be wrapped
}

// What messages look like, by what they are about.
const (
	red   = "#c0392b" // bans
	green = "#1e8449" // the end of bans
	amber = "#b9770e" // what was only observed
	blue  = "#2471a3" // everything else
)

// Bounds of a message.
const (
	maxEvents     = 50  // that a digest lists
	maxLogLines   = 30  // of a ban
	maxWhoisLines = 40  // of an answer
	maxLine       = 500 // characters of either
	maxJails      = 20  // that are counted one by one
)

// describe puts an edition into words. lines and whois say whether log lines and the network's
// registration belong to it.
func describe(e *Edition, lines, whois bool) *sheet {
	host := plain(e.Host, maxName)
	p := &sheet{place: host, colour: blue, foot: "Bantam on " + host}
	switch {
	case e.Test:
		p.title = "This channel works"
		p.subject = "a test of this channel"
		p.intro = "Somebody on " + host + " tried whether messages of Bantam arrive here. This one did, sent " +
			when(e.At, e.At.Location()) + "."
	case e.single():
		p.event(e, lines, whois)
	case len(e.Events) > 0 || e.More > 0:
		p.digest(e)
	}
	p.jails(e)
	return p
}

// single reports whether an edition is about one event, which is told in full.
func (e *Edition) single() bool { return len(e.Events) == 1 && e.More == 0 }

// event tells one event in full.
func (p *sheet) event(e *Edition, lines, whois bool) {
	event := &e.Events[0]
	b := &event.Decision.Ban
	p.subject = event.headline()
	p.title = p.subject
	p.colour = event.colour()
	switch {
	case b.Held():
		p.intro = event.id() + " failed " + many(b.Failures, "time") + " but has " + plain(b.Reason, maxValue) + ". Nothing was done."
	case b.Observed:
		p.intro = "This jail only observes: nothing was done."
	}
	p.facts = event.facts(e.At.Location())
	if lines && len(b.Lines) > 0 {
		title := "Log lines"
		log := b.Lines
		if n := len(log) - maxLogLines; n > 0 {
			title += fmt.Sprintf(" (the last %d of %s)", maxLogLines, grouped(len(log)))
			log = log[n:]
		}
		p.blocks = append(p.blocks, block{title: title, lines: plainLines(log, maxLogLines)})
	}
	if why := command("why", b.ID); why != "" {
		do := []string{why}
		if event.Decision.Kind != bantam.End && !b.Observed {
			do = append(do, command("unban", b.ID))
		}
		title := "Why, and how to undo it"
		if len(do) == 1 {
			title = "Why"
		}
		p.blocks = append(p.blocks, block{title: title, lines: do, code: true})
	}
	if whois && event.Whois != nil && event.Whois.Text != "" {
		text := strings.Split(strings.Trim(event.Whois.Text, "\r\n"), "\n")
		for i := range text {
			text[i] = strings.TrimSuffix(text[i], "\r")
		}
		title := "WHOIS"
		if event.Whois.Source == "rdap" {
			title = "RDAP"
		}
		p.blocks = append(p.blocks, block{title: title, lines: plainLines(text, maxWhoisLines)})
	}
}

// plainLines are strangers' lines, at most max of them.
func plainLines(lines []string, max int) []string {
	out := make([]string, 0, min(len(lines), max+1))
	for i, line := range lines {
		if i == max {
			return append(out, "… "+many(len(lines)-max, "more line"))
		}
		out = append(out, plain(strings.TrimRight(line, "\r\n"), maxLine))
	}
	return out
}

// colour is what an event looks like.
func (e *Event) colour() string {
	switch {
	case e.Decision.Ban.Observed:
		return amber
	case e.Decision.Kind == bantam.End:
		return green
	}
	return red
}

// digest counts and lists many events.
func (p *sheet) digest(e *Edition) {
	zone := e.At.Location()
	bans, unbans, observed, held := sum(e.Bans), sum(e.Unbans), sum(e.Observed), sum(e.Held)
	p.title = totals(bans, unbans, observed, held)
	switch {
	case bans > observed+held:
		p.colour = red
	case observed+held > 0:
		p.colour = amber
	default:
		p.colour = green
	}
	if !e.Since.IsZero() && e.At.After(e.Since) {
		p.title += " in " + period(e.At.Sub(e.Since))
		p.intro = "From " + when(e.Since, zone) + " to " + when(e.At, zone) + "."
	}
	jails := jailsByCount(e)
	p.subject = p.title + ": " + topJails(jails, e)
	for i, jail := range jails {
		if i == maxJails && len(jails) > maxJails+1 {
			p.facts = append(p.facts, fact{"…", many(len(jails)-i, "more jail")})
			break
		}
		p.facts = append(p.facts, fact{plain(jail, maxName), totals(e.Bans[jail], e.Unbans[jail], e.Observed[jail], e.Held[jail])})
	}
	title := "Events"
	if e.More > 0 {
		title = fmt.Sprintf("The first %d", len(e.Events))
	}
	list := rows(e)
	if e.More > 0 {
		list = append(list, "… and "+grouped(e.More)+" more")
	}
	p.blocks = append(p.blocks,
		block{title: title, lines: list, rows: true},
		block{title: "Who is banned now, and why", lines: []string{"bantam banned", "bantam why ADDRESS"}, code: true})
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// jailsByCount are the jails of a digest, those with the most events first.
func jailsByCount(e *Edition) []string {
	var jails []string
	for jail := range e.Bans {
		jails = append(jails, jail)
	}
	for jail := range e.Unbans {
		if _, known := e.Bans[jail]; !known {
			jails = append(jails, jail)
		}
	}
	slices.SortFunc(jails, func(a, b string) int {
		if d := e.Bans[b] + e.Unbans[b] - e.Bans[a] - e.Unbans[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return jails
}

// topJails are the first jails with their figures, for a subject.
func topJails(jails []string, e *Edition) string {
	var out []string
	for i, jail := range jails {
		if i == 3 {
			out = append(out, "…")
			break
		}
		word := plain(jail, 24)
		if len(jails) > 1 {
			word += " " + grouped(e.Bans[jail]+e.Unbans[jail])
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}

// totals are figures in words. observed and held are among bans.
func totals(bans, unbans, observed, held int) string {
	var out []string
	if n := bans - observed - held; n > 0 {
		out = append(out, many(n, "ban"))
	}
	if unbans > 0 {
		out = append(out, many(unbans, "unban"))
	}
	if observed > 0 {
		out = append(out, many(observed, "ban")+" only observed")
	}
	if held > 0 {
		out = append(out, many(held, "ban")+" held back")
	}
	return strings.Join(out, ", ")
}

// rows are the events of a digest, one line each, in columns: when, in which jail, who, and
// with how many failures and as whom.
func rows(e *Edition) []string {
	zone := e.At.Location()
	clock := "15:04:05"
	for i := range e.Events {
		if e.Events[i].Decision.At.In(zone).Format(time.DateOnly) != e.At.Format(time.DateOnly) {
			clock = "2 Jan 15:04:05"
		}
	}
	var table [][]string
	for i := range e.Events {
		event := &e.Events[i]
		b := &event.Decision.Ban
		note := plain(b.User, 32)
		switch over := event.Decision.Kind == bantam.End; {
		case over && b.Observed:
			note = "observed end"
		case over:
			note = "unbanned"
		case b.Held():
			note = "held back"
		case b.Observed:
			note = "observed"
		case b.Failures > 0:
			note = strings.TrimSpace(grouped(b.Failures) + "× " + note)
		}
		table = append(table, []string{event.Decision.At.In(zone).Format(clock), plain(b.Jail, 12), event.id() + event.where(), note})
	}
	return columns(table)
}

// columns aligns a table.
func columns(table [][]string) []string {
	var widths []int
	for _, row := range table {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, len(table))
	for i, row := range table {
		var b strings.Builder
		for j, cell := range row {
			b.WriteString(cell)
			if j < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)+2))
			}
		}
		lines[i] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// jails tells which jails started and stopped, beside what else there is or alone.
func (p *sheet) jails(e *Edition) {
	var said []string
	for _, list := range []struct {
		verb  string
		jails []string
	}{{"started", e.Started}, {"stopped", e.Stopped}} {
		if len(list.jails) == 0 {
			continue
		}
		names := make([]string, 0, len(list.jails))
		for i, jail := range list.jails {
			if i == maxJails {
				names = append(names, many(len(list.jails)-i, "more jail"))
				break
			}
			names = append(names, plain(jail, maxName))
		}
		said = append(said, list.verb+" "+strings.Join(names, ", "))
		p.facts = append(p.facts, fact{list.verb, strings.Join(names, ", ")})
	}
	if p.title == "" {
		p.subject = strings.Join(said, "; ")
		p.title = "Jails " + strings.Join(verbs(e), " and ")
		if len(said) == 1 {
			verb, jails := verbs(e)[0], slices.Concat(e.Started, e.Stopped)
			if p.title = plain(jails[0], maxName) + " " + verb; len(jails) > 1 {
				p.title = many(len(jails), "jail") + " " + verb
				p.subject = p.title + strings.TrimPrefix(p.subject, verb)
			} else {
				p.subject = p.title
			}
		}
		p.intro = when(e.At, e.At.Location())
	}
}

// verbs are what jails did.
func verbs(e *Edition) []string {
	var out []string
	if len(e.Started) > 0 {
		out = append(out, "started")
	}
	if len(e.Stopped) > 0 {
		out = append(out, "stopped")
	}
	return out
}

// width is how long the lines of a text are at most: within RFC 5322's 78, and as many as quoted-printable
// leaves in one piece (RFC 2045 6.7).
const width = 75

// text is the sheet as plain text.
func (p *sheet) text() string {
	var b strings.Builder
	put := func(indent, line, hang string) {
		for _, l := range wrap(line, width-len(indent), hang) {
			b.WriteString(strings.TrimRight(indent+l, " "))
			b.WriteByte('\n')
		}
	}
	put("", p.title, "")
	if p.intro != "" {
		b.WriteByte('\n')
		put("", p.intro, "")
	}
	if len(p.facts) > 0 {
		b.WriteByte('\n')
		names := 0
		for _, f := range p.facts {
			names = max(names, min(utf8.RuneCountInString(f.name), 24))
		}
		hang := strings.Repeat(" ", names+4)
		for _, f := range p.facts {
			name := plain(f.name, 24)
			name += strings.Repeat(" ", names-utf8.RuneCountInString(name))
			for i, l := range wrap(f.value, width-len(hang), "") {
				if i == 0 {
					b.WriteString("  " + name + "  " + l + "\n")
				} else {
					b.WriteString(hang + l + "\n")
				}
			}
		}
	}
	for _, block := range p.blocks {
		b.WriteByte('\n')
		put("", block.title+":", "")
		b.WriteByte('\n')
		for _, line := range block.lines {
			switch {
			case block.code: // a command is not to be torn
				b.WriteString("  " + line + "\n")
			case block.rows:
				b.WriteString("  " + plain(line, width-2) + "\n")
			default:
				put("  ", line, "  ")
			}
		}
	}
	b.WriteString("\n-- \n")
	put("", p.foot, "")
	return b.String()
}

var escapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// html is the sheet as HTML: one table for what is known, no images, nothing fetched. Its colours
// are its own on light and, where the reader's program knows how, on dark.
func (p *sheet) html() string {
	var b strings.Builder
	put := func(parts ...string) {
		for _, part := range parts {
			b.WriteString(part)
		}
	}
	esc := escapes.Replace
	put(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="format-detection" content="telephone=no,date=no,address=no,email=no,url=no">
<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">
<title>`, esc(p.subject), `</title>
<style>@media (prefers-color-scheme: dark) {
.page { background: #14161a !important; color: #e6e8eb !important }
.card { background: #1e2126 !important; border-right-color: #343941 !important; border-bottom-color: #343941 !important; border-left-color: #343941 !important }
.soft { color: #9aa3ad !important }
.cell { border-color: #2d3239 !important }
.code { background: #14161a !important; color: #d5d9de !important }
}</style></head>
<body class="page" style="margin:0;padding:24px 12px;background:#f3f4f6;color:#1f2328;font:15px/1.5 -apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif">
<div class="card" style="max-width:680px;margin:0 auto;background:#ffffff;border:1px solid #dfe2e6;border-top:4px solid `, p.colour, `;border-radius:8px;padding:20px 24px">
<p class="soft" style="margin:0;font-size:13px;color:#667079">`, esc(p.place), `</p>
<h1 style="margin:2px 0 12px;font-size:20px;line-height:1.3;overflow-wrap:anywhere">`, esc(p.title), `</h1>
`)
	if p.intro != "" {
		put(`<p style="margin:0 0 12px">`, esc(p.intro), "</p>\n")
	}
	if len(p.facts) > 0 {
		put(`<table role="presentation" cellpadding="0" cellspacing="0" style="width:100%;border-collapse:collapse;font-size:14px">`, "\n")
		for _, f := range p.facts {
			put(`<tr><td class="soft cell" style="padding:6px 16px 6px 0;border-top:1px solid #eceef0;color:#667079;white-space:nowrap;vertical-align:top">`, esc(plain(f.name, 24)),
				`</td><td class="cell" style="padding:6px 0;border-top:1px solid #eceef0;width:100%;overflow-wrap:anywhere;word-break:break-word">`, esc(f.value), "</td></tr>\n")
		}
		put("</table>\n")
	}
	for _, block := range p.blocks {
		space := "pre-wrap;overflow-wrap:anywhere"
		if block.rows {
			space = "pre;overflow-x:auto"
		}
		put(`<h2 class="soft" style="margin:20px 0 6px;font-size:13px;font-weight:600;color:#667079">`, esc(block.title), `</h2>
<pre class="code" style="margin:0;padding:10px 12px;background:#f6f7f8;color:#1f2328;border-radius:6px;font:12px/1.55 ui-monospace,Menlo,Consolas,monospace;white-space:`, space, `">`)
		for i, line := range block.lines {
			if i > 0 {
				put("\n")
			}
			put(esc(line))
		}
		put("</pre>\n")
	}
	put(`<p class="soft" style="margin:20px 0 0;font-size:12px;color:#667079">`, esc(p.foot), "</p>\n</div></body></html>\n")
	return b.String()
}
