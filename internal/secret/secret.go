// Package secret holds what nobody may see: passwords, tokens, keys. A Value prints as ***
// whatever prints it, and only Reveal gives it away.
package secret

import (
	"fmt"
	"log/slog"
)

// A Value is a secret. Its zero value is none. Values are compared with Equal.
//
// It is safe for concurrent use.
type Value struct {
	// fmt calls no method of a value in somebody's unexported field, it prints what it finds. It
	// follows one pointer to a struct, but never two: what it finds is an address.
	kept **kept
}

type kept struct {
	text  string // as last read
	place place  // where to read it again, if anywhere
}

// New makes a secret of a text.
func New(text string) Value {
	if text == "" {
		return Value{}
	}
	return value(kept{text: text})
}

func value(k kept) Value {
	p := &k
	return Value{&p}
}

// Reveal is the secret itself. One that was read from a file is read again, so that an exchanged
// password holds at once; if the file is gone or unfit, it is what was read last.
func (v Value) Reveal() string {
	if v.kept == nil {
		return ""
	}
	k := *v.kept
	if k.place.path != "" {
		if text, err := k.place.read(); err == nil {
			return text
		}
	}
	return k.text
}

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.kept == nil }

// Equal reports whether both came from the same place and were the same text when they were read.
func (v Value) Equal(o Value) bool {
	if v.kept == nil || o.kept == nil {
		return v.kept == o.kept
	}
	return **v.kept == **o.kept
}

// String is "***", or nothing if there is no secret.
func (v Value) String() string {
	if v.kept == nil {
		return ""
	}
	return "***"
}

// GoString is String, for %#v.
func (v Value) GoString() string { return v.String() }

// Format prints String for every verb: %x of a secret is a secret too.
func (v Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(v.String())) }

// LogValue is String.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalText writes String, in JSON too; there is no way back.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
