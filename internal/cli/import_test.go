package cli

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam/internal/control"
)

// listed are the bans that a list comes to, and how many of its lines are none.
func listed(t testing.TB, text string) (bans []string, i *importer, err error) {
	i = &importer{app: &app{stdout: io.Discard, socket: t.TempDir() + "/nobody"}, ctx: t.Context(), now: noon}
	err = i.list("list", strings.NewReader(text))
	for _, b := range i.waiting {
		bans = append(bans, fmt.Sprintf("%s %s %v", b.ID, b.Jail, b.Seconds))
	}
	return bans, i, err
}

func TestListsAreRead(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
		wrong      int
	}{
		{"nothing", "", nil, 0},
		{"comments and blank lines only", "# a\n\n ; b\n", nil, 0},
		{"addresses and prefixes", "192.0.2.1\n2001:db8::/32 # a network\r\n[2001:db8::1]", []string{"192.0.2.1  -1", "2001:db8::/32  -1", "2001:db8::1  -1"}, 0},
		{"a mark of Windows at the start", "\ufeff192.0.2.1\n", []string{"192.0.2.1  -1"}, 0},
		{"what is no address is passed over", "192.0.2.1\nevil.example\n192.0.2.300\n192.0.2.2", []string{"192.0.2.1  -1", "192.0.2.2  -1"}, 2},
		{"a line without an end", strings.Repeat("1", 1<<20) + "\n192.0.2.1\n", []string{"192.0.2.1  -1"}, 1},
		{"what banned prints", `{"bans":[{"jail":"sshd","id":"192.0.2.1","time":"2025-03-02T10:00:00Z"},{"jail":"sshd"}]}`, []string{"192.0.2.1 sshd -1"}, 1},
		{"a list of bans", ` [ {"jail":"sshd","id":"192.0.2.1","end":"2025-03-02T10:00:00Z"} ]`, []string{"192.0.2.1 sshd 0"}, 0},
		{"an empty list of bans", "[]", nil, 0},
	} {
		got, i, err := listed(t, c.text)
		if err != nil || !slices.Equal(got, c.want) || i.reply.Wrong != c.wrong {
			t.Errorf("%s: %q, %d wrong, %v; want %q, %d", c.name, got, i.reply.Wrong, err, c.want, c.wrong)
		}
	}
	if _, _, err := listed(t, `{"bans":[`); err == nil || !strings.Contains(err.Error(), "list") {
		t.Errorf("half a list of bans: %v", err)
	}
}

// Fail2Ban's database is taken over with the ends of its bans; jails that do not run here are named.
func TestADatabaseIsTakenOver(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	db, err := sql.Open("sqlite", filepath.Join(dir, "fail2ban.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		`CREATE TABLE fail2banDb(version INTEGER)`, `INSERT INTO fail2banDb VALUES (4)`, `CREATE TABLE jails(name TEXT, enabled INTEGER)`,
		`CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON)`,
		fmt.Sprintf(`INSERT INTO bips VALUES ('192.0.2.1','sshd',%d,3600,2,'{"matches":["a"],"failures":5}'), ('192.0.2.2','sshd',%d,600,1,'{}'),
			('192.0.2.3','sshd',%d,-1,1,NULL), ('192.0.2.4','exim',%d,3600,1,NULL), ('192.0.2.5','exim',%d,3600,1,NULL), (NULL,'sshd',1,1,1,NULL)`,
			now.Unix()-60, now.Unix()-6000, now.Unix()-60, now.Unix(), now.Unix()),
	} {
		if _, err := db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	socket := aDaemon(t)
	var out, errs bytes.Buffer
	if n := Main(t.Context(), []string{"bantam", "import", dir, "-c", "library", "--socket", socket}, os.DirFS(dir), &out, &errs); n != ExitFailed {
		t.Errorf("it ends with %d: %s", n, errs.String())
	}
	want := "2 bans of the jail exim left out: it does not run here; --jail says who bans them\n0 bans taken over, 2 observed only\n"
	if out.String() != want {
		t.Errorf("%q\nwant %q", out.String(), want)
	}
	reply, err := control.Call(t.Context(), control.NewClient(socket), control.GetBans, control.BansRequest{Jail: "sshd"})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range reply.Bans {
		switch b.ID.String() {
		case "192.0.2.1":
			if left := b.End.Sub(now).Round(time.Minute); left != 59*time.Minute {
				t.Errorf("it lasts %v longer", left)
			}
		case "192.0.2.3":
			if !b.Permanent() {
				t.Errorf("it ends at %v", b.End)
			}
		default:
			t.Errorf("%s is banned", b.ID)
		}
	}
}

// Thousands are taken over in parts.
func TestALongListIsTakenOver(t *testing.T) {
	const many = importedAtOnce + 7
	var list strings.Builder
	for n := range many {
		fmt.Fprintf(&list, "10.%d.%d.%d\n", n>>16, n>>8&255, n&255)
	}
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if n := Main(t.Context(), []string{"bantam", "import", file, "--socket", aDaemon(t)}, os.DirFS("."), &out, &errs); n != ExitOK {
		t.Fatal(n, errs.String())
	}
	if want := fmt.Sprintf("0 bans taken over, %d observed only\n", many); out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestAgo(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "0001-01-01 00:00:00"},
		{"1d", "2025-03-01 12:00:00"},
		{"90m", "2025-03-02 10:30:00"},
		{"2025-02-03", "2025-02-03 00:00:00"},
		{"2025-02-03 10:15", "2025-02-03 10:15:00"},
		{"2025-02-03T10:15:16", "2025-02-03 10:15:16"},
	} {
		if got, err := ago(c.text, noon); err != nil || got.Format(time.DateTime) != c.want && c.text != "" {
			t.Errorf("%q is %v, %v; want %s", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{"yesterday", "-1d", "2025-13-01", "1x"} {
		if got, err := ago(text, noon); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func FuzzLists(f *testing.F) {
	f.Add("192.0.2.1\n# x\n")
	f.Add(`{"bans":[{"id":"192.0.2.1"}]}`)
	f.Add(`[{"id":"x","end":"2025-03-02T10:00:00Z"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 64<<10 {
			return
		}
		bans, i, err := listed(t, text)
		if err == nil && !isJSON([]byte(text)) && len(bans)+i.reply.Wrong > strings.Count(text, "\n")+1 {
			t.Errorf("%d bans and %d wrong in %q", len(bans), i.reply.Wrong, text)
		}
		for _, b := range i.waiting {
			if b.ID.IsZero() {
				t.Errorf("nobody is banned by %q", text)
			}
		}
	})
}
