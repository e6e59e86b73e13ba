package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxSaid is how much of what sendmail prints is kept.
const maxSaid = 1 << 10

// installMTA is the way on where there is no sendmail.
const installMTA = "install a package that has it, such as msmtp-mta or postfix, or use the action smtp"

// An mta hands mails to the machine's sendmail, whichever mail server's it is. All of them know
// its flags -i and -f and codes of sysexits.h.
type mta struct {
	program string
	log     *slog.Logger
}

// finalExits are those of sysexits.h that speak of the mail and not of the machine: data
// error, no such user, no such host. With any other the mail may still go out: 75 says so,
// and others end when somebody mends the machine.
var finalExits = map[int]bool{65: true, 67: true, 68: true}

// Send hands over one mail.
func (m *mta) Send(ctx context.Context, p Packet) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	args := append([]string{"-i", "-f", p.From, "--"}, p.To...)
	cmd := exec.CommandContext(ctx, m.program, args...)
	// Programs read mails with the machine's line ends.
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(p.Data, []byte("\r\n"), []byte("\n")))
	said := &beginning{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = environment()
	// What sendmail starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for a child that keeps our pipe open

	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		m.log.Debug("mail handed over", "program", m.program, "recipients", len(p.To))
		return nil
	}
	doing := "send mail by " + m.program
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w: it took longer than %s", doing, context.DeadlineExceeded, Timeout)
	case errors.Is(err, os.ErrNotExist):
		return hinted(fmt.Errorf("%s: %w", doing, os.ErrNotExist), installMTA)
	case !exited:
		return fmt.Errorf("%s: %w", doing, err)
	}
	told := ""
	if text := strings.TrimSpace(string(said.text)); text != "" {
		told = ": " + quote(text)
	}
	err = fmt.Errorf("%s: %s%s", doing, exit.ProcessState, told)
	if finalExits[exit.ExitCode()] {
		return final(err)
	}
	return err
}

// environment is what a mail program may need of ours; secrets may lie in the rest.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// beginning keeps the first bytes of what is written to it, and takes the rest.
type beginning struct{ text []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxSaid-len(b.text))]...)
	return len(p), nil
}
