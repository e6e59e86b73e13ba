// Package control is how a running daemon is asked: HTTP with JSON bodies on a unix
// socket that its owner can open, and a group that may read. docs/formats/control.md describes it.
//
// protocol.go names every request and what it carries; Handle and Call are its two
// ends, so a request is added in one line here, one in the daemon, and its use.
//
// Beside it stands Fail2Ban's own protocol on Fail2Ban's own socket, both ends of it: lists of
// words and replies in Python's pickle, of which only plain data is read. What a command
// means is the daemon's business. docs/formats/fail2ban.md describes it.
package control

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"bantam"
	"bantam/internal/action"
	"bantam/internal/geo"
	"bantam/internal/jail"
	"bantam/internal/notify"
	"bantam/internal/outbox"
	"bantam/internal/report"
	"bantam/internal/source"
	"bantam/internal/store"
)

// An Endpoint is one request: how it is addressed, what it carries, what answers.
type Endpoint[Request, Reply any] struct {
	Method, Path string
	// Reads is true if the request changes nothing: then whoever may read may ask it, and
	// else only root.
	Reads bool
	// Summary says what it is for, in one line.
	Summary string
}

// None is the body of requests and replies that carry nothing.
type None struct{}

// The requests. Described lists them all.
var (
	Ping          = Endpoint[None, Pong]{http.MethodGet, "/v1/ping", true, "Who answers"}
	GetStatus     = Endpoint[None, Status]{http.MethodGet, "/v1/status", true, "The state of everything"}
	GetBans       = Endpoint[BansRequest, BansReply]{http.MethodPost, "/v1/bans", true, "The running bans"}
	Ban           = Endpoint[BanRequest, BanReply]{http.MethodPost, "/v1/ban", false, "Ban an address or a prefix"}
	Unban         = Endpoint[UnbanRequest, UnbanReply]{http.MethodPost, "/v1/unban", false, "End bans"}
	Why           = Endpoint[WhyRequest, WhyReply]{http.MethodPost, "/v1/why", true, "Everything that is known of an address"}
	GetAllow      = Endpoint[None, AllowReply]{http.MethodGet, "/v1/allow", true, "Who is never banned"}
	Allow         = Endpoint[AllowRequest, AllowReply]{http.MethodPost, "/v1/allow", false, "Never ban these any more"}
	Disallow      = Endpoint[AllowRequest, AllowReply]{http.MethodDelete, "/v1/allow", false, "Take these off the allow list"}
	Reload        = Endpoint[None, ReloadReply]{http.MethodPost, "/v1/reload", false, "Read the configuration again"}
	Enforce       = Endpoint[EnforceRequest, EnforceReply]{http.MethodPost, "/v1/enforce", false, "Leave observe mode, undone unless confirmed"}
	Stop          = Endpoint[StopRequest, None]{http.MethodPost, "/v1/stop", false, "Stop the daemon"}
	GetChannels   = Endpoint[None, Channels]{http.MethodGet, "/v1/notify", true, "Who is told of bans, and what waits to be delivered"}
	TestChannel   = Endpoint[ChannelRequest, None]{http.MethodPost, "/v1/notify/test", false, "Send a message by a channel and say what became of it"}
	Letter        = Endpoint[LetterRequest, None]{http.MethodPost, "/v1/notify/letter", false, "Try a letter again at once, or drop it"}
	GetReports    = Endpoint[None, Reports]{http.MethodGet, "/v1/reports", true, "What was reported, and what is to be"}
	PreviewReport = Endpoint[ReportRequest, ReportPreview]{http.MethodPost, "/v1/reports/preview", false, "Show a report without sending it"}
	SendReport    = Endpoint[ReportRequest, ReportReply]{http.MethodPost, "/v1/reports/send", false, "Report an address now"}
	GetOpenAPI    = Endpoint[None, Document]{http.MethodGet, "/v1/openapi", true, "This description"}
)

// Pong says who answers.
type Pong struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// Status is the state of everything.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"` // wall time of the start
	// Config is the folder in use; empty means the library alone.
	Config string `json:"config,omitempty"`
	// Database is its path; empty means memory.
	Database string `json:"database,omitempty"`
	// Firewall names where bans go, "nftables inet bantam"; empty if nowhere.
	Firewall string `json:"firewall,omitempty"`
	// Trial is set while bans are carried out on trial.
	Trial  *Trial `json:"trial,omitempty"`
	Memory uint64 `json:"memory"` // bytes resident
	// Privileges is what the process may do: all it was started with, or only what it needs.
	Privileges string `json:"privileges,omitempty"`
	// Goroutines is how many there are: what hangs or leaks shows in it.
	Goroutines int             `json:"goroutines"`
	Jails      []JailStatus    `json:"jails"`
	Allowed    int             `json:"allowed"` // prefixes never banned, by the operator
	Actions    []action.Status `json:"actions"`
	// Unsaved is how many decisions the database has not taken; StoreError why.
	Unsaved    int    `json:"unsaved,omitempty"`
	StoreError string `json:"store_error,omitempty"`
}

// Mode says in a few words what becomes of bans, at the wall time now.
func (s *Status) Mode(now time.Time) string {
	switch {
	case s.Firewall == "":
		return "observing, nobody is banned"
	case s.Trial != nil:
		return fmt.Sprintf("enforcing on trial, %d s left: bantam enforce --confirm", int(math.Ceil(max(0, s.Trial.Until.Sub(now).Seconds()))))
	}
	return "enforcing by " + s.Firewall
}

// JailStatus is one jail: its figures, its sources, or why it is set aside.
type JailStatus struct {
	jail.Status
	// Aside is why the jail does not run; its figures are zero then.
	Aside   string          `json:"aside,omitempty"`
	Sources []source.Status `json:"sources,omitempty"`
	// Dropped is what the kernel has dropped for the jail since the table was made.
	Dropped *Traffic `json:"dropped,omitempty"`
	// Faults are the expressions that could not be trusted in some lines; jails with the
	// same expressions share them.
	Faults []Fault `json:"faults,omitempty"`
}

// Fault is a filter.Fault, counted since the configuration was read.
type Fault struct {
	Option   string `json:"option"`
	Overruns uint64 `json:"overruns,omitempty"`
	Misses   uint64 `json:"misses,omitempty"`
}

// Traffic is what a rule has counted.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// BansRequest asks for running bans: of one jail or all, around one ID or all.
type BansRequest struct {
	Jail string    `json:"jail,omitempty"`
	ID   bantam.ID `json:"id,omitzero"`
}

// BansReply are running bans, oldest first.
type BansReply struct {
	Bans []bantam.Ban `json:"bans"`
}

// BanRequest asks for a ban.
type BanRequest struct {
	Jail string    `json:"jail"`
	ID   bantam.ID `json:"id"`
	// Seconds is how long; 0 takes the jail's bantime, negative means for ever.
	Seconds float64 `json:"seconds,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	// Force bans what the jail's ignore rules would let off. The allow list
	// cannot be overruled.
	Force bool `json:"force,omitempty"`
}

// BanReply is the ban as it stands, stored and in the kernel.
type BanReply struct {
	Ban bantam.Ban `json:"ban"`
	// Already is true if the ID was banned at least that long before.
	Already bool `json:"already,omitempty"`
}

// WhyRequest asks about an ID.
type WhyRequest struct {
	ID bantam.ID `json:"id"`
}

// WhyReply is everything that is known of an ID.
type WhyReply struct {
	// Running are the bans around it or inside it that run, oldest first, with their lines.
	Running []bantam.Ban `json:"running"`
	// Past are its own bans that are remembered, the newest first; those that run are among them.
	Past []bantam.Ban `json:"past"`
	// Ignored says by jail which rule lets it off.
	Ignored map[string]string `json:"ignored,omitempty"`
	Place   geo.Place         `json:"place,omitzero"`
}

// UnbanRequest asks to end bans: of one jail or all, of one ID or all.
type UnbanRequest struct {
	Jail string    `json:"jail,omitempty"`
	ID   bantam.ID `json:"id,omitzero"`
	// All must be true if ID is zero, so that nobody lifts everything by mistake.
	All bool `json:"all,omitempty"`
}

// UnbanReply are the bans that ended.
type UnbanReply struct {
	Bans []bantam.Ban `json:"bans"`
}

// AllowRequest puts prefixes on the allow list, or takes them off.
type AllowRequest struct {
	IDs    []bantam.ID `json:"ids"`
	Reason string      `json:"reason,omitempty"`
}

// AllowReply is the allow list as it is now.
type AllowReply struct {
	Allowed []store.Allowed `json:"allowed"`
	// Lifted are bans that ended because of it.
	Lifted []bantam.Ban `json:"lifted,omitempty"`
	// Changed are the prefixes that were put on or taken off.
	Changed []bantam.ID `json:"changed,omitempty"`
}

// ReloadReply says what runs after a reload.
type ReloadReply struct {
	Jails    []string `json:"jails"`
	Warnings []string `json:"warnings,omitempty"`
}

// EnforceRequest has the jails ban that observe because [DEFAULT] says so.
type EnforceRequest struct {
	// Seconds is how long it may last without being confirmed: 0 for 60, at most 3600; negative for no trial. In
	// a trial it counts anew.
	Seconds float64 `json:"seconds,omitempty"`
	// Confirm lets what is on trial stand, Undo ends it at once; there must be a trial.
	Confirm bool `json:"confirm,omitempty"`
	Undo    bool `json:"undo,omitempty"`
}

// EnforceReply is what came of it.
type EnforceReply struct {
	Jails []string `json:"jails,omitempty"` // that ban now
	Trial *Trial   `json:"trial,omitempty"`
	// Place is the line that has jails observe. The daemon leaves it there: a reload or the next start observes
	// again as long as it stands.
	Place Place `json:"place,omitzero"`
}

// A Trial is enforcing that nobody has confirmed yet.
type Trial struct {
	Until time.Time `json:"until"` // wall time at which it is undone
}

// A Place is a line of the configuration.
type Place struct {
	Dir  string `json:"dir,omitempty"` // empty for the library
	File string `json:"file"`          // inside of it
	Line int    `json:"line"`
}

// StopRequest stops the daemon.
type StopRequest struct {
	// Unban takes every ban out of the kernel. The store keeps them.
	Unban bool `json:"unban,omitempty"`
}

// Channels are the ways to operators, and the letters of all channels that wait, have failed or are held.
type Channels struct {
	Channels []notify.Status `json:"channels"`
	Letters  []outbox.Letter `json:"letters"`
}

// ChannelRequest names a channel.
type ChannelRequest struct {
	Channel string `json:"channel"`
}

// LetterRequest is about a letter by its key.
type LetterRequest struct {
	Key string `json:"key"`
	// Drop forgets the letter; otherwise it is tried at once.
	Drop bool `json:"drop,omitempty"`
}

// Reports are what was reported and what waits to be, newest first.
type Reports struct {
	Reports []report.Sent `json:"reports"`
}

// ReportRequest is about the report of an address.
type ReportRequest struct {
	ID bantam.ID `json:"id"`
	// Channel is the way to report; empty for the first to an abuse desk, or the first at all.
	Channel string `json:"channel,omitempty"`
	// Force sends it though the interval, a cap or a rule holds it back.
	Force bool `json:"force,omitempty"`
}

// ReportPreview is a report as it would be sent: a mail, or what a list would be told.
type ReportPreview struct {
	Text string `json:"text"`
}

// ReportReply is what became of a report.
type ReportReply struct {
	Report report.Sent `json:"report"`
}

// An Error is an answer that something could not be done, made for a person.
type Error struct {
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"` // a way on
	// Status is the HTTP status it travels with: 4xx for a wrong request, 403 for one that
	// who asks may not make, 5xx when the daemon could not.
	Status int `json:"-"`
}

func (e *Error) Error() string { return e.Text }

// Refuse makes the error of a request that cannot be granted as it is.
func Refuse(hint, format string, args ...any) *Error {
	return &Error{Text: fmt.Sprintf(format, args...), Hint: hint, Status: http.StatusBadRequest}
}
