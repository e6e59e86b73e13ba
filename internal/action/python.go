package action

import (
	"bufio"
	"context"
	_ "embed" // for the helper
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"bantam"
)

//go:embed helper.py
var helper string

// checkFor is how long Python may take to read a file: a machine may be busy.
const checkFor = 30 * time.Second

// maxAnswer is how long a line of the helper may be.
const maxAnswer = 1 << 20

// ErrNoPython is wrapped by the error of an action that is a Python class where there is no
// Python 3 to run it.
var ErrNoPython = errors.New("python3 is not installed, and the action is a Python class")

// Check reports what keeps an action from working that can be seen without running it.
// It looks for Python and whether it can read the action's file.
func Check(ctx context.Context, c *Config) error {
	switch {
	case c.Kind == Native && c.Name == LogName:
		return checkLog(c)
	case c.Kind != Python:
		return nil
	}
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		return ErrNoPython
	}
	ctx, cancel := context.WithTimeout(ctx, checkFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, interpreter, "-I", "-c", "import ast, sys; ast.parse(open(sys.argv[1], 'rb').read(), 'action')", c.Python)
	var stderr head
	cmd.Stderr = &stderr
	if err := runGroup(cmd); err != nil {
		lines := strings.Split(stderr.String(), "\n")
		return fmt.Errorf("read %s: %s", c.Python, lines[len(lines)-1])
	}
	return nil
}

// A python is an action that is a Python class, at work in a python3 of its own (server.md 3.9).
// If that dies or hangs it is ended, and begun anew with the next decision.
type python struct {
	log   *slog.Logger
	world *World
	cfg   *Config
	child *child // nil while none runs

	can  abilities
	bans map[bantam.ID]*held
}

// abilities are what the class says of itself.
type abilities struct {
	NoRestored bool `json:"norestored"`
	Flush      bool `json:"flush"`
	Prolong    bool `json:"prolong"`
}

func newPython(log *slog.Logger, world *World, c *Config) *python {
	return &python{log: log.With("jail", c.Jail, "action", c.Title), world: world, cfg: c, bans: map[bantam.ID]*held{}}
}

// A request is one line to the helper.
type request struct {
	Do   string   `json:"do"`
	Keys []string `json:"keys,omitempty"`

	File    string            `json:"file,omitempty"`
	Jail    string            `json:"jail,omitempty"`
	Name    string            `json:"name,omitempty"`
	Args    map[string]string `json:"args"`
	BanTime int64             `json:"bantime"`
}

// An answer is one line of the helper.
type answer struct {
	Get   string          `json:"get"`
	Error string          `json:"error"`
	Value json.RawMessage `json:"value"`
}

// A child is a running helper.
type child struct {
	cmd     *exec.Cmd
	cancel  context.CancelFunc
	kill    func()
	in      io.WriteCloser
	answers chan []byte // closed when it ends
	waited  chan error
}

// lines logs what the action prints, line by line.
type linesLogger struct {
	log  *slog.Logger
	rest []byte
}

func (l *linesLogger) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != '\n' {
			if len(l.rest) < maxOutput {
				l.rest = append(l.rest, b)
			}
			continue
		}
		l.log.Info("the action says", "text", strings.ToValidUTF8(string(l.rest), "\uFFFD"))
		l.rest = l.rest[:0]
	}
	return len(p), nil
}

// begin runs the helper and has it load the class and start it.
func (p *python) begin(ctx context.Context) error {
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		return ErrNoPython
	}
	// It lives longer than the call: until it is told to stop, or has to be.
	life, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(life, interpreter, "-u", "-c", helper)
	c := &child{cmd: cmd, cancel: cancel, kill: own(cmd), answers: make(chan []byte), waited: make(chan error, 1)}
	cmd.Env = append(slices.Clone(cmd.Env), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = &linesLogger{log: p.log}
	if c.in, err = cmd.StdinPipe(); err != nil {
		cancel()
		return fmt.Errorf("begin the Python helper: %w", err)
	}
	// Not StdoutPipe: Wait would close it before the last line is read.
	out, w := io.Pipe()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		cancel()
		return fmt.Errorf("begin the Python helper: %w", err)
	}
	go func() {
		defer close(c.answers)
		s := bufio.NewScanner(out)
		s.Buffer(nil, maxAnswer)
		for s.Scan() {
			select {
			case c.answers <- slices.Clone(s.Bytes()):
			case <-life.Done():
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	go func() {
		err := cmd.Wait()
		c.kill()
		_ = w.Close() // nobody reads it any more
		c.waited <- err
	}()
	p.child = c
	args := map[string]string{}
	for key, value := range p.cfg.Params {
		if key != "name" && key != "actname" {
			args[key] = value
		}
	}
	load := request{Do: "load", File: p.cfg.Python, Jail: p.cfg.Jail, Name: p.cfg.Title, Args: args}
	if p.world.BanTime != nil {
		load.BanTime = int64(p.world.BanTime(p.cfg.Jail) / time.Second)
	}
	value, err := p.ask(ctx, load, nil)
	if err == nil {
		err = json.Unmarshal(value, &p.can)
	}
	if err == nil {
		_, err = p.ask(ctx, request{Do: "start"}, nil)
	}
	if err != nil {
		p.end()
	}
	return err
}

// end ends the helper and waits for it.
func (p *python) end() {
	if p.child == nil {
		return
	}
	c := p.child
	p.child = nil
	_ = c.in.Close() // it ends by itself then, unless it hangs
	hangs := time.AfterFunc(afterExit, c.cancel)
	<-c.waited
	hangs.Stop()
	c.cancel()
	for range c.answers { // until it is closed
	}
}

// ask sends a request and waits for its answer, for at most the action's timeout. t answers what is
// asked in between. A helper that does not answer as it should is ended.
func (p *python) ask(ctx context.Context, r request, t *ticket) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	value, err := p.talk(ctx, r, t)
	var its *pythonError
	if err != nil && !errors.As(err, &its) {
		p.end()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Do, err)
	}
	return value, nil
}

// A pythonError is an exception of the action.
type pythonError struct{ text string }

func (e *pythonError) Error() string { return e.text }

func (p *python) talk(ctx context.Context, r any, t *ticket) (json.RawMessage, error) {
	for {
		if err := p.send(ctx, r); err != nil {
			return nil, err
		}
		var line []byte
		var ok bool
		select {
		case line, ok = <-p.child.answers:
			if !ok {
				return nil, errors.New("the Python helper has ended")
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("the Python helper does not answer: %w", context.Cause(ctx))
		}
		var a answer
		switch err := json.Unmarshal(line, &a); {
		case err != nil:
			return nil, fmt.Errorf("the Python helper answers nonsense: %w", err)
		case a.Error != "":
			return nil, &pythonError{short(a.Error)}
		case a.Get == "":
			return a.Value, nil
		case t == nil:
			return nil, errors.New("the Python helper asks for a ban where there is none")
		}
		r = map[string]any{"value": typed(ctx, t, a.Get)}
	}
}

// typed is a value of a ban as Python code expects it.
func typed(ctx context.Context, t *ticket, key string) any {
	text, _, ok := t.values(ctx)(key)
	switch key {
	case "bancount", "bantime", "failures", "ipfailures", "ipjailfailures", "restored",
		"jail.banned", "jail.banned_total", "jail.found", "jail.found_total":
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case "time":
		return json.RawMessage(text) // with its point, so that it is a float there
	case "family":
		ok = text != none
	}
	if !ok {
		return nil
	}
	return text
}

// send writes one line, which a helper that reads nothing may hold up.
func (p *python) send(ctx context.Context, r any) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c := p.child
	stop := context.AfterFunc(ctx, c.cancel) // its end ends the write
	defer stop()
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the Python helper does not listen: %w", err)
	}
	return nil
}

// Start makes the class ready.
func (p *python) Start(ctx context.Context) error {
	if p.child != nil {
		return nil
	}
	return p.begin(ctx)
}

// Do calls the method for one decision.
func (p *python) Do(ctx context.Context, d *bantam.Decision) (retry bool, err error) {
	h := p.bans[d.Ban.ID]
	method := "ban"
	switch d.Kind {
	case bantam.Start, bantam.Restore:
		if h != nil && h.applied {
			h.ban = d.Ban
			return false, nil
		}
		if h == nil {
			h = &held{restored: d.Kind == bantam.Restore}
			p.bans[d.Ban.ID] = h
		}
	case bantam.Prolong:
		method = "prolong"
		if h == nil || !h.applied {
			return false, nil
		}
	case bantam.End:
		method = "unban"
		if h == nil {
			h = &held{}
		}
		delete(p.bans, d.Ban.ID)
	}
	h.ban = d.Ban
	if err = p.Start(ctx); err == nil {
		skip := method == "prolong" && !p.can.Prolong || method != "unban" && h.restored && p.can.NoRestored
		if skip {
			return false, nil
		}
		err = p.call(ctx, method, h)
	}
	if err != nil {
		if ctx.Err() == nil {
			p.log.Error(fmt.Sprintf("Failed to execute %s jail '%s' action '%s'", method, p.cfg.Jail, p.cfg.Title), "addr", d.Ban.ID.String(), "err", err)
		}
		return method != "unban", err
	}
	h.applied = true
	return false, nil
}

func (p *python) call(ctx context.Context, method string, h *held) error {
	t := &ticket{world: p.world, jail: p.cfg.Jail, family: family(&h.ban), ban: &h.ban, restored: h.restored}
	all := slices.Clone(keys)
	for key := range h.ban.Data {
		all = append(all, "F-"+strings.ToUpper(key))
	}
	_, err := p.ask(ctx, request{Do: method, Keys: all}, t)
	return err
}

// Again is nothing: a class that has lost its bans does not say so.
func (p *python) Again() []bantam.Decision { return nil }

// Reload is nothing that a class knows of.
func (p *python) Reload(context.Context) error { return nil }

// Lift calls flush, or unban for every ban.
func (p *python) Lift(ctx context.Context) error {
	defer clear(p.bans)
	if p.child == nil || len(p.bans) == 0 {
		return nil
	}
	if p.can.Flush {
		_, err := p.ask(ctx, request{Do: "flush"}, nil)
		return err
	}
	var errs []error
	for _, h := range p.bans {
		if err := p.Start(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, p.call(ctx, "unban", h))
	}
	return errors.Join(errs...)
}

// Stop calls stop and ends the helper.
func (p *python) Stop(ctx context.Context) error {
	if p.child == nil {
		return nil
	}
	_, err := p.ask(ctx, request{Do: "stop"}, nil)
	p.end()
	return err
}
