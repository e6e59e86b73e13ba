package config

import (
	"fmt"
	"slices"
	"strings"

	"bantam/internal/tag"
)

// maxName bounds the names that references looks for, so that it stays linear.
const maxName = 256

// Bounds of what references and tags may grow a value to.
const (
	maxExpansion = 1 << 20 // bytes of one value
	maxNesting   = 10      // references within references
	maxSteps     = 100_000 // references replaced in one value
)

// A scope is where the references of a value are looked up: %(x)s is a
// parameter, else an option of the section, else one of [DEFAULT].
type scope struct {
	set     *set
	section string
	params  map[string]*Value // stronger than the section
	known   map[string]*Value // stronger than what the files knew
	extra   map[string]*Value // weaker than [DEFAULT]
	steps   int
}

// expand replaces the references in a value (detection.md 1.5). The error is a
// *Problem at the place where the bad reference is written.
func (sc *scope) expand(v *Value) (string, error) {
	var out strings.Builder
	sc.steps = 0
	if p := sc.into(&out, v, 1); p != nil {
		return "", p
	}
	return out.String(), nil
}

func (sc *scope) into(out *strings.Builder, v *Value, depth int) *Problem {
	if depth > maxNesting {
		return problemAt(v, "the references go round in a circle, or more than 10 deep", circleHint(v))
	}
	text := v.Text
	for {
		plain, rest, found := strings.Cut(text, "%")
		if out.Len()+len(plain) > maxExpansion {
			return problemAt(v, fmt.Sprintf("the value grows beyond %d MiB", maxExpansion>>20), "")
		}
		out.WriteString(plain)
		switch {
		case !found:
			return nil
		case strings.HasPrefix(rest, "%"):
			out.WriteByte('%')
			text = rest[1:]
			continue
		}
		name, after, ok := reference(rest)
		if !ok {
			return problemAt(v, fmt.Sprintf("%s is no reference", quote("%"+rest)), "write %% for a percent sign, %(name)s for a reference")
		}
		if sc.steps++; sc.steps > maxSteps {
			return problemAt(v, "the value has too many references", "")
		}
		w := sc.lookup(name)
		switch {
		case w == nil:
			return sc.missing(v, name)
		case strings.Contains(w.Text, "%"):
			if p := sc.into(out, w, depth+1); p != nil {
				if p.File == "" { // a section's name or a parameter, not a value of a file
					p.File, p.Line, p.Key = v.File, v.Line, v.key
				}
				return p
			}
		case out.Len()+len(w.Text) > maxExpansion:
			return problemAt(v, fmt.Sprintf("the value grows beyond %d MiB", maxExpansion>>20), "")
		default:
			out.WriteString(w.Text)
		}
		text = after
	}
}

func circleHint(v *Value) string {
	if strings.Contains(v.Text, "%(known/") {
		return "known/ reaches one file back only, and in [DEFAULT] it means the option itself: write the earlier value out"
	}
	return ""
}

// reference reads what follows the percent sign of "%(name)s".
func reference(text string) (name, rest string, ok bool) {
	if !strings.HasPrefix(text, "(") {
		return "", "", false
	}
	name, rest, ok = strings.Cut(text[1:], ")")
	if !ok || name == "" || !strings.HasPrefix(rest, "s") {
		return "", "", false
	}
	return name, rest[1:], true
}

// lookup is the raw value a reference stands for, or nil.
func (sc *scope) lookup(name string) *Value {
	key := strings.ToLower(name)
	if key == "__name__" {
		return &Value{Text: sc.section}
	}
	section, opt, ok := strings.Cut(key, "/")
	if !ok {
		if v := sc.params[key]; v != nil {
			return v
		}
		return sc.spare(sc.set.raw(sc.section, key), key)
	}
	if key != name {
		return nil // the original finds these in no spelling
	}
	switch section {
	case "known":
		if v := sc.known[opt]; v != nil {
			return v
		}
		if v := sc.set.known[sc.section][opt]; v != nil {
			return v
		}
		return sc.set.defaults.opts[opt]
	case "default":
		return sc.spare(sc.set.defaults.opts[opt], opt)
	}
	if sc.set.sections[section] == nil {
		return nil
	}
	return sc.set.raw(section, opt)
}

// spare falls back on the values that only references may have.
func (sc *scope) spare(v *Value, key string) *Value {
	if v != nil {
		return v
	}
	if v = sc.extra[key]; v != nil {
		return v
	}
	return sc.set.spare.opts[key]
}

// missing is the problem of a reference to nothing, with a guess.
func (sc *scope) missing(v *Value, name string) *Problem {
	text := fmt.Sprintf("%%(%s)s is not defined", printable(name))
	key := strings.ToLower(name)
	section, opt, ok := strings.Cut(key, "/")
	switch {
	case ok && key != name:
		return problemAt(v, text, "references to other sections must be in lower case: %("+printable(key)+")s")
	case ok && section == "known":
		return problemAt(v, text, "neither the filter nor an earlier file has "+printable(opt))
	case ok:
		return problemAt(v, text, "")
	}
	if init := sc.set.sections["Init"]; init != nil && init.opts[key] != nil && sc.section == "Definition" {
		return problemAt(v, text, "it stands in [Init]: write <"+printable(key)+">")
	}
	var names []string
	if own := sc.set.sections[sc.section]; own != nil {
		names = slices.Clone(own.keys)
	}
	names = append(names, sc.set.defaults.keys...)
	if guess := nearest(key, names); guess != "" {
		return problemAt(v, text, "did you mean %("+printable(guess)+")s?")
	}
	return problemAt(v, text, "define it in the same section or in [DEFAULT]")
}

// references are the options that text refers to by %(x)s and <x>, without
// their section.
func references(text string, found func(key string)) {
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, "%(")
		if !ok {
			break
		}
		name, _, ok := strings.Cut(after[:min(len(after), maxName)], ")s")
		if ok {
			key := strings.ToLower(name)
			found(key[strings.LastIndexByte(key, '/')+1:])
		}
		rest = after
	}
	for rest := text; ; {
		start, end := tag.Next(rest, 0)
		if start < 0 {
			return
		}
		key := strings.ToLower(rest[start+1 : end-1])
		found(key[strings.LastIndexByte(key, '/')+1:])
		rest = rest[end:]
	}
}

// nearest is the word of words that key is most likely a slip of, or "".
func nearest(key string, words []string) string {
	best, least := "", 3
	if len(key) < 5 {
		least = 2
	}
	for _, w := range slices.Sorted(slices.Values(words)) {
		if w == key || len(w)-len(key) > 2 || len(key)-len(w) > 2 {
			continue
		}
		if d := distance(key, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make b of a.
func distance(a, b string) int {
	if len(a) > 100 || len(b) > 100 {
		return 100
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
