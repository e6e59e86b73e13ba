package cli

import (
	"context"
	"strings"

	"bantam/internal/control"
	"bantam/internal/daemon"
	"bantam/internal/setup"
)

// takeoverReply is what setup prints as JSON where Fail2Ban is configured.
type takeoverReply struct {
	Config       string   `json:"config"`
	Jails        []string `json:"jails"`
	LocalOptions int      `json:"local_options"` // in .local files
	LocalFiles   []string `json:"local_files,omitempty"`
	LiveBans     int      `json:"live_bans"` // in its database
	Database     string   `json:"database,omitempty"`
	// Running is Fail2Ban's process number, 0 if it does not run; Taken is true if Bantam runs in its place.
	Running  int      `json:"running,omitempty"`
	Taken    bool     `json:"taken"`
	Errors   int      `json:"errors"`
	Warnings []string `json:"warnings,omitempty"`
	// Commands are what is to be done.
	Commands []string `json:"commands"`
}

// takeOver tells what a Fail2Ban folder holds and how Bantam takes its place. Nothing is written.
func (s *setupRun) takeOver(ctx context.Context) error {
	cfg, problems, err := daemon.Check(fail2banFolder, s.library)
	if err != nil {
		return err
	}
	r := takeoverReply{Config: fail2banFolder, Jails: []string{}}
	for _, j := range cfg.Jails {
		r.Jails = append(r.Jails, j.Name)
	}
	r.LocalOptions, r.LocalFiles = setup.LocalChanges(fail2banFolder)
	if cfg.Daemon.DBFile != ":memory:" {
		r.Database = cfg.Daemon.DBFile
		if r.LiveBans, err = daemon.LiveBans(ctx, r.Database, s.now); err != nil {
			r.Warnings = append(r.Warnings, err.Error())
		}
	}
	var first string
	for _, p := range problems {
		if !p.Warning {
			if r.Errors++; first == "" {
				first = p.String()
			}
		}
	}
	who, pid := daemon.Another(&cfg.Daemon)
	if who == "Fail2Ban" {
		r.Running = pid
	}
	_, asked := control.Call(ctx, control.NewClient(s.socket), control.Ping, control.None{})
	r.Taken = asked == nil
	systemd := underSystemd() && s.socket == DefaultSocket
	switch {
	case r.Taken:
	case systemd:
		r.Commands = []string{"systemctl disable --now fail2ban", "systemctl enable --now bantam"}
	case r.Running > 0:
		r.Commands = []string{"fail2ban-client stop", "bantam run"}
	default:
		r.Commands = []string{"bantam run"}
	}
	if s.yes && !s.dryRun && systemd && !r.Taken {
		if r.Running > 0 {
			if err := systemctl(ctx, "disable", "--now", "fail2ban"); err != nil {
				return control.Refuse("stop it by hand, then: systemctl enable --now bantam", "%v", err)
			}
		}
		if err := systemctl(ctx, "enable", "--now", "bantam"); err != nil {
			return control.Refuse("Fail2Ban is stopped; journalctl -u bantam says what is wrong; systemctl enable --now fail2ban goes back", "%v", err)
		}
		r.Taken = true
	}
	if s.json {
		s.print(r)
		return nil
	}
	s.printf("Fail2Ban is configured here, and Bantam works by that as it stands:\n%s, %s", plural(len(r.Jails), "jail"), plural(r.LocalOptions, "local option"))
	if len(r.LocalFiles) > 0 {
		s.printf(" (%s)", safe(few(r.LocalFiles)))
	}
	s.printf(", %s from its database.\n", plural(r.LiveBans, "live ban"))
	for _, w := range r.Warnings {
		s.printf("warning: %s\n", safeLines(w))
	}
	if r.Errors > 0 {
		s.printf("%s; the first: %s\nbantam check shows all.\n", plural(r.Errors, "error"), safeLines(first))
	}
	switch {
	case r.Taken:
		s.printf("Bantam runs. Next: sudo bantam | sudo bantam doctor\n")
		return nil
	case r.Running > 0:
		s.printf("Fail2Ban runs (pid %d). To take over, with its bans:\n\n", r.Running)
	default:
		s.printf("Fail2Ban does not run. To start:\n\n")
	}
	s.printf("    sudo %s\n\n", strings.Join(r.Commands, "\n    sudo "))
	s.printf("Nothing is written. To go back: sudo bantam stop --unban, and start Fail2Ban.\n")
	return nil
}
