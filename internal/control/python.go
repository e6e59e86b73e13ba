package control

import (
	"math"
	"strconv"
	"strings"

	"bantam/internal/tag"
)

// An Exception is an error as Fail2Ban's socket tells it: a Python class and what it was
// made with. It must be one of those a client has, or its client cannot read the answer.
type Exception Object

// Invalid is the exception of a command that cannot be done, made for a person.
func Invalid(text string) *Exception { return &Exception{"builtins.Exception", Tuple{text}} }

// NoSuchJail is the exception that names a jail which is not there.
func NoSuchJail(name string) *Exception {
	return &Exception{"fail2ban.exceptions.UnknownJailException", Tuple{name}}
}

// Error is the text as Python has it: a KeyError's is quoted, an OSError's begins with
// its number.
func (e *Exception) Error() string {
	switch {
	case len(e.Args) == 0:
		return ""
	case len(e.Args) == 1 && (e.Class == "builtins.KeyError" || e.Class == "fail2ban.exceptions.UnknownJailException"):
		return Repr(e.Args[0])
	case len(e.Args) == 1:
		return Str(e.Args[0])
	case e.Class == "builtins.FileNotFoundError" || e.Class == "builtins.OSError" || e.Class == "builtins.PermissionError":
		text := "[Errno " + Str(e.Args[0]) + "] " + Str(e.Args[1])
		if len(e.Args) > 2 {
			text += ": " + Repr(e.Args[2])
		}
		return text
	}
	return Repr(e.Args)
}

// Str is a value as Python's print shows it.
func Str(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case Object:
		if v.Class == "builtins.str" && len(v.Args) == 1 {
			return Str(v.Args[0])
		}
		e := Exception(v)
		return e.Error()
	}
	return Repr(v)
}

// Repr is a value as Python's repr shows it.
func Repr(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return reprFloat(v)
	case string:
		return tag.Repr(v)
	case Bytes:
		return "b" + tag.Repr(string(v))
	case []string:
		items := make(List, len(v))
		for i, s := range v {
			items[i] = s
		}
		return Repr(items)
	case List:
		return "[" + reprItems(v) + "]"
	case Set:
		return "{" + reprItems(v) + "}"
	case Tuple:
		if len(v) == 1 {
			return "(" + Repr(v[0]) + ",)"
		}
		return "(" + reprItems(v) + ")"
	case Dict:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = Repr(e.Key) + ": " + Repr(e.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case Object:
		if v.Class == "builtins.str" && len(v.Args) == 1 {
			return Repr(v.Args[0])
		}
		name := v.Class[strings.LastIndexByte(v.Class, '.')+1:]
		if len(v.Args) == 1 {
			return name + "(" + Repr(v.Args[0]) + ")"
		}
		return name + Repr(v.Args)
	case *Exception:
		return Repr(Object(*v))
	}
	return "<?>"
}

func reprItems(items []any) string {
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = Repr(item)
	}
	return strings.Join(parts, ", ")
}

func reprFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(f, 'g', -1, 64)), "+")
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
