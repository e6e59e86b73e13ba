package cli

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"bantam/internal/peertest"
	"bantam/library"
)

// BenchmarkRegex is bantam regex with Fail2Ban's filters on logs of ../shared/bench/genlog.py. What it spends its time
// on is what the compiler is told to make quick: make pgo.
func BenchmarkRegex(b *testing.B) {
	const lines = 200_000
	stock := filepath.Join(peertest.Tree(b), "etc/fail2ban")
	folder := b.TempDir()
	for _, row := range []struct {
		kind, attacks string
		filter        string
	}{
		{"auth", "0.1", "sshd"},
		{"auth", "0.1", "sshd[mode=aggressive]"},
		{"auth", "0.9", "sshd"},
		{"mail", "0.1", "postfix[mode=aggressive]"},
		{"mail", "0.1", "dovecot"},
		{"access", "0.1", "nginx-botsearch"},
		{"error", "0.1", "nginx-http-auth"},
		{"fail2ban", "0.1", "recidive"},
		{"access", "0.1", "sshd[mode=aggressive]"},
		{"auth", "0.1", "recidive"},
	} {
		log := filepath.Join(folder, row.kind+row.attacks)
		made := exec.CommandContext(b.Context(), peertest.Python(), "../../../shared/bench/genlog.py", row.kind,
			"--lines", fmt.Sprint(lines), "--attack", row.attacks, "-o", log)
		if out, err := made.CombinedOutput(); err != nil {
			b.Skipf("no log generator: %v: %s", err, out)
		}
		b.Run(row.kind+" "+row.attacks+" "+row.filter, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				args := []string{"bantam", "--config", stock, "regex", log, row.filter}
				if code := Main(context.Background(), args, library.FS, io.Discard, io.Discard); code != ExitOK {
					b.Fatalf("exit code %d", code)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
		})
	}
}
