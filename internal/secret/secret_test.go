package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bantam/internal/secret"
)

const sesame = "open sesame/ÿ+?"

// holder has secrets in every kind of place.
type holder struct {
	Open    secret.Value
	Pointer *secret.Value
	hidden  secret.Value
	List    []secret.Value
	Map     map[string]secret.Value
	Any     any
}

func newHolder() holder {
	v := secret.New(sesame)
	return holder{v, &v, v, []secret.Value{v}, map[string]secret.Value{"k": v}, v}
}

func TestNoVerbPrintsASecret(t *testing.T) {
	h := newHolder()
	hexed := fmt.Sprintf("%x", sesame)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%#q", "%x", "%X", "% x", "%d", "%t", "%p", "%T", "%30v", "%!"} {
		for _, what := range []any{h, &h, h.Open, h.Pointer, h.List, h.Map, []holder{h}} {
			text := fmt.Sprintf(verb, what)
			if strings.Contains(text, "sesame") || strings.Contains(strings.ToLower(text), hexed) ||
				strings.Contains(strings.ToLower(strings.ReplaceAll(text, " ", "")), hexed) {
				t.Errorf("%s of %T shows the secret: %s", verb, what, text)
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, h.Open); got != "***" {
			t.Errorf("%s prints %q, want ***", verb, got)
		}
		if got := fmt.Sprintf(verb, secret.Value{}); got != "" {
			t.Errorf("%s of no secret prints %q", verb, got)
		}
	}
}

func TestNoEncodingShowsASecret(t *testing.T) {
	h := newHolder()
	for name, encode := range map[string]func() (string, error){
		"json":         func() (string, error) { b, err := json.Marshal(h); return string(b), err },
		"json pointer": func() (string, error) { b, err := json.Marshal(&h); return string(b), err },
		"json map key": func() (string, error) {
			// A map's key is what MarshalText makes of it.
			b, err := json.Marshal(map[secret.Value]int{h.Open: 1})
			return string(b), err
		},
		"xml": func() (string, error) {
			type element struct{ Open secret.Value }
			b, err := xml.Marshal(element{h.Open})
			return string(b), err
		},
		"slog text": func() (string, error) {
			var b bytes.Buffer
			slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", h.Open, "h", h, "p", &h)
			return b.String(), nil
		},
		"slog json": func() (string, error) {
			var b bytes.Buffer
			slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", h.Open, "h", h, "p", &h)
			return b.String(), nil
		},
		"error": func() (string, error) { return fmt.Errorf("log in with %v: %w", h.Open, errors.New("x")).Error(), nil },
	} {
		text, err := encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(text, "sesame") || !strings.Contains(text, "***") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestEqualComparesWhatIsHeld(t *testing.T) {
	a, b, c := secret.New("a"), secret.New("a"), secret.New("c")
	if !a.Equal(b) || a.Equal(c) || a.Equal(secret.Value{}) || !new(secret.Value).Equal(secret.Value{}) {
		t.Error("Equal is wrong")
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("cmp finds a difference: %s", diff)
	}
	if !secret.New("").IsZero() || a.IsZero() {
		t.Error("IsZero is wrong")
	}
}

// keep writes a file with a mode, whatever the umask.
func keep(t *testing.T, path, text string, mode fs.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASecretIsFoundWhereItIsSaidToBe(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("BANTAM_TEST_SECRET", "from env")
	keep(t, filepath.Join(dir, "mail"), "from systemd\n", 0o444)
	file := keep(t, filepath.Join(dir, "file"), "from file\r\n", 0o600)
	lines := keep(t, filepath.Join(dir, "lines"), "two\n\n", 0o400)
	for _, c := range []struct {
		name, text, want string
		literal          bool
	}{
		{"a credential of systemd, whatever its mode", "credential:mail", "from systemd", false},
		{"a file, its newline cut", "file:" + file, "from file", false},
		{"only one newline is cut", "file:" + lines, "two\n", false},
		{"a variable", "env:BANTAM_TEST_SECRET", "from env", false},
		{"anything else is the secret", "abcd efgh", "abcd efgh", true},
		{"a colon makes no place", "pass:word", "pass:word", true},
		{"nothing is no secret", "", "", false},
	} {
		v, literal, err := secret.Read(c.text)
		if err != nil || v.Reveal() != c.want || literal != c.literal {
			t.Errorf("%s: %q, literal %v, %v", c.name, v.Reveal(), literal, err)
		}
	}
}

func TestAnUnfitPlaceIsNamedWithoutItsContent(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	open := keep(t, filepath.Join(dir, "open"), "hunter2", 0o640)
	world := keep(t, filepath.Join(dir, "world"), "hunter2", 0o602)
	large := keep(t, filepath.Join(dir, "large"), strings.Repeat("hunter2", secret.MaxSize/7+1), 0o600)
	empty := keep(t, filepath.Join(dir, "empty"), "\n", 0o600)
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"the group may read it", "file:" + open, "chmod 600 " + open},
		{"others may write it", "file:" + world, "chmod 600 " + world},
		{"too large", "file:" + large, "64 KiB"},
		{"empty", "file:" + empty, "empty"},
		{"no file", "file:" + dir + "/none", dir + "/none"},
		{"a folder", "file:" + dir, "not a file"},
		{"a pipe that nobody writes to", "file:" + pipe, "not a file"},
		{"a relative path", "file:secret", "absolute"},
		{"a credential that leaves its folder", "credential:../shadow", "$CREDENTIALS_DIRECTORY"},
		{"the folder itself", "credential:.", "$CREDENTIALS_DIRECTORY"},
		{"a credential without a name", "credential:", "$CREDENTIALS_DIRECTORY"},
		{"a credential that is not there", "credential:none", "none"},
		{"a variable that is not set", "env:BANTAM_TEST_NOT_SET", "BANTAM_TEST_NOT_SET"},
	} {
		v, _, err := secret.Read(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
		if !v.IsZero() || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v with the value %q", c.name, err, v.Reveal())
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, _, err := secret.Read("credential:mail"); err == nil || !strings.Contains(err.Error(), "LoadCredential=mail:") {
		t.Errorf("without systemd: %v", err)
	}
}

func TestAnExchangedFileHoldsAtOnce(t *testing.T) {
	path := keep(t, filepath.Join(t.TempDir(), "token"), "old one", 0o600)
	v, _, err := secret.Read("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, path, "new one", 0o600)
	if got := v.Reveal(); got != "new one" {
		t.Errorf("after the file was exchanged it is %q", got)
	}
	if got := secret.Scrub("old one, new one", v); got != "***, ***" {
		t.Errorf("Scrub leaves %q", got)
	}
	keep(t, path, "newest", 0o644)
	if got := v.Reveal(); got != "old one" {
		t.Errorf("of a file that others may read %q is taken", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := v.Reveal(); got != "old one" {
		t.Errorf("without the file it is %q", got)
	}
}

func TestScrubFindsASecretInEveryForm(t *testing.T) {
	v := secret.New(sesame)
	for _, c := range []struct{ name, text, want string }{
		{"as it is", "535 " + sesame + " is wrong", "535 *** is wrong"},
		{"in base64", base64.StdEncoding.EncodeToString([]byte(sesame)), "***=="},
		{"in an address", "https://x/?p=" + url.QueryEscape(sesame), "https://x/?p=***"},
		{"in a path", "https://x/" + url.PathEscape(sesame) + "/y", "https://x/***/y"},
		{"quoted", fmt.Sprintf("%q", sesame), `"***"`},
		{"innocent", "nothing of it", "nothing of it"},
	} {
		if got := secret.Scrub(c.text, v); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, user := range []string{"", "a", "ab", "abc", "ann@example.org"} {
		login := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + sesame + "tail"))
		got := secret.Scrub(login, v)
		if kept := len(got) - len("***"); !strings.Contains(got, "***") || kept > len(user)*4/3+16 {
			t.Errorf("the login of %q stays readable: %s", user, got)
		}
	}
	if got := secret.Scrub("a b c", secret.New("b"), secret.Value{}); got != "a *** c" {
		t.Errorf("a short secret stays: %q", got)
	}
	nested := secret.Scrub("tokentoken1", secret.New("token"), secret.New("tokentoken1"))
	if nested != "***" {
		t.Errorf("a secret within another leaves %q", nested)
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("535 hunter2", "hunter2", "user")
	f.Add("", "\x00\xff", "")
	f.Fuzz(func(t *testing.T, text, word, user string) {
		if len(text)+len(word)+len(user) > 4096 || len(word) < 8 {
			return
		}
		got := secret.Scrub(text+word+url.QueryEscape(word)+base64.StdEncoding.EncodeToString([]byte(user+word+user)), secret.New(word))
		if strings.Contains(got, word) {
			t.Errorf("%q is still in %q", word, got)
		}
	})
}
