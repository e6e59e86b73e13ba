package report

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
	"bantam/internal/whois"
)

// reading takes a mail apart.
func reading(t testing.TB, data []byte) *smtptest.Reading {
	t.Helper()
	m, err := smtptest.Read(data)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return m
}

// start runs the desk, and an outbox that looks every second, until the bubble's test ends.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.desk.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.t.Cleanup(func() { cancel(); <-done })
}

// pass lets time pass, and delivers.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	time.Sleep(d) // the bubble's
	synctest.Wait()
	if err := r.box.deliver(r.t.Context(), r.desk.Senders()); err != nil {
		r.t.Fatal(err)
	}
}

// tell decides bans, wakes the desk and waits until it has looked.
func (r *rig) tell(decisions ...bantam.Decision) {
	for _, d := range decisions {
		r.box.decide(d)
	}
	r.desk.Wake()
	time.Sleep(settle) // the bubble's
	synctest.Wait()
}

func TestOneMailTellsADeskOfAllItsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.start()
		for i := range 7 {
			r.tell(ban(t, fmt.Sprintf("198.51.100.%d", i+1)))
			r.pass(30 * time.Second)
		}
		r.tell(ban(t, "203.0.113.9"))
		if n := len(r.post.mails()); n != 0 {
			t.Fatalf("%d mails before the five minutes were over", n)
		}
		r.pass(gather)
		mails := r.post.mails()
		if len(mails) != 2 {
			t.Fatalf("%d mails for two desks", len(mails))
		}
		m := reading(t, mails[0].Data)
		if m.Subject != "Abuse report: attacks from 198.51.100.1 and 6 other addresses" || !slices.Equal(mails[0].To, []string{"abuse@net100.example"}) {
			t.Errorf("%q to %q", m.Subject, mails[0].To)
		}
		for i := range 7 {
			if want := fmt.Sprintf("Address     198.51.100.%d\n", i+1); !strings.Contains(m.Text, want) {
				t.Errorf("no %q in\n%s", want, m.Text)
			}
		}
		if len(m.Parts) != 7 {
			t.Errorf("%d files", len(m.Parts))
		}
	})
}

func TestAnAddressIsReportedOnceInTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.start()
		for range 11 { // it comes back every eight hours
			r.tell(ban(t, "198.51.100.7"))
			r.pass(8 * time.Hour)
		}
		mails := r.post.mails()
		if len(mails) != 2 {
			t.Fatalf("%d mails in 88 hours", len(mails))
		}
		if m := reading(t, mails[1].Data); !strings.Contains(m.Text, "Reported    1 time before") {
			t.Errorf("the second mail does not count:\n%s", m.Text)
		}
		list, err := r.desk.List(t.Context())
		if err != nil || len(list) != 2 || list[0].Count != 2 || list[1].Count != 1 || list[0].State != Delivered {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestADeskGetsOneMailAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.start()
		for i := range 60 { // one address a minute
			r.tell(ban(t, fmt.Sprintf("198.51.100.%d", i+1)))
			r.pass(time.Minute)
		}
		if n := len(r.post.mails()); n != 1 {
			t.Errorf("%d mails in the first hour", n)
		}
		r.pass(3 * time.Hour)
		told := 0
		for _, m := range r.post.mails() {
			told += strings.Count(reading(t, m.Data).Text, "  Address  ")
		}
		if n := len(r.post.mails()); n != 4 || told != 60 { // 5, then 25, 25, 5
			t.Errorf("%d mails tell of %d addresses", n, told)
		}
	})
}

func TestTheCapsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.start()
		desks, day := 240, 24
		if slow {
			desks, day = 50, 2
		}
		var bans []bantam.Decision
		for i := range desks {
			bans = append(bans, ban(t, fmt.Sprintf("198.51.%d.7", i)))
		}
		r.tell(bans...)
		hours := []int{}
		for range day {
			before := len(r.post.mails())
			for range 6 {
				r.pass(10 * time.Minute)
			}
			hours = append(hours, len(r.post.mails())-before)
		}
		if slices.Max(hours) > hourlyMails || len(r.post.mails()) != min(dailyMails, day*hourlyMails) {
			t.Errorf("%d mails, by hours %v", len(r.post.mails()), hours)
		}
		if n := strings.Count(r.logs.String(), "a cap of reports is reached"); n < 1 || n > 24 {
			t.Errorf("the caps were told %d times", n)
		}
		r.pass(4 * time.Hour)
		if n := len(r.post.mails()); n != desks {
			t.Errorf("%d mails in the end: what waited is lost", n)
		}
	})
}

func TestWhyABanIsNotReported(t *testing.T) {
	held := "an administrator's session: user root since 2026-03-01 12:04"
	for _, c := range []struct {
		name   string
		change func(*bantam.Decision)
		want   string
	}{
		{"its jail observes", func(d *bantam.Decision) { d.Ban.Observed = true }, "the jail only observes"},
		{"it is held back", func(d *bantam.Decision) { d.Ban.Observed, d.Ban.Reason = true, held }, "the ban was held back: " + held},
	} {
		d := ban(t, "198.51.100.6", c.change)
		if got := new(channel).hinders(&setup{}, &d); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWhatIsNoAttackersIsNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := abuseConfig()
		c.Jails = []string{"sshd", "named"}
		r := newRig(t, c)
		r.desk.world.Spoofable = func(jail string) bool { return jail == "named" }
		r.start()
		for _, d := range []bantam.Decision{
			ban(t, "198.51.100.1", func(d *bantam.Decision) { d.Kind = bantam.Restore }),
			ban(t, "198.51.100.2", func(d *bantam.Decision) { d.Kind = bantam.End }),
			ban(t, "198.51.100.3", func(d *bantam.Decision) { d.Kind = bantam.Prolong }),
			ban(t, "198.51.100.4", func(d *bantam.Decision) { d.Ban.By = bantam.ByOperator }),
			ban(t, "198.51.100.5", func(d *bantam.Decision) { d.Ban.By = bantam.ByPeer }),
			ban(t, "198.51.100.6", func(d *bantam.Decision) { d.Ban.Observed = true }),
			ban(t, "198.51.100.7", func(d *bantam.Decision) { d.Ban.Jail = "other" }),
			ban(t, "198.51.100.8", func(d *bantam.Decision) { d.Ban.Jail = "named" }),
			ban(t, "198.51.100.9", func(d *bantam.Decision) { d.At = d.At.Add(-73 * time.Hour) }),
			ban(t, "198.51.0.0/23"), ban(t, "2001:db8::/47"),
			ban(t, "10.1.2.3"), ban(t, "192.168.1.1"), ban(t, "127.0.0.1"), ban(t, "100.64.0.1"), ban(t, "169.254.1.1"),
			ban(t, "fe80::1"), ban(t, "fd00::1"), ban(t, "::1"), ban(t, "224.0.0.1"),
			ban(t, "198.51.100.10", func(d *bantam.Decision) { d.Ban.ID = bantam.TextID("frank") }),
		} {
			r.tell(d)
		}
		r.pass(2 * time.Hour)
		if r.asked.Load() != 0 || len(r.post.mails()) != 0 {
			t.Errorf("asked for %d contacts, wrote %d mails", r.asked.Load(), len(r.post.mails()))
		}
		r.tell(ban(t, "198.51.100.77"))
		r.tell(ban(t, "2001:db8:7::/64"))
		r.tell(ban(t, "203.0.113.0/24"))
		r.pass(2 * time.Hour)
		if n := len(r.post.mails()); n != 3 {
			t.Errorf("%d mails about what is reported", n)
		}
		if err := r.desk.Configure([]Config{func() Config { c := c; c.Spoofable = true; return c }()}); err != nil {
			t.Fatal(err)
		}
		r.tell(ban(t, "198.51.50.8", func(d *bantam.Decision) { d.Ban.Jail = "named" }))
		r.pass(2 * time.Hour)
		if n := len(r.post.mails()); n != 4 {
			t.Errorf("%d mails after spoofable jails were asked for", n)
		}
	})
}

func TestContactsThatAreNoneAreNotWrittenTo(t *testing.T) {
	for _, tt := range []struct {
		name  string
		found []string
		to    []string
	}{
		{"nobody", nil, nil},
		{"no address", []string{"see https://abuse.example", "abuse", "@example.net", "a@b", "a@[127.0.0.1]"}, nil},
		{"a header behind the address", []string{"abuse@net.example\r\nBcc: victim@example.com"}, nil},
		{"two addresses in one", []string{"abuse@net.example, victim@example.com"}, nil},
		{"an option of sendmail", []string{"-oQ/tmp@net.example"}, nil},
		{"a way around", []string{"a%b@net.example", "a!b@net.example"}, nil},
		{"ours", []string{"Abuse@Example.ORG"}, nil},
		{"some good ones", []string{"Desk <ABUSE@net.example>", "abuse@net.example", "noc@net.example", "x"}, []string{"abuse@net.example", "noc@net.example"}},
		{"too many", []string{"a@n.example", "b@n.example", "c@n.example", "d@n.example", "e@n.example"}, []string{"a@n.example", "b@n.example", "c@n.example"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, abuseConfig())
				r.desk.world.Contacts = func(context.Context, netip.Addr, []string) ([]string, error) { return tt.found, nil }
				r.start()
				r.tell(ban(t, "198.51.100.7"))
				r.pass(time.Hour)
				var to []string
				for _, m := range r.post.mails() {
					to = append(to, m.To...)
				}
				if !slices.Equal(to, tt.to) {
					t.Errorf("written to %q, want %q", to, tt.to)
				}
			})
		})
	}
}

func TestAContactThatIsNotFoundIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		asked := 0
		r.desk.world.Contacts = func(ctx context.Context, _ netip.Addr, _ []string) ([]string, error) {
			if asked++; asked < 4 {
				<-ctx.Done() // a server that hangs
				return nil, ctx.Err()
			}
			return []string{"abuse@net.example"}, nil
		}
		r.start()
		r.tell(ban(t, "198.51.100.7"))
		r.pass(5 * time.Minute)
		if list, err := r.desk.List(t.Context()); err != nil || len(list) != 1 || list[0].State != Waits || list[0].Err == "" {
			t.Errorf("%+v, %v", list, err)
		}
		r.pass(3 * time.Hour)
		if len(r.post.mails()) != 1 || asked != 4 {
			t.Errorf("asked %d times, %d mails", asked, len(r.post.mails()))
		}
	})
}

func TestADeskThatBouncesIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.post.says = func(p smtp.Packet) error {
			if p.To[0] == "abuse@net100.example" {
				return &refusal{text: "550 no such user"}
			}
			return nil
		}
		r.start()
		r.tell(ban(t, "198.51.100.7"))
		r.pass(time.Hour)
		r.tell(ban(t, "198.51.100.8"))
		r.tell(ban(t, "203.0.113.8"))
		r.pass(5 * time.Hour)
		if n := len(r.post.mails()); n != 1 || r.post.mails()[0].To[0] != "abuse@net113.example" {
			t.Errorf("%d mails", n)
		}
		list, err := r.desk.List(t.Context())
		if err != nil || len(list) != 3 {
			t.Fatalf("%+v, %v", list, err)
		}
		states := map[string]string{}
		for _, s := range list {
			states[s.ID.String()] = s.State + " " + s.Err
		}
		if states["198.51.100.7"] != "refused 550 no such user" || states["198.51.100.8"] != "waits " || states["203.0.113.8"] != "delivered " {
			t.Errorf("%q", states)
		}
		// Once somebody has dropped what came back, the desk is written to again.
		for _, l := range r.box.letters {
			if err := r.box.DropLetter(t.Context(), l.Key); err != nil {
				t.Fatal(err)
			}
		}
		r.post.says = nil
		r.pass(2 * time.Hour)
		if n := len(r.post.mails()); n != 2 {
			t.Errorf("%d mails after the way was free", n)
		}
	})
}

func TestATrialGoesToOneselfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := abuseConfig()
		c.To, c.Cc, c.Bcc = []string{"me@example.org"}, []string{"cc@example.org"}, []string{"bcc@example.org"}
		r := newRig(t, c)
		r.start()
		r.tell(ban(t, "198.51.100.7"))
		r.pass(time.Hour)
		mails := r.post.mails()
		if len(mails) != 1 || !slices.Equal(mails[0].To, []string{"me@example.org"}) {
			t.Fatalf("%d mails: %+v", len(mails), mails)
		}
		m := reading(t, mails[0].Data)
		if m.Subject != "Trial: Abuse report: attacks from 198.51.100.7" || !strings.Contains(m.Text, "  abuse@net100.example\n") {
			t.Errorf("%q\n%s", m.Subject, m.Text)
		}
	})
}

func TestPreviewAndSendByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		d := ban(t, "198.51.100.7")
		r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
		shown, err := r.desk.Preview(t.Context(), "", d.Ban.ID)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(shown); !strings.HasPrefix(text, "From: Example Security <abuse@example.org>\nTo: abuse@net100.example\nSubject: Abuse report: attacks from 198.51.100.7\n\nHello,") ||
			!strings.Contains(text, "\n  Address     198.51.100.7\n") || !strings.Contains(text, "\n[xarf.json]\n{\n") || len(r.box.letters) != 0 || len(r.box.notes) != 0 {
			t.Errorf("a preview that is not one:\n%s", shown)
		}
		sent, err := r.desk.Send(t.Context(), "abuse", d.Ban.ID, false)
		if err != nil || sent.Count != 1 || sent.State != Queued || len(r.box.letters) != 1 {
			t.Fatalf("%+v, %v", sent, err)
		}
		if _, err := r.desk.Send(t.Context(), "abuse", d.Ban.ID, false); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "was reported at") {
			t.Errorf("a second time: %v", err)
		}
		if sent, err := r.desk.Send(t.Context(), "abuse", d.Ban.ID, true); err != nil || sent.Count != 2 || len(r.box.letters) != 2 {
			t.Errorf("by force: %+v, %v", sent, err)
		}
		near := ban(t, "198.51.100.8")
		r.bans[near.Ban.ID] = []bantam.Ban{near.Ban}
		if _, err := r.desk.Send(t.Context(), "abuse", near.Ban.ID, false); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "abuse@net100.example gets the next mail") {
			t.Errorf("another address of the same desk: %v", err)
		}
		byHand := ban(t, "203.0.113.1", func(d *bantam.Decision) { d.Ban.By = bantam.ByOperator })
		r.bans[byHand.Ban.ID] = []bantam.Ban{byHand.Ban}
		if _, err := r.desk.Send(t.Context(), "abuse", byHand.Ban.ID, false); !errors.Is(err, ErrHeld) {
			t.Errorf("an operator's ban: %v", err)
		}
		for _, addr := range []string{"10.0.0.1", "fe80::1"} {
			private := ban(t, addr)
			r.bans[private.Ban.ID] = []bantam.Ban{private.Ban}
			if _, err := r.desk.Send(t.Context(), "abuse", private.Ban.ID, true); err == nil {
				t.Errorf("%s was reported", addr)
			}
		}
		if _, err := r.desk.Send(t.Context(), "abuse", id(t, "203.0.113.200"), true); !errors.Is(err, ErrNoBan) {
			t.Errorf("an address that was never banned: %v", err)
		}
		if _, err := r.desk.Preview(t.Context(), "nobody", d.Ban.ID); !errors.Is(err, ErrNoChannel) {
			t.Errorf("a channel that is none: %v", err)
		}
	})
}

func TestAReportThatWaitsIsNotWrittenASecondTimeByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.start()
		d := ban(t, "198.51.100.7")
		r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
		r.tell(d)
		r.pass(time.Minute)
		if _, err := r.desk.Send(t.Context(), "abuse", d.Ban.ID, false); err != nil {
			t.Fatal(err)
		}
		r.pass(3 * time.Hour)
		if n := len(r.post.mails()); n != 1 {
			t.Errorf("%d mails", n)
		}
	})
}

func TestAStormIsCountedAndDoesNotGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		for i := range 1100 {
			r.box.decide(ban(t, fmt.Sprintf("203.%d.%d.7", i/250, i%250)))
		}
		r.desk.world.Contacts = func(context.Context, netip.Addr, []string) ([]string, error) { return nil, errors.New("no answer") }
		r.start()
		r.pass(time.Minute)
		list, err := r.desk.List(t.Context())
		if err != nil || len(list) != mostWaiting {
			t.Errorf("%d wait, %v", len(list), err)
		}
	})
}

func TestWhatWaitsTooLongIsForgottenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.desk.world.Contacts = func(context.Context, netip.Addr, []string) ([]string, error) { return nil, errors.New("no answer") }
		for i := range 20 {
			r.box.decide(ban(t, fmt.Sprintf("198.51.100.%d", i)))
		}
		r.start()
		r.pass(time.Hour)
		if list, err := r.desk.List(t.Context()); err != nil || len(list) != 20 {
			t.Errorf("%d wait, %v", len(list), err)
		}
		r.pass(80 * time.Hour)
		if list, err := r.desk.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%d wait after 80 hours, %v", len(list), err)
		}
		left := 0
		for key := range r.box.notes {
			if strings.Contains(key, "case ") {
				left++
			}
		}
		if left != 0 {
			t.Errorf("%d cases are left behind", left)
		}
	})
}

// That nobody is known is an answer: the address waits for nothing, and is told of once.
func TestAddressesThatNobodyAnswersForDoNotWait(t *testing.T) {
	for _, nobody := range []error{whois.ErrUnknown, whois.ErrNotPublic} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, abuseConfig())
			asked := 0
			r.desk.world.Contacts = func(context.Context, netip.Addr, []string) ([]string, error) {
				asked++
				return nil, fmt.Errorf("look up: %w", nobody)
			}
			d := ban(t, "203.0.113.7")
			r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
			r.box.decide(d)
			r.start()
			r.pass(24 * time.Hour)
			list, err := r.desk.List(t.Context())
			if err != nil || len(list) != 0 || asked != 1 || strings.Count(r.logs.String(), ErrNoContact.Error()) != 1 {
				t.Errorf("%d wait, %v, asked %d times\n%s", len(list), err, asked, r.logs)
			}
			if _, err := r.desk.Send(t.Context(), "", d.Ban.ID, true); !errors.Is(err, ErrNoContact) {
				t.Errorf("by hand: %v", err)
			}
		})
	}
}

// TestTheLargestMailFitsIntoALetter has every address of a desk in four jails, with lines as long as they may be.
func TestTheLargestMailFitsIntoALetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		long := strings.Repeat("é", longestLine)
		for i := range mostPerMail {
			for jail := range mostAttacks {
				r.box.decide(ban(t, fmt.Sprintf("198.51.100.%d", i), func(d *bantam.Decision) {
					d.Ban.Jail = fmt.Sprint("jail", jail)
					d.Ban.Lines = slices.Repeat([]string{d.Ban.ID.String() + " " + long}, mostLines)
				}))
			}
		}
		r.start()
		rounds := 90
		if slow {
			rounds = 2
		}
		for range rounds {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			for _, l := range r.box.letters {
				if len(l.Body) > outbox.MaxBody || len(l.About) > 200 {
					t.Fatalf("a letter of %d bytes about %q", len(l.Body), l.About)
				}
			}
			if err := r.box.deliver(t.Context(), r.desk.Senders()); err != nil {
				t.Fatal(err)
			}
		}
		told := 0
		for _, p := range r.post.mails() {
			told += strings.Count(reading(t, p.Data).Text, "  Address  ")
		}
		if !slow && (told != mostPerMail*mostAttacks || len(r.post.mails()) < 2) {
			t.Errorf("%d mails tell of %d attacks", len(r.post.mails()), told)
		}
	})
}

// TestNamesMadeToBeLongDoNotStopTheReports has contacts that are as long as addresses may be.
func TestNamesMadeToBeLongDoNotStopTheReports(t *testing.T) {
	if slow {
		t.Skip("a megabyte of state is written often; the race detector learns nothing from it")
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, abuseConfig())
		r.desk.world.Contacts = func(_ context.Context, a netip.Addr, _ []string) ([]string, error) {
			domain := strings.Repeat(strings.Repeat("d", 60)+".", 3) + "example"
			name := fmt.Sprintf("%x", a.AsSlice())
			return []string{"a" + name + "@" + domain, "b" + name + "@" + domain, "c" + name + "@" + domain}, nil
		}
		for i := range mostWaiting {
			r.box.decide(ban(t, fmt.Sprintf("203.%d.%d.7", i/250, i%250), func(d *bantam.Decision) { d.Ban.Jail = strings.Repeat("j", 500) }))
		}
		r.start()
		r.pass(30 * time.Minute)
		for key, note := range r.box.notes {
			if len(note) > outbox.MaxBody {
				t.Errorf("the note %q has %d bytes", key, len(note))
			}
		}
		if n := len(r.post.mails()); n != hourlyMails {
			t.Errorf("%d mails in half an hour", n)
		}
	})
}

func TestRunEndsAndTakesNewChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.desk.Run(ctx) }()
		synctest.Wait()
		if err := r.desk.Configure([]Config{abuseConfig()}); err != nil {
			t.Fatal(err)
		}
		r.tell(ban(t, "198.51.100.7"))
		r.pass(time.Hour)
		if n := len(r.post.mails()); n != 1 {
			t.Errorf("%d mails", n)
		}
		bad := abuseConfig()
		bad.From = "nobody"
		if err := r.desk.Configure([]Config{bad}); err == nil || len(r.desk.Senders()) != 1 {
			t.Errorf("a wrong configuration was taken: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestAKillLosesNothingAndDoublesNothing kills the process at every call to the database, before and after it was carried out.
func TestAKillLosesNothingAndDoublesNothing(t *testing.T) {
	addresses := []string{
		"198.51.100.1", "198.51.100.2", "203.0.113.3", "2001:db8:4::4", "198.51.101.5", "198.51.102.6", "198.51.103.7", "2001:db8:8::8",
	}
	kills := 0
	for _, after := range []bool{false, true} {
		for calls := 0; ; calls++ {
			killed, before := false, kills
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, abuseConfig())
				for _, a := range addresses {
					r.box.decide(ban(t, a))
				}
				sends := map[string]int{}
				r.post.says = func(p smtp.Packet) error {
					sends[reading(t, p.Data).Header.Get("Message-ID")]++
					return nil
				}
				r.box.calls, r.box.after = calls, after
				for range 3 {
					for _, c := range r.desk.mustChannels() {
						if _, err := c.steps(t.Context()); err != nil {
							killed = true
						}
					}
					if err := r.box.deliver(t.Context(), r.desk.Senders()); err != nil {
						killed = true
					}
					if killed {
						r.restart()
						killed = false
						kills++
					}
					time.Sleep(gather)
				}
				r.box.calls = -1
				r.work()
				time.Sleep(2 * contactRest)
				r.work()
				told := map[string]map[string]bool{}
				for _, m := range r.post.mails() {
					read := reading(t, m.Data)
					for _, a := range addresses {
						if strings.Contains(read.Text, "Address     "+a+"\n") {
							if told[a] == nil {
								told[a] = map[string]bool{}
							}
							told[a][read.Header.Get("Message-ID")] = true
						}
					}
				}
				for _, a := range addresses {
					if len(told[a]) != 1 {
						t.Errorf("killed at call %d (carried out: %v): %s is in %d different mails", calls, after, a, len(told[a]))
					}
				}
				doubled := 0
				for _, n := range sends {
					doubled += n - 1
				}
				if doubled > 1 {
					t.Errorf("killed at call %d: %d mails went out twice", calls, doubled)
				}
				if len(r.box.letters) != 0 {
					t.Errorf("killed at call %d: %d letters are left", calls, len(r.box.letters))
				}
			})
			if t.Failed() {
				return
			}
			if kills == before { // no call was left to die at
				break
			}
		}
	}
	t.Logf("%d kills", kills)
	if kills < 100 {
		t.Errorf("only %d kills: the test does not reach what it should", kills)
	}
}

var (
	_ outbox.Keeper = (*memory)(nil)
	_ outbox.Keeper = (*outbox.Outbox)(nil)
)
