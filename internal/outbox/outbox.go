// Package outbox sends what is to leave the machine: mails, chat messages, reports. Each
// waits in the database until its receiver has taken it.
//
// A letter is written down before it is sent, in one transaction with the mark of how far its
// author has read the news, so that a crash at any moment loses none and doubles none
// but, at most, the one that was on its way; that one goes out again under the same key. Channels
// are independent of each other: each has its own goroutine, and what it cannot deliver
// it tries again with growing pauses, or when the receiver says. What a letter says, and how it travels, is the business
// of whoever wrote it.
package outbox

import (
	"context"
	"errors"
	"time"

	"bantam"
)

// A Letter is one message to one channel.
type Letter struct {
	// Key tells a repeat from another message: it is the same for every attempt, and no other
	// letter ever had it. It is made of letters, digits, "-" and ".", so that it may stand in
	// a Message-ID or an idempotency header.
	Key string `json:"key"`
	// Channel names who delivers it.
	Channel string `json:"channel"`
	// About says what it is about, in a few words for the operator's list.
	About string `json:"about"`
	// Body is what the channel's Sender needs to send it again years later; it holds no secret.
	Body []byte `json:"-"`
	// Made is when it was written, wall time.
	Made time.Time `json:"made"`
	// Due is when it is tried next, wall time.
	Due   time.Time `json:"due"`
	Tries int       `json:"tries"`
	// Err is why the last attempt did not work; it holds no secret.
	Err string `json:"error,omitempty"`
	// Failed is true for a letter that its receiver will never take: it is not tried
	// again unless somebody asks for it.
	Failed bool `json:"failed,omitempty"`
}

// A Sender delivers letters of one channel, one after the other. An error means that the letter
// is tried again, with growing pauses, unless it, or one that it wraps, is a Verdict.
type Sender interface {
	Send(ctx context.Context, l Letter) error
}

// A Verdict is an error that knows what becomes of the letter.
type Verdict interface {
	error
	// Again reports whether it makes sense to try again, and not before which pause; 0 leaves
	// the pause to the outbox.
	Again() (bool, time.Duration)
}

// A Batch is what one author changes at once.
type Batch struct {
	// UpTo is the Number of the last news that the author is done with, 0 for no change.
	UpTo int64
	// Letters are new.
	Letters []Letter
	// Notes are what the author remembers by keys of its own; a nil value is forgotten.
	Notes map[string][]byte
}

// A Note is what an author remembers.
type Note struct {
	Key   string
	Value []byte
	At    time.Time // when it was written, wall time
}

// A Keeper keeps across restarts what is still to be told. The store is one. It is safe for
// concurrent use.
type Keeper interface {
	// News are the decisions that reader has not done with yet, at most max, oldest first. A
	// reader that was never there before begins with what is decided from now on. A call
	// may return fewer than there are; none means that there are none.
	News(ctx context.Context, reader string, max int) ([]bantam.News, error)
	// Commit writes all of b or nothing. A letter whose key is kept already is that letter: it
	// stays as it is.
	Commit(ctx context.Context, reader string, b Batch) error
	// Note is what owner remembers by key, and since when; nil for nothing.
	Note(ctx context.Context, owner, key string) (value []byte, at time.Time, err error)
	// Letters are all that are kept, oldest first, without their bodies.
	Letters(ctx context.Context) ([]Letter, error)
	// KeepLetter replaces the letter of the same key, but for its Body.
	KeepLetter(ctx context.Context, l Letter) error
	// DropLetter forgets a letter.
	DropLetter(ctx context.Context, key string) error
}

// A Shelf is a Keeper that hands out the letters' bodies one by one, so that memory does not
// hold what waits for days. The store is one.
type Shelf interface {
	Keeper
	// Body is that of a letter. Its error wraps ErrNoLetter if there is no such letter.
	Body(ctx context.Context, key string) ([]byte, error)
	// Notes are all that owner remembers, in the order of their keys.
	Notes(ctx context.Context, owner string) ([]Note, error)
}

// ErrNoLetter is wrapped by errors about a key that no letter has.
var ErrNoLetter = errors.New("there is no such letter")
