package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"bantam/internal/action"
	"bantam/internal/tag"
)

// tagName is how people name tags; what else stands between < and > is the shell's.
var tagName = regexp.MustCompile(`^(?:known/|default/)?[A-Za-z][A-Za-z0-9_.-]*$`)

// maxStrangers is how many names are looked into for one command, which each takes as long as it is.
const maxStrangers = 50

// strangers warns of tags in commands for which nothing is ever put in: what is left of a recipe's <BOT_TOKEN>
// is a file to read for the shell, and says nothing useful to anybody else. s is the action's file.
func (d *definition) strangers(s *set) {
	found := map[string]string{} // and the option that it was found in
	for _, commands := range []*action.Commands{&d.config.Any, &d.config.Inet4, &d.config.Inet6} {
		for option, text := range commands.ByOption() {
			for name := range unknownTags(*text) {
				if _, told := found[name]; !told {
					found[name] = option
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		v, line := s.whereTag(name, found[name])
		if v == nil {
			continue // nobody wrote it as a tag: it is a value between < and >, as in a mail's From
		}
		p := problemAt(v, fmt.Sprintf("nothing knows the tag <%s>: it stays in the command as it is, where a shell may take it for a file to read", name), d.strangerHint(name))
		p.Line = line
		d.reader.warn(p)
	}
}

// unknownTags are the tags left in a command that nothing is put in for. What a shell reads in its own way is not among
// them: a here-document's word, <STDIN> of Perl, and elements of HTML that are closed.
func unknownTags(text string) map[string]bool {
	out, seen := map[string]bool{}, map[string]bool{}
	for start, end := tag.Next(text, 0); start >= 0 && len(seen) < maxStrangers; start, end = tag.Next(text, end) {
		name := text[start+1 : end-1]
		if seen[name] || !tagName.MatchString(name) || action.KnowsTag(name) {
			continue
		}
		seen[name] = true
		document := start > 0 && text[start-1] == '<' && slices.Contains(lines(text[end:]), name)
		if !document && name != "STDIN" && !strings.Contains(text, "</"+name+">") {
			out[name] = true
		}
	}
	return out
}

func (d *definition) strangerHint(name string) string {
	hint := guessTag(name, append(action.Tags(), slices.Collect(maps.Keys(d.opts))...))
	switch {
	case strings.HasPrefix(hint, "tags are") || keyLen(name) != len(name):
		return hint
	case hint != "":
		hint += " Else "
	}
	return hint + fmt.Sprintf(`give it a value, as a parameter: %s[%s="…"], or as an option under [Init] of the action's file`, printable(d.config.Name), name)
}

// guessTag is what somebody may have meant by a tag, "" if there is no guess.
func guessTag(name string, known []string) string {
	for _, k := range action.Tags() {
		if strings.EqualFold(k, name) {
			return "tags are written in small letters: <" + k + ">"
		}
	}
	if guess := nearest(strings.ToLower(name), known); guess != "" {
		return "did you mean <" + printable(guess) + ">?"
	}
	return ""
}

// whereTag is where a tag is written: in the option itself, or in another one that it is made of.
func (s *set) whereTag(name, option string) (v *Value, line int) {
	search := func(v *Value) bool { return v != nil && strings.Contains(v.Text, "<"+name+">") }
	for _, title := range []string{"Definition", "Init"} {
		if sec := s.sections[title]; sec != nil && search(sec.opts[option]) {
			v = sec.opts[option]
			return v, v.lineOf("<" + name + ">")
		}
	}
	for _, title := range slices.Sorted(maps.Keys(s.sections)) {
		for _, key := range s.sections[title].keys {
			if v := s.sections[title].opts[key]; search(v) {
				return v, v.lineOf("<" + name + ">")
			}
		}
	}
	return nil, 0
}

// lineOf is the line of the file on which a part of the value stands.
func (v *Value) lineOf(part string) int {
	n := 0
	for line := range strings.SplitSeq(v.Text, "\n") {
		if strings.Contains(line, part) {
			if n < len(v.rows) {
				return v.rows[n]
			}
			break
		}
		if trim(line) != "" {
			n++
		}
	}
	return v.Line
}
