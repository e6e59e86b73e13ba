package report

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bantam"
	"bantam/internal/outbox"
	"bantam/internal/smtp"
	"bantam/internal/smtp/smtptest"
	"bantam/internal/store"
)

// TestAReportGoesByTheRealOutboxAndMailServer has the database, the outbox and SMTP of the daemon; only the contact is
// made up.
func TestAReportGoesByTheRealOutboxAndMailServer(t *testing.T) {
	server := smtptest.New(t, smtptest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, log, filepath.Join(t.TempDir(), "bantam.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := abuseConfig()
	c.Via = smtp.Config{Kind: smtp.Relay, Server: server.Addr(), TLS: "none"}
	c.Jails, c.Bcc = []string{"sshd"}, []string{"archive@example.org"}
	r := newRig(t, c)
	world := r.world
	world.Transport = nil
	box := outbox.New(log, db)
	desk := New(log, box, world)
	if err := desk.Configure([]Config{c}); err != nil {
		t.Fatal(err)
	}
	db.Follow(desk.Readers())
	box.Configure(desk.Senders())
	done := make(chan error, 2)
	go func() { done <- box.Run(ctx) }()
	go func() { done <- desk.Run(ctx) }()
	d := ban(t, "198.51.100.7")
	r.bans[d.Ban.ID] = []bantam.Ban{d.Ban}
	sent, err := desk.Send(ctx, "", d.Ban.ID, false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := server.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m, err := got.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.To, []string{"abuse@net100.example", "archive@example.org"}) || m.Header.Get("Message-ID") != "<"+sent.Key+"@example.org>" ||
		m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Bcc") != "" || m.Shape != "multipart/mixed(text/plain application/json)" {
		t.Errorf("to %q, %v, %s", got.To, m.Header, m.Shape)
	}
	if !strings.Contains(m.Text, "Failed password for [redacted] from 198.51.100.7") {
		t.Errorf("%s", m.Text)
	}
	checkXARF(t, m.Parts[0].Data)
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
