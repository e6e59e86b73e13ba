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
	// Body is what the channel's Sender needs to send it again years later; it holds no secret. It is
	// there for Commit and Send only, at most MaxBody bytes; Size is its length everywhere.
	Body []byte `json:"-"`
	Size int    `json:"size"`
	// Made is when it was written, wall time; zero for Commit is now.
	Made time.Time `json:"made"`
	// Due is when it is tried next, or, if it has failed, when it is forgotten, wall time. For Commit
	// zero is now, and no more than a day ahead counts.
	Due   time.Time `json:"due"`
	Tries int       `json:"tries"`
	// Err is why the last attempt did not work, one line of at most 300 bytes that are safe to
	// print; it holds no secret.
	Err string `json:"error,omitempty"`
	// Failed is true for a letter that its receiver will never take: it is not tried
	// again unless somebody asks for it.
	Failed bool `json:"failed,omitempty"`
}

// A Sender delivers letters of one channel, one after the other. An error means that the letter
// is tried again, with growing pauses, unless it, or one that it wraps, is a Verdict. Send ends
// soon after ctx does, which is two minutes after it began, or when the program stops. What it
// could not do by then is tried again with the same key.
type Sender interface {
	Send(ctx context.Context, l Letter) error
}

// A Verdict is an error that knows what becomes of the letter.
type Verdict interface {
	error
	// Again reports whether it makes sense to try again, and not before which pause, of at most
	// a day; 0 leaves the pause to the outbox. The whole channel keeps the pause. It rests after
	// a letter that is not to be tried again, too.
	Again() (bool, time.Duration)
}

// A Batch is what one author changes at once.
type Batch struct {
	// UpTo is the Number of the last news that the author is done with, 0 for no change.
	UpTo int64
	// Letters are new. They need a Key, a Channel and a Body.
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
