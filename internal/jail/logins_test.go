package jail

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bantam"
)

// guarded is newState whose jail spares administrators for a day, and their logins.
func guarded(logins ...Login) (*State, *Logins) {
	s, l := newState(func(c *Config) { c.IgnoreLogins, c.Prefix6 = 24*time.Hour, 64 }), &Logins{}
	s.UseLogins(l)
	for _, n := range logins {
		l.Add(n)
	}
	return s, l
}

func login(addr, user string, seconds float64) Login {
	return Login{Addr: netip.MustParseAddr(addr), User: user, At: at(seconds)}
}

// failing has an address fail three times, and returns what that decides.
func failing(t *testing.T, s *State, who bantam.ID, seconds float64) bantam.Decision {
	t.Helper()
	for i := range 3 {
		if d, ok := s.Fail(fail(who, seconds+float64(i))); ok {
			return d
		}
	}
	t.Fatalf("three failures of %s decide nothing", who)
	return bantam.Decision{}
}

const (
	hour = 3600
	day  = 24 * hour
)

func TestABanOfAnAdministratorIsHeldBack(t *testing.T) {
	for _, c := range []struct {
		name   string
		logins []Login
		live   []Login
		who    string
		at     float64
		why    string // "" for a ban
	}{
		{"somebody else has logged in", []Login{login("192.0.2.9", "root", 0)}, nil, "192.0.2.7", hour, ""},
		{"he logged in an hour ago", []Login{login("192.0.2.7", "root", 0)}, nil, "192.0.2.7", hour, "an administrator's login: user root at 2025-03-02 10:00"},
		{"he logged in more than a day ago", []Login{login("192.0.2.7", "root", 0)}, nil, "192.0.2.7", day + 1, ""},
		{"his session lasts for days", nil, []Login{login("192.0.2.7", "root", 0)}, "192.0.2.7", 9 * day, "an administrator's session: user root since 2025-03-02 10:00"},
		{"his session is inside the prefix that is counted", nil, []Login{login("2001:db8:1:2::9", "anna", 0)}, "2001:db8:1:2::7", hour, "an administrator's session: user anna from 2001:db8:1:2::9 since 2025-03-02 10:00"},
		{"his session is in the next prefix", nil, []Login{login("2001:db8:1:3::9", "anna", 0)}, "2001:db8:1:2::7", hour, ""},
		{"a session goes before a later login", []Login{login("192.0.2.7", "anna", 9)}, []Login{login("192.0.2.7", "root", 0)}, "192.0.2.7", hour, "an administrator's session: user root since 2025-03-02 10:00"},
		{"the later of two logins is named", []Login{login("192.0.2.7", "anna", 60), login("192.0.2.7", "root", 0)}, nil, "192.0.2.7", hour, "an administrator's login: user anna at 2025-03-02 10:01"},
		{"a long name is cut", []Login{login("192.0.2.7", strings.Repeat("a", 99), 0)}, nil, "192.0.2.7", hour, "an administrator's login: user " + strings.Repeat("a", maxUser) + " at 2025-03-02 10:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, l := guarded(c.logins...)
			l.Last(c.live)
			d := failing(t, s, id(t, c.who), c.at)
			if d.Kind != bantam.Start || d.Ban.Reason != c.why || d.Ban.Held() != (c.why != "") || d.Ban.Observed != d.Ban.Held() {
				t.Fatalf("decided %+v, want the reason %q", d, c.why)
			}
			if got := bans(t, s); len(got) != 1 || got[0].Held() != d.Ban.Held() {
				t.Errorf("the running bans are %+v", got)
			}
			st := s.Status(at(c.at))[0]
			if held := d.Ban.Held(); (st.Held == 1) != held || (st.Banned == 1) == held || (st.Bans == 1) == held || st.LastBan.IsZero() != held {
				t.Errorf("the status is %+v", st)
			}
			if n := s.before(s.jails["sshd"], d.Ban.ID, at(c.at+9)); (n == 0) != d.Ban.Held() {
				t.Errorf("it counts as %d earlier bans", n)
			}
		})
	}
}

func TestNobodyIsSparedWithoutIgnoreLogins(t *testing.T) {
	s := newState()
	var l Logins
	s.UseLogins(&l)
	l.Last([]Login{login("192.0.2.7", "root", 0)})
	if d := failing(t, s, id(t, "192.0.2.7"), 0); d.Ban.Observed {
		t.Errorf("held back: %+v", d)
	}
}

func TestABanFollowsWhenTheSessionIsOver(t *testing.T) {
	s, l := guarded()
	who := id(t, "192.0.2.7")
	l.Last([]Login{login("192.0.2.7", "root", 0)})
	held := failing(t, s, who, 2*day)
	l.Last(nil)
	if got := bans(t, s); len(got) != 1 || !got[0].Held() {
		t.Fatalf("the end of the session alone changes %+v", got)
	}
	d := failing(t, s, who, 2*day+60)
	if d.Kind != bantam.Start || d.Ban.Observed || d.Ban.Count != 1 || d.Ban.Reason != "" {
		t.Fatalf("decided %+v, want a first ban", d)
	}
	if got := bans(t, s); len(got) != 1 || got[0].Observed {
		t.Errorf("the running bans are %+v", got)
	}
	if got := s.Expire(held.Ban.End.Add(time.Second)); len(got) != 0 {
		t.Errorf("the end of the one that was held back ends %+v", got)
	}
	if got := s.Expire(d.Ban.End.Add(time.Second)); len(got) != 1 || got[0].Ban.Observed || s.Status(at(0))[0].Held != 0 {
		t.Errorf("the end of the ban is %+v", got)
	}
}

func TestALoginDuringABan(t *testing.T) {
	s, l := guarded()
	who := id(t, "192.0.2.7")
	banned := failing(t, s, who, 0)
	l.Add(login("192.0.2.7", "root", 30))
	for i := range 9 {
		if d, ok := s.Fail(fail(who, 60+float64(i))); ok {
			t.Errorf("failures of an administrator whose ban runs decide %+v", d)
		}
	}
	if got := bans(t, s); len(got) != 1 || got[0].Observed || !got[0].End.Equal(banned.Ban.End) {
		t.Errorf("the running bans are %+v; a login lifts none", got)
	}
}

func TestAnOperatorBansAnAdministrator(t *testing.T) {
	s, l := guarded()
	who := id(t, "192.0.2.7")
	l.Last([]Login{login("192.0.2.7", "root", 0)})
	failing(t, s, who, 0)
	d, ok, err := s.Ban("sshd", who, time.Minute, bantam.ByOperator, "really", at(9))
	if err != nil || !ok || d.Kind != bantam.Start || d.Ban.Observed {
		t.Errorf("decided %+v, %v, %v; who asks for a ban shall have it", d, ok, err)
	}
}

func TestHeldBansAndARestart(t *testing.T) {
	s, l := guarded()
	l.Last([]Login{login("192.0.2.7", "root", 0), login("192.0.2.8", "anna", 0)})
	held := failing(t, s, id(t, "192.0.2.7"), 0).Ban
	next, _ := guarded()
	if d, ok := next.Restore(held, at(9)); !ok || !d.Ban.Held() {
		t.Fatalf("restored as %+v, %v", d, ok)
	}
	ran := bantam.Ban{Jail: "sshd", ID: id(t, "192.0.2.8"), Time: at(0), End: at(hour), Count: 1, By: bantam.ByFailures}
	next.UseLogins(l)
	if d, ok := next.Restore(ran, at(9)); !ok || d.Ban.Observed {
		t.Errorf("a ban that ran is restored as %+v, %v, though he has logged in", d, ok)
	}
	ran.ID, ran.Time = held.ID, at(5)
	if d, ok := next.Restore(ran, at(9)); !ok || d.Ban.Observed {
		t.Errorf("the ban behind one that was held back is restored as %+v, %v", d, ok)
	}
	if st := next.Status(at(9))[0]; st.Held != 0 || st.Banned != 2 {
		t.Errorf("the status is %+v", st)
	}
}

func TestWhoStopsObservingBansNoAdministrator(t *testing.T) {
	s, l := guarded()
	c := s.jails["sshd"].Config
	c.Observe = true
	s.Configure([]Config{c}, at(0))
	l.Add(login("192.0.2.7", "root", 0))
	failing(t, s, id(t, "192.0.2.7"), 0)
	failing(t, s, id(t, "192.0.2.8"), 0)
	c.Observe = false
	ds := s.Configure([]Config{c}, at(60))
	if len(ds) != 1 || ds[0].Ban.ID != id(t, "192.0.2.8") {
		t.Errorf("enforcing decides %+v, want a ban of the stranger alone", ds)
	}
}

func TestLoginsAreBounded(t *testing.T) {
	var l Logins
	addr := func(n int) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n))
		return netip.AddrFrom4(b)
	}
	const n = 2 * maxLogins
	for i := range n {
		l.Add(Login{Addr: addr(i), At: at(float64(i))})
	}
	if len(l.told) > maxLogins {
		t.Errorf("%d addresses are remembered", len(l.told))
	}
	if _, ok := l.Within(bantam.AddrID(addr(n-1)), at(0)); !ok {
		t.Error("the latest login is forgotten")
	}
	if _, ok := l.Within(bantam.AddrID(addr(0)), at(0)); ok {
		t.Error("the first login is remembered")
	}
}
