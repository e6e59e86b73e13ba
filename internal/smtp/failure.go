package smtp

import (
	"fmt"
	"time"
)

// appPasswords is the way on for everybody whose Gmail password is refused.
const appPasswords = "made at https://myaccount.google.com/apppasswords, not the account's own"

// A failure is an error that knows whether the mail may still arrive. It is an outbox.Verdict.
type failure struct {
	err   error
	final bool
	after time.Duration
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Again reports whether it makes sense to try again, and not before which pause; 0 leaves
// the pause to the caller.
func (f *failure) Again() (bool, time.Duration) { return !f.final, f.after }

// final is an error that no repetition heals.
func final(err error) error { return &failure{err: err, final: true} }

// hinted is an error with a way on.
func hinted(err error, hint string) error {
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, hint)
}
