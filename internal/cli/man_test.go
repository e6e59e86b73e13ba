package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bantam/library"
)

func TestManualPageOfEachCommand(t *testing.T) {
	var out, wrong bytes.Buffer
	dir := t.TempDir()
	if code := Main(t.Context(), []string{"bantam", "man", dir}, library.FS, &out, &wrong); code != ExitOK {
		t.Fatalf("bantam man ends with %d: %s", code, wrong.String())
	}
	for page, says := range map[string][]string{
		"bantam.1":          {"sudo bantam setup", `.SH "EXIT STATUS"`, `.SH "SIGNALS"`, `.SH "FILES"`, "SIGHUP", "/var/lib/bantam/bantam.db"},
		"bantam-run.1":      {`\-\-pidfile STRING`, `\-\-socket STRING`, "bantam(1)"},
		"fail2ban-client.1": {"bantam(1)"},
		"fail2ban-regex.1":  {"bantam\\-regex(1)"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Error(err)
		}
		for _, s := range says {
			if !strings.Contains(string(text), s) {
				t.Errorf("%s does not say %q", page, s)
			}
		}
	}
	if code := Main(t.Context(), []string{"bantam", "man", filepath.Join(dir, "missing")}, library.FS, &out, &wrong); code != ExitFailed || !strings.Contains(wrong.String(), "write manual pages: ") {
		t.Errorf("a folder that is not there: %d %s", code, wrong.String())
	}
}

func TestProseInAManualPage(t *testing.T) {
	for _, tt := range []struct{ name, prose, want string }{
		{"a paragraph", "One line\nand another.", ".PP\nOne line\nand another.\n"},
		{"two paragraphs", "One.\n\nTwo.", ".PP\nOne.\n.PP\nTwo.\n"},
		{"an example stays as it stands", "Run\n\n    bantam ban --for 1w\n      more\n\nthen", ".PP\nRun\n.PP\n.RS 4\n.EX\nbantam ban \\-\\-for 1w\n  more\n\n.EE\n.RE\n.PP\nthen\n"},
		{"an example at the end is closed", "    a", ".PP\n.RS 4\n.EX\na\n.EE\n.RE\n"},
		{"a heading and a term", "# Files\n#: /etc/x\nThe file.", ".SH \"FILES\"\n.TP\n.B /etc/x\nThe file.\n"},
		{"a line that begins as a request", ".so /etc/passwd\n'br", ".PP\n\\&.so /etc/passwd\n\\(aqbr\n"},
		{"characters of roff's own", `a\b "c" ~^`, ".PP\na\\eb \\(dqc\\(dq \\(ti\\(ha\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m roff
			m.prose(tt.prose)
			if got := m.b.String(); got != tt.want {
				t.Errorf("%q becomes\n%q, want\n%q", tt.prose, got, tt.want)
			}
		})
	}
}
