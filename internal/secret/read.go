package secret

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxSize is how many bytes a file with a secret may hold.
const MaxSize = 64 << 10

// ErrElsewhere is wrapped by errors about secrets that only the service's own environment can show: a
// program that its administrator runs in a shell has another one.
var ErrElsewhere = errors.New("not set in this environment")

// A place is a file that holds a secret.
type place struct {
	path string
	// given is true for systemd's credentials, which only the service can reach, whatever their
	// mode says (systemd.exec(5), LoadCredential=).
	given bool
}

// Read finds a secret as it is written in a configuration:
//
//	credential:NAME   the file NAME in $CREDENTIALS_DIRECTORY, where systemd puts it
//	file:PATH         a file that nobody but its owner may read or write
//	env:NAME          a variable of the environment
//
// Anything else is the secret itself; literal says so, because then the configuration must not be
// readable by others. Of a file's end one newline is cut. The empty text is no secret. Errors name the place, never what is in it.
func Read(text string) (v Value, literal bool, err error) {
	kind, name, _ := strings.Cut(text, ":")
	var p place
	switch kind {
	case "credential":
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return Value{}, false, fmt.Errorf("credential %q: the name of a file in $CREDENTIALS_DIRECTORY is wanted", name)
		}
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return Value{}, false, fmt.Errorf("credential %q: CREDENTIALS_DIRECTORY is %w; "+
				"give the service LoadCredential=%s:/path/of/the/secret", name, ErrElsewhere, name)
		}
		p = place{filepath.Join(dir, name), true}
	case "file":
		if !filepath.IsAbs(name) {
			return Value{}, false, fmt.Errorf("secret in file %q: an absolute path is wanted", name)
		}
		p = place{path: name}
	case "env":
		if text = os.Getenv(name); text == "" {
			return Value{}, false, fmt.Errorf("secret in the environment: %q is %w", name, ErrElsewhere)
		}
		return New(text), false, nil
	default:
		return New(text), text != "", nil
	}
	if text, err = p.read(); err != nil {
		return Value{}, false, err
	}
	return value(kept{text, p}), false, nil
}

// read is the text in the file, never empty.
func (p place) read() (string, error) {
	// A pipe would keep us waiting for somebody to write into it.
	file, err := os.OpenFile(p.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return "", fmt.Errorf("read secret %q: not a file", p.path)
	case !p.given && mode.Perm()&0o066 != 0:
		return "", fmt.Errorf("read secret %q: others than its owner may read or write it (mode %04o); "+
			"chmod 600 %s", p.path, mode.Perm(), p.path)
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err != nil {
		return "", fmt.Errorf("read secret %q: %w", p.path, err)
	}
	if len(data) > MaxSize {
		return "", fmt.Errorf("read secret %q: larger than 64 KiB", p.path)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("read secret %q: the file is empty", p.path)
	}
	return text, nil
}
