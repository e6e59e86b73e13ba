package report

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bantam"
	"bantam/internal/whois"
)

// The report that the manual shows is one that is sent.
func TestTheManualShowsATrueReport(t *testing.T) {
	const page = "../../docs/how-to/abuse-reports.md"
	synctest.Test(t, func(t *testing.T) {
		c := abuseConfig()
		c.From = "abuse@example.org"
		r := newRig(t, c)
		w := &r.desk.world
		w.Zone = time.UTC
		w.Contacts = func(context.Context, netip.Addr, []string) ([]string, error) {
			return []string{"abuse@networks.example"}, nil
		}
		w.Whois = func(context.Context, netip.Addr) (whois.Answer, error) {
			return whois.Answer{
				Network: netip.MustParsePrefix("198.51.100.0/24"), Name: "EXAMPLE-NET",
				Text: "network:      198.51.100.0/24\nname:         EXAMPLE-NET\nholder:       Example Networks\nabuse:        abuse@networks.example\n",
			}, nil
		}
		d := ban(t, "198.51.100.7", func(d *bantam.Decision) {
			d.Ban.Time = time.Date(2026, 3, 2, 11, 59, 57, 0, time.UTC)
			d.Ban.Count, d.Ban.Failures = 3, 3
			d.Ban.Lines = []string{
				"Mar  2 11:59:44 gate sshd[812]: Invalid user admin from 198.51.100.7 port 4022",
				"Mar  2 11:59:51 gate sshd[812]: Failed password for invalid user admin from 198.51.100.7 port 4022 ssh2",
				"Mar  2 11:59:57 gate sshd[812]: Failed password for root from 198.51.100.7 port 4022 ssh2",
			}
		})
		r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
		preview, err := r.desk.Preview(t.Context(), "", d.Ban.ID)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(string(preview), "\n[xarf.json]\n")
		var want strings.Builder
		for line := range strings.Lines(text) {
			if line != "\n" {
				want.WriteString("    ")
			}
			want.WriteString(line)
		}
		manual, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(manual), "\n"+want.String()+"\n") {
			t.Errorf("%s does not show\n%s", page, want.String())
		}
	})
}
