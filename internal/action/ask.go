package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bantam"
	"bantam/internal/tag"
)

// decideFor is how long a command may take to say whether a failure is to be ignored
// (detection.md 6.4).
const decideFor = 60 * time.Second

// Ignores runs a command that decides whether a failure counts, as commands of actions are
// run: what the log says reaches it only as the values of variables. Exit status 0 means that the
// failure is to be ignored, 1 that it counts; any other end is an error. A command that
// runs longer than a minute is ended.
//
// The tags are those of a ban that there is not yet: <failures> and <bancount> are 0,
// <matches> are the lines of this failure, <bantime> is the jail's.
func (w *World) Ignores(ctx context.Context, command string, f *bantam.Failure) (bool, error) {
	args, err := tag.Command(command, w.ofFailure(f).values(ctx))
	if err == nil {
		err = run(ctx, args, decideFor)
	}
	var failed *CommandError
	if errors.As(err, &failed) {
		if failed.Code == 1 && failed.Signal == 0 {
			return false, nil
		}
		if text := strings.TrimSpace(failed.Stderr); text != "" {
			return false, fmt.Errorf("%w, it says %.500q", err, text)
		}
	}
	return err == nil, err
}

// Expand puts the values of a failure for a text's tags, once and with nothing special about any
// of them: what stands there is never run. A tag that nothing knows stays.
func (w *World) Expand(ctx context.Context, text string, f *bantam.Failure) string {
	value := w.ofFailure(f).values(ctx)
	return tag.Expand(text, func(tag string) (string, bool) {
		v, _, ok := value(tag)
		return v, ok
	})
}

// ofFailure is what tags stand for in a command about a failure.
func (w *World) ofFailure(f *bantam.Failure) *ticket {
	b := &bantam.Ban{Jail: f.Jail, ID: f.ID, Time: f.Time, Lines: f.Lines, User: f.User, Data: f.Data}
	if w.BanTime != nil {
		if length := w.BanTime(f.Jail); length > 0 {
			b.End = f.Time.Add(length)
		}
	}
	return &ticket{world: w, jail: f.Jail, ban: b, family: family(b)}
}

// CheckCommand says why a command like Ignores's cannot work, as far as can be seen without running
// it: what the shell cannot read, and a program named by its path that is not there, is not
// executable, or wants an interpreter that is not there.
func CheckCommand(ctx context.Context, command string) error {
	args, err := tag.Command(command, (&ticket{world: &World{}, family: none}).unasked)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-n", "-c", args[0])
	var stderr head
	cmd.Stderr = &stderr
	if err := runGroup(cmd); err != nil {
		return fmt.Errorf("the shell cannot read it: %.300s", strings.TrimSpace(stderr.String()))
	}
	program, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	if !strings.HasPrefix(program, "/") || strings.ContainsAny(program, "<>\"'`$*?[\\;&|()") {
		return nil
	}
	return checkProgram(program)
}

// unasked stands for values that are not there yet, without asking for any.
func (t *ticket) unasked(name string) (value, variable string, ok bool) {
	if _, isF := fTag(name); isF {
		return "x", name, true
	}
	return "x", name, name == "family" || slices.Contains(keys, name) || slices.Contains(remote, name) || name == "fq-hostname" || name == "sh-hostname"
}

// checkProgram says why a file cannot be run.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, 256) // as much as the kernel looks at (BINPRM_BUF_SIZE in include/uapi/linux/binfmts.h)
	n, err := io.ReadFull(f, begin)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	line, _, _ := strings.Cut(string(begin[:n]), "\n")
	if !strings.HasPrefix(line, "#!") {
		return nil
	}
	words := strings.Fields(line[2:])
	if len(words) == 0 {
		return nil
	}
	interpreter := words[0]
	if filepath.Base(interpreter) == "env" && len(words) > 1 && !strings.HasPrefix(words[1], "-") {
		interpreter = words[1]
	}
	if _, err := exec.LookPath(interpreter); err != nil {
		return fmt.Errorf("%s is to be run by %s, which is not there", path, interpreter)
	}
	return nil
}
