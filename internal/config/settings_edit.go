package config

import (
	"slices"
	"strings"
)

// settingsHead is how the file of settings begins.
const settingsHead = `# Settings, as bantam config set writes them: it changes the lines of the setting that it is
# told and leaves all others as they are. It is a jail file like others, read after jail.local,
# so that what stands here wins. bantam config show lists what holds.
`

// editOption is a jail file's text with an option of a section set, or taken out; every other line, comments
// too, is as it was. The error, a *Problem, is for a file that cannot be read, or whose form is too strange to be changed
// by line.
func editOption(text []byte, section, option, value string, unset bool) ([]byte, error) {
	old, err := parse(SettingsFile, text)
	if err != nil {
		return nil, err
	}
	sec := old.defaults
	if section != defaultName {
		sec = old.section(section)
	}
	var rows []string
	if len(text) > 0 {
		rows = pythonLines(string(text))
	} else {
		rows = strings.Split(strings.TrimSuffix(settingsHead, "\n"), "\n")
	}
	entry := strings.Split(option+" = "+strings.ReplaceAll(value, "\n", "\n    "), "\n")
	var has *Value
	if sec != nil {
		has = sec.opts[option]
	}
	switch {
	case has == nil && unset:
		return text, nil
	case has != nil:
		first, last := has.span()
		if unset {
			entry = nil
			if len(sec.keys) == 1 && section != defaultName && sec.line == first-1 {
				first-- // nothing is left of the section
				if first > 1 && rows[first-2] == "" && (last == len(rows) || rows[last] == "") {
					first--
				}
			}
		}
		rows = slices.Replace(rows, first-1, last, entry...)
	case sec != nil && len(sec.keys) > 0:
		_, last := sec.opts[sec.keys[len(sec.keys)-1]].span()
		rows = slices.Insert(rows, last, entry...)
	case sec != nil && sec.line > 0:
		rows = slices.Insert(rows, sec.line, entry...)
	case sec == old.defaults && slices.Contains(rows, "["+defaultName+"]"):
		rows = slices.Insert(rows, slices.Index(rows, "["+defaultName+"]")+1, entry...)
	default:
		if rows[len(rows)-1] != "" {
			rows = append(rows, "")
		}
		rows = append(append(rows, "["+section+"]"), entry...)
	}
	after := []byte(strings.Join(rows, "\n") + "\n")
	if !sameBut(old, after, section, option, value, unset) {
		return nil, &Problem{File: SettingsFile, Text: "the file has lines that cannot be told from the setting's", Hint: "put your own lines into jail.local, and one option a line here"}
	}
	return after, nil
}

// span is from where to where the option stands in its file.
func (v *Value) span() (first, last int) {
	last = v.Line
	if len(v.rows) > 0 {
		last = max(last, slices.Max(v.rows))
	}
	return v.Line, last
}

// sameBut is whether a file says what the old one said, but for one option.
func sameBut(old *file, text []byte, in, option, value string, unset bool) bool {
	now, err := parse(SettingsFile, text)
	if err != nil {
		return false
	}
	said := func(f *file) map[[2]string]string {
		out := map[[2]string]string{}
		for _, sec := range append([]*section{f.defaults}, f.sections...) {
			for key, v := range sec.opts {
				out[[2]string{sec.name, key}] = v.Text
			}
		}
		return out
	}
	before, after := said(old), said(now)
	at := [2]string{in, option}
	if got, ok := after[at]; ok == unset || ok && got != value {
		return false
	}
	delete(before, at)
	delete(after, at)
	if len(before) != len(after) {
		return false
	}
	for k, v := range before {
		if got, ok := after[k]; !ok || got != v {
			return false
		}
	}
	return true
}
