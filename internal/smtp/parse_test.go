package smtp_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bantam/internal/smtp"
)

// FuzzPasted says that an address counts only with the state of this login in it.
func FuzzPasted(f *testing.F) {
	f.Add("http://127.0.0.1:4711/?state=right&code=4/0AX4XfWh")
	f.Add("4/0AX4XfWh-code")
	f.Add("?error=access_denied&state=right")
	f.Add("state=wrong&code=x")
	f.Fuzz(func(t *testing.T, text string) {
		code, err := smtp.Pasted(text, "right")
		if (code == "") == (err == nil) {
			t.Errorf("%q is taken for the code %q and the error %v", text, code, err)
		}
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00\x1b") || len(err.Error()) > 1000 {
				t.Errorf("the error repeats too much: %q", err)
			}
			return
		}
		_, query, _ := strings.Cut(text, "?")
		values, _ := url.ParseQuery(query)
		if code != text && (values.Get("state") != "right" || values.Get("code") != code) {
			t.Errorf("%q is taken for the code %q", text, code)
		}
	})
}

// FuzzFiles says that no file makes a reader panic, or an error that shows what is in it.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"installed":{"client_id":"i","auth_uri":"https://a","token_uri":"https://b"}}`))
	f.Add([]byte(`{"refresh_token":"hunter2-hunter2","expiry":"2025-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"installed":{"client_id":"i","client_secret":"hunter2-hunter2","auth_uri":3}}`))
	f.Add([]byte("null"))
	path := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		// Each worker has a file of its own: TempDir is made anew in each process.
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		client, token := smtp.ReadFiles(path)
		for _, err := range []error{client, token} {
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.ContainsAny(err.Error(), "\r\n\x00\x1b")) {
				t.Errorf("%q of %q", err, data)
			}
		}
	})
}

func FuzzReason(f *testing.F) {
	f.Add([]byte(`{"error":{"message":"x","errors":[{"reason":"y"}]}}`), "120")
	f.Add([]byte("<html>\r\n"), "Wed, 21 Oct 2015 07:28:00 GMT")
	f.Fuzz(func(t *testing.T, body []byte, retry string) {
		_ = smtp.ReasonOf(body)
		if pause := smtp.RetryAfter(retry, time.Unix(0, 0)); pause < 0 || pause > 24*time.Hour {
			t.Errorf("%q is a pause of %s", retry, pause)
		}
	})
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2025, 3, 2, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text string
		want time.Duration
	}{
		{"120", 2 * time.Minute},
		{"Sun, 02 Mar 2025 10:00:30 GMT", 30 * time.Second},
		{"Sun, 02 Mar 2025 09:00:00 GMT", 0},
		{"31536000", 24 * time.Hour},
		{"-1", 0},
		{"soon", 0},
		{"", 0},
	} {
		if got := smtp.RetryAfter(c.text, now); got != c.want {
			t.Errorf("%q is %s, want %s", c.text, got, c.want)
		}
	}
}
