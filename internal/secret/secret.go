// Package secret holds what nobody may see: passwords, tokens, keys. A Value prints as ***
// whatever prints it, and only Reveal gives it away.
package secret

// A Value is a secret. Its zero value is none.
type Value struct{ text string }

// New makes a secret of a text.
func New(text string) Value { return Value{text} }

// Reveal is the secret itself.
func (v Value) Reveal() string { return v.text }

// String is "***", or nothing if there is no secret.
func (v Value) String() string {
	if v.text == "" {
		return ""
	}
	return "***"
}
