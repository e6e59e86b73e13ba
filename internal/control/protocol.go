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
	GetHistory    = Endpoint[HistoryRequest, HistoryReply]{http.MethodPost, "/v1/history", true, "Bans of the past, and how they ended"}
	GetFailing    = Endpoint[FailingRequest, FailingReply]{http.MethodPost, "/v1/failing", true, "Who fails now and is nearest to a ban"}
	Watch         = Endpoint[WatchRequest, Event]{http.MethodPost, "/v1/watch", true, "What happens, as it happens: an Event a line, until the client goes or the daemon stops"}
	Ban           = Endpoint[BanRequest, BanReply]{http.MethodPost, "/v1/ban", false, "Ban an address or a prefix"}
	Unban         = Endpoint[UnbanRequest, UnbanReply]{http.MethodPost, "/v1/unban", false, "End bans"}
	Why           = Endpoint[WhyRequest, WhyReply]{http.MethodPost, "/v1/why", true, "Everything that is known of an address"}
	Judge         = Endpoint[JudgeRequest, JudgeReply]{http.MethodPost, "/v1/judge", true, "What would become of log lines, and why; nothing is counted"}
	Import        = Endpoint[ImportRequest, ImportReply]{http.MethodPost, "/v1/import", false, "Take over many bans at once"}
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
	// LastCountry is where LastBan is, as ISO 3166-1 alpha-2; empty if that is not known.
	LastCountry string `json:"last_country,omitempty"`
	// Faults are the expressions that could not be trusted in some lines; jails with the
	// same expressions share them.
	Faults []Fault `json:"faults,omitempty"`
	// Stamps are its lines whose date was not as it should be; nil if there were none.
	Stamps *Stamps `json:"stamps,omitempty"`
}

// Stamps is a filter.Stamps, counted since the configuration was read.
type Stamps struct {
	Undated uint64  `json:"undated,omitempty"` // lines without a date that could be read
	Skewed  uint64  `json:"skewed,omitempty"`  // lines stamped further than a minute from when they were written
	Skew    float64 `json:"skew,omitempty"`    // seconds, of the last of those; negative for one that seems old
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
	// Begin asks only for those whose ID begins so, as it is written.
	Begin string `json:"begin,omitempty"`
	// Limit is how many of each jail, the newest; of IPv4, of IPv6 and of texts so many each. 0 is all.
	Limit int `json:"limit,omitempty"`
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
	// Standing is how it stands in the jails where it has failed and is not banned yet.
	Standing []jail.Standing `json:"standing,omitempty"`
	// Matches are which expressions its running bans' lines match, by the rules of now.
	Matches []Match `json:"matches,omitempty"`
	// Told are those who are told of the running bans' jails, and the reports that were made of it.
	Told []Told `json:"told,omitempty"`
}

// A Rule is an expression of a jail's filter, and where it stands.
type Rule struct {
	Option     string `json:"option"` // "prefregex", "failregex 3"
	Expression string `json:"expression"`
	// File and Line are its place; no file means that no file says it.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// A Match is what a jail's filter makes of a kept line.
type Match struct {
	Jail string            `json:"jail"`
	Line string            `json:"line"` // attacker's text
	Rule Rule              `json:"rule"`
	Data map[string]string `json:"data,omitempty"` // captured parts by name; attacker's text
}

// A Told is somebody who is told of bans.
type Told struct {
	Channel string   `json:"channel"`
	Jails   []string `json:"jails,omitempty"` // of the running bans
	// What says what became of it.
	What string    `json:"what"`
	At   time.Time `json:"at,omitzero"` // wall time
}

// A PastBan is a ban as it is remembered, and a PastKey names one.
type (
	PastBan = store.PastBan
	PastKey = store.PastKey
)

// HistoryRequest asks for bans of the past; what is left out does not matter.
type HistoryRequest struct {
	Jail string `json:"jail,omitempty"`
	// ID finds its own bans, those inside it, and those of the prefixes around an address.
	ID      bantam.ID `json:"id,omitzero"`
	Country string    `json:"country,omitempty"` // ISO 3166-1 alpha-2
	// Since and Until bound when a ban began: from Since on, before Until.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// After is the last ban of the page before.
	After PastKey `json:"after,omitzero"`
	Limit int     `json:"limit,omitempty"` // 1 to 1000; 0 is 50
}

// HistoryReply is one page of the past.
type HistoryReply struct {
	Bans []PastBan `json:"bans"` // the newest first
	// Fitting is how many there are; Least is true if there are more than were counted. A page that continues another
	// counts only what it has, and one more if more follows.
	Fitting int  `json:"fitting"`
	Least   bool `json:"least,omitempty"`
	// Since is the begin of the oldest ban that can be remembered.
	Since time.Time `json:"since"`
}

// FailingRequest asks for who is nearest to a ban.
type FailingRequest struct {
	Limit int `json:"limit,omitempty"` // 1 to 1000; 0 is 20
}

// FailingReply is who is nearest to a ban, the nearest first.
type FailingReply struct {
	Failing []Failing `json:"failing"`
}

// Failing is an offender who is not banned yet.
type Failing struct {
	jail.Standing
	Country string `json:"country,omitempty"`
}

// WatchRequest asks for events.
type WatchRequest struct {
	Jail string `json:"jail,omitempty"` // of one jail, and what concerns all; empty for all
}

// Kinds of events.
const (
	EventFailure = "failure" // a line that counts
	EventIgnored = "ignored" // one that does not, for Text lets its ID off
	EventBan     = "ban"
	EventProlong = "prolong"
	EventUnban   = "unban"   // Text is why
	EventRestore = "restore" // a ban that ran before a restart or reload
	EventHeld    = "held"    // a ban that was not carried out; Text is why
	EventReload  = "reload"  // Count jails run now
	EventAside   = "aside"   // a jail that cannot run; Text is why
	EventLost    = "lost"    // Count events that the client was too slow for
	EventStop    = "stop"    // the daemon stops; the last event
)

// An Event is something that happened.
type Event struct {
	At      time.Time `json:"at"` // wall time
	Kind    string    `json:"kind"`
	Jail    string    `json:"jail,omitempty"`
	ID      bantam.ID `json:"id,omitzero"`
	Country string    `json:"country,omitempty"`
	User    string    `json:"user,omitempty"` // attacker's text
	Text    string    `json:"text,omitempty"`
	// Regex is the number of the failregex of a failure.
	Regex int `json:"regex,omitempty"`
	// Failures made the ban, which is the Count-th of its ID; By is whose it is, End when it ends, zero for never.
	Failures int       `json:"failures,omitempty"`
	Count    int       `json:"count,omitempty"`
	By       string    `json:"by,omitempty"`
	End      time.Time `json:"end,omitzero"`
	// Observed is true of a ban that is not carried out since its jail only observes.
	Observed bool `json:"observed,omitempty"`
}

// JudgeRequest asks what would become of lines if they were read now, one after the other.
type JudgeRequest struct {
	Lines []string `json:"lines"` // at most 1000
	Jails []string `json:"jails,omitempty"`
}

// JudgeReply is what would become of each.
type JudgeReply struct {
	Lines []JudgedLine `json:"lines"`
	// Daemon is true if the counts are those of a running daemon.
	Daemon bool `json:"daemon,omitempty"`
}

// A JudgedLine is what each jail makes of a line.
type JudgedLine struct {
	Line  string   `json:"line"`
	Jails []Judged `json:"jails"`
}

// Stages of a line: where a jail is done with it. The first four refuse it before anybody is known to have failed.
const (
	StageAside       = "aside"       // the jail does not run; Text is why
	StageDate        = "date"        // no date is found in it, and nothing matches
	StagePrefregex   = "prefregex"   // Rule does not match
	StageFailregex   = "failregex"   // none of Tried expressions matches
	StageIgnoreregex = "ignoreregex" // Rule matches
	StageSession     = "session"     // it tells of a session, and who fails is not known yet, or nobody does
	StageNobody      = "nobody"      // it names nobody whom the jail may count
	StageName        = "name"        // Host cannot be resolved; Text is why
	StageIgnored     = "ignored"     // Text lets it off
	StageOld         = "old"         // it is older than findtime
	StageCounts      = "counts"      // it counts
	StageBans        = "bans"        // it completes a ban
	StageBanned      = "banned"      // it is about somebody who is banned already, until End
)

// Judged is what a jail makes of a line.
type Judged struct {
	Jail  string `json:"jail"`
	Stage string `json:"stage"`
	Rule  *Rule  `json:"rule,omitempty"` // that decided
	Text  string `json:"text,omitempty"`
	// Tried is how many failregexes were tried in vain.
	Tried int `json:"tried,omitempty"`
	// Undated is true if no date was found in it: then it counts as written when it is read.
	Undated bool              `json:"undated,omitempty"`
	Time    time.Time         `json:"time,omitzero"` // event time
	Host    string            `json:"host,omitempty"`
	ID      bantam.ID         `json:"id,omitzero"`
	Country string            `json:"country,omitempty"`
	User    string            `json:"user,omitempty"`
	Data    map[string]string `json:"data,omitempty"` // captured parts by name
	// Before is the count without it, Count with it.
	Before   int     `json:"before,omitempty"`
	Count    int     `json:"count,omitempty"`
	MaxRetry int     `json:"maxretry,omitempty"`
	FindTime float64 `json:"findtime,omitempty"` // seconds
	BanTime  float64 `json:"bantime,omitempty"`  // seconds; negative means for ever
	Observe  bool    `json:"observe,omitempty"`
	// Again is true if the jail counts different users, and this one is counted already.
	Again bool `json:"again,omitempty"`
	// Permanent and End say of a ban that runs how long it does.
	Permanent bool      `json:"permanent,omitempty"`
	End       time.Time `json:"end,omitzero"`
}

// ImportRequest takes over bans.
type ImportRequest struct {
	Bans []ImportBan `json:"bans"`
	// Reason is for those that bear none.
	Reason string `json:"reason,omitempty"`
}

// An ImportBan is a ban to be taken over.
type ImportBan struct {
	ID   bantam.ID `json:"id"`
	Jail string    `json:"jail,omitempty"` // default manual
	// End is when it ends, wall time; if it is zero, Seconds say how long it lasts from now on, as in BanRequest.
	End     time.Time `json:"end,omitzero"`
	Seconds float64   `json:"seconds,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// ImportReply says what became of the bans of a request.
type ImportReply struct {
	Banned   int `json:"banned"`
	Observed int `json:"observed"` // written down, for their jails only observe
	Already  int `json:"already"`  // were banned as long
	Over     int `json:"over"`     // have ended meanwhile
	// Refused are the others, by their place in the request from 0 on.
	Refused []ImportRefused `json:"refused,omitempty"`
}

// ImportRefused is a ban that was not taken over.
type ImportRefused struct {
	Place int    `json:"place"`
	Why   string `json:"why"`
	// Unknown is true if the ban's jail does not run.
	Unknown bool `json:"unknown,omitempty"`
}

// UnbanRequest asks to end bans: of one jail or all, of one ID or all.
type UnbanRequest struct {
	Jail string    `json:"jail,omitempty"`
	ID   bantam.ID `json:"id,omitzero"`
	// Country lifts those of a country of two letters, by geodb, in place of an ID.
	Country string `json:"country,omitempty"`
	// All must be true if ID is zero and Country empty, so that nobody lifts everything by mistake.
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
