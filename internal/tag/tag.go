// Package tag puts values into texts that people write with <tags>: those of filters
// and actions, before anything runs, and those of an action's commands, each time one runs.
//
// The two are kept apart. Replace is for what configurations say and looks again and
// again until nothing is left to replace. Command is for what a ban brings along, much
// of it written by an attacker: it looks once, what it puts in is never looked at again,
// and what could mean anything to a shell reaches it only as a variable.
package tag

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Next finds the first <tag> from a position on: "<", one or more characters but blank,
// "<" and ">", and ">". text[start:end] is the tag with its brackets; start is -1 if
// there is none.
func Next(text string, from int) (start, end int) {
	for from < len(text) {
		open := strings.IndexByte(text[from:], '<')
		if open < 0 {
			return -1, -1
		}
		start = from + open
		stop := strings.IndexAny(text[start+1:], " <>")
		if stop < 0 {
			return -1, -1
		}
		end = start + 1 + stop
		if text[end] == '>' && stop > 0 {
			return start, end + 1
		}
		from = end
		if text[end] != '<' {
			from++
		}
	}
	return -1, -1
}

// Bounds of Replace, for one text.
const (
	maxUses = 25       // replacements of one tag
	maxWork = 64 << 20 // bytes looked at
	maxText = 1 << 20  // bytes it may grow to
)

// Replace replaces the tags of one option by what value knows (detection.md 2.4). self
// is the option's own name, which may not occur. A tag of which value knows nothing stays.
//
// What a tag is replaced by is looked through again, and so is the whole text until
// nothing changes: <m-<mode>> becomes <m-normal> and then what that is. Errors are
// for circles and for texts that grow beyond 1 MiB.
func Replace(self, text string, value func(tag string) (string, bool)) (string, error) {
	uses := map[string]int{}
	work, changed := len(text), false
	for at := 0; ; {
		start, end := Next(text, at)
		if start < 0 {
			if !changed {
				return text, nil
			}
			at, changed = 0, false
			work += len(text)
			continue
		}
		tag := text[start+1 : end-1]
		known, ok := value(tag)
		if !ok {
			at = end
			continue
		}
		if tag == self || uses[tag] > maxUses {
			return "", fmt.Errorf("<%s> refers to itself", printable(tag))
		}
		uses[tag]++
		whole := "<" + tag + ">"
		n := strings.Count(text, whole)
		work += len(text)
		if work > maxWork || len(text)+n*(len(known)-len(whole)) > maxText {
			return "", fmt.Errorf("<%s> makes the value grow too large", printable(tag))
		}
		text = strings.ReplaceAll(text, whole, known)
		at, changed = start, true
	}
}

// printable is a tag for a message.
func printable(tag string) string {
	if len(tag) > 200 || strings.ContainsFunc(tag, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(tag[:min(len(tag), 200)])
	}
	return tag
}

// Bounds of what Command hands over. The kernel takes at most 128 KiB in one argument
// (MAX_ARG_STRLEN in include/uapi/linux/binfmts.h) and, with the usual stack, 2 MiB in all.
const (
	maxValue  = 96 << 10
	maxValues = 1 << 20
	maxScript = 120 << 10
)

// special are the characters that make a value travel as a variable (server.md 3.3),
// besides control characters.
const special = "\\#&;`|*?~<>^()[]{}$'\""

// ErrTooLong is Command's error for a text that the kernel would not take.
var ErrTooLong = errors.New("the command is longer than 120 KiB")

// Command makes a shell's arguments, those behind "sh -c", out of a text and the values
// of its tags: the script, then what the script's variables are made from.
//
// value knows the tags but <br>, a newline, and <sp>, a blank. A tag it does not know
// stays as it is; a value is put in as it is if it holds nothing special to a shell. Any
// other is handed over as an argument and the script reads it from $f2bV_NAME, where NAME
// is the tag, or what name gives for it, with _ for all that is no letter or digit. So
// in double quotes both look alike, and in single quotes the variable's name appears.
// A value longer than 96 KiB is cut, and zero bytes, which no argument can hold, are left out.
func Command(text string, value func(tag string) (value, name string, ok bool)) ([]string, error) {
	var vars strings.Builder
	var args []string
	seen := map[string]string{} // what each tag becomes
	size := 0
	script, fits := expand(text, maxScript, func(tag string) (string, bool) {
		put, known := seen[tag]
		if known {
			return put, true
		}
		v, name, ok := value(tag)
		if !ok {
			return "", false
		}
		if v = clean(v); harmless(v) {
			put = v
		} else {
			v = cut(v, min(maxValue, maxValues-size))
			size += len(v)
			variable := "f2bV_" + word(name)
			for strings.Contains(vars.String(), variable+"=") { // of another tag
				variable += "_"
			}
			fmt.Fprintf(&vars, "%s=%s ", variable, position(len(args)))
			args = append(args, v)
			put = "$" + variable
		}
		seen[tag] = put
		return put, true
	})
	if !fits {
		return nil, ErrTooLong
	}
	if vars.Len() == 0 {
		return checked([]string{script})
	}
	return checked(append([]string{vars.String() + "\n" + script}, args...))
}

// Expand puts what value knows for the tags of a text, each once and never looked at again; <br> is
// a newline and <sp> a blank. A tag that value does not know stays. Nothing is special about what is
// put in: the text must not be run.
func Expand(text string, value func(tag string) (string, bool)) string {
	out, _ := expand(text, math.MaxInt, value)
	return out
}

// expand is Expand that gives up when the text grows beyond limit bytes.
func expand(text string, limit int, value func(tag string) (string, bool)) (out string, fits bool) {
	var b strings.Builder
	for {
		start, end := Next(text, 0)
		if start < 0 {
			b.WriteString(text)
			return b.String(), true
		}
		b.WriteString(text[:start])
		switch tag := text[start+1 : end-1]; tag {
		case "br":
			b.WriteByte('\n')
		case "sp":
			b.WriteByte(' ')
		default:
			put, known := value(tag)
			if !known {
				put = text[start:end]
			}
			b.WriteString(put)
		}
		if text = text[end:]; b.Len() > limit {
			return "", false
		}
	}
}

func checked(args []string) ([]string, error) {
	if len(args[0]) > maxScript {
		return nil, ErrTooLong
	}
	return args, nil
}

// position is how a script reads its n-th argument. Without the braces a shell reads
// the eleventh as the second with a zero behind it.
func position(n int) string {
	if n < 10 {
		return "$" + strconv.Itoa(n)
	}
	return "${" + strconv.Itoa(n) + "}"
}

func harmless(v string) bool {
	return len(v) <= maxValue && !strings.ContainsAny(v, special) && !strings.ContainsFunc(v, unicode.IsControl)
}

func clean(v string) string { return strings.ReplaceAll(v, "\x00", "") }

// cut is v in at most n bytes, whole characters of it.
func cut(v string, n int) string {
	if len(v) <= n {
		return v
	}
	for n > 0 && !utf8.RuneStart(v[n]) {
		n--
	}
	return v[:n]
}

// word is s as the name of a shell's variable.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' {
			return r
		}
		return '_'
	}, s)
}
