package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/control"
	"bantam/internal/jail"
)

// quiet are the files of a daemon that bans nobody in the kernel, with some jails.
func quiet(jails string) map[string]string {
	return map[string]string{
		"jail.conf":     "[DEFAULT]\nobserve = true\naction =\nbackend = polling\n" + jails,
		"fail2ban.conf": "[Definition]\nsocket = DIR/f2b.sock\npidfile =\ndbfile = None\nlogtarget = STDERR\n",
		"a.log":         "",
	}
}

// A list that somebody else made shuts out neither everybody nor who administrates the machine.
func TestAForeignListShutsNoAdministratorOut(t *testing.T) {
	d := runningBy(t, quiet("ignorelogins = 1d\n[j1]\nenabled = true\nfailregex = ^bad <HOST>$\nlogpath = DIR/a.log\n"))
	d.logins.Add(jail.Login{Addr: mustAddr(t, "198.51.100.7"), User: "root", At: time.Now().Add(-time.Minute)})
	var list control.ImportRequest
	for _, text := range []string{"0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/3", "198.51.100.7", "198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32"} {
		id, err := bantam.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		list.Bans = append(list.Bans, control.ImportBan{ID: id, Seconds: 600}, control.ImportBan{ID: id, Jail: "j1", Seconds: 600})
	}
	got, err := control.Call(t.Context(), control.NewClient(d.options.Socket), control.Import, list)
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]int{}
	for _, r := range got.Refused {
		refused[list.Bans[r.Place].ID.String()]++
		if !strings.Contains(r.Why, "is nearly everybody") && !strings.Contains(r.Why, "an administrator's login: user root") {
			t.Errorf("%s is refused because %s", list.Bans[r.Place].ID, r.Why)
		}
	}
	for _, text := range []string{"0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/3", "198.51.100.7", "198.51.100.0/24"} {
		if refused[text] != 2 {
			t.Errorf("%s is refused %d times of 2", text, refused[text])
		}
	}
	var banned []string
	for _, b := range awaitBans(t, d, "j1", 3) {
		banned = append(banned, b.ID.String())
	}
	slices.Sort(banned)
	if want := []string{"10.0.0.0/8", "2001:db8::/32", "203.0.113.0/24"}; !slices.Equal(banned, want) || got.Observed != 6 {
		t.Errorf("banned are %q and %d, want %q", banned, got.Observed, want)
	}
}
