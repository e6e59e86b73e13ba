package test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bantam"
	"bantam/internal/peertest"
)

// built are packages of this source, made once for all tests: as they are, and of a later version.
var built struct {
	once       sync.Once
	now, later map[string]string // files by the package's name
	err        error
}

// packages are the Debian packages for this machine.
func packages(t testing.TB) (now, later map[string]string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		peertest.Without(t, "there is no dpkg")
	}
	built.once.Do(func() {
		dir := filepath.Join(filepath.Dir(program), "packages")
		if built.now, built.err = pack(dir, "deb", "amd64", bantam.Version); built.err == nil {
			built.later, built.err = pack(dir, "deb", "amd64", "0.9.1")
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.now, built.later
}

// pack makes packages with packaging/build.
func pack(dir, kind, arch, version string) (map[string]string, error) {
	dir = filepath.Join(dir, kind+version+arch)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "../packaging/build", kind, dir)
	cmd.Env = append(os.Environ(), "ARCHS="+arch, "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, errors.New("packaging/build: " + err.Error() + "\n" + string(out))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*."+kind))
	files := map[string]string{}
	for _, f := range found {
		name := "bantam"
		if strings.Contains(filepath.Base(f), "fail2ban") {
			name = "bantam-fail2ban"
		}
		files[name] = f
	}
	if len(files) != 2 {
		return nil, errors.New("packaging/build makes " + strings.Join(found, ", "))
	}
	return files, err
}

// attempt connects to a server on the debian, and says whether it was answered.
func (d *debian) attempt() bool {
	return d.connects(d.attacker, attackerAddr)
}

// service starts what the installed unit would.
func (d *debian) service() *process {
	d.Helper()
	unit := d.text("lib/systemd/system/bantam.service")
	_, command, ok := strings.Cut(unit, "\nExecStart=")
	if !ok {
		d.Fatalf("the unit starts nothing:\n%s", unit)
	}
	command, _, _ = strings.Cut(command, "\n")
	p := d.spawn(strings.Fields(command)...)
	return p.ready()
}

// fails has the attacker fail n times by the log of sshd.
func (d *debian) fails(n int) {
	for range n {
		d.log("var/log/auth.log", failed(attackerAddr))
	}
}

// changed are files that are there after something was done and were not before, or the other way
// round, but for those that dpkg itself keeps.
func changed(before, after map[string]bool) (came, went []string) {
	own := func(name string) bool {
		return strings.HasPrefix(name, "/var/lib/dpkg/") || strings.HasPrefix(name, "/root/") || strings.HasPrefix(name, "/var/log/dpkg.log") ||
			strings.HasPrefix(name, "/var/cache/") || strings.HasPrefix(name, "/var/log/alternatives")
	}
	for name := range after {
		if !before[name] && !own(name) {
			came = append(came, name)
		}
	}
	for name := range before {
		if !after[name] && !own(name) {
			went = append(went, name)
		}
	}
	slices.Sort(came)
	slices.Sort(went)
	return came, went
}

func TestPackageFromInstallationToPurge(t *testing.T) {
	now, later := packages(t)
	d := newDebian(t, "openssh-server")
	d.echo()
	d.log("var/log/auth.log", "")
	before := d.files()
	debs := d.put(now["bantam"], later["bantam"])

	said := d.does("dpkg", "-i", debs[0])
	if !strings.Contains(said, "only observes until you run: sudo bantam setup") {
		t.Errorf("the installation does not say how to go on:\n%s", said)
	}
	if out := d.does("bantam", "version"); !strings.HasPrefix(out, "bantam ") {
		t.Errorf("bantam version says %q", out)
	}
	if out := d.does("dpkg-query", "--show", "-f", "${Conffiles}", "bantam"); strings.Count(out, "/") != 3 || !strings.Contains(out, "/etc/logrotate.d/bantam") {
		t.Errorf("the configuration files are %q", out)
	}
	if info, err := os.Stat(filepath.Join(d.dir, "etc/bantam")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("/etc/bantam: %v %v", info, err)
	}

	// As installed it watches, tells, and bans nobody.
	p := d.service()
	d.fails(6)
	d.until("the attacker is noticed", func() bool { return strings.Contains(d.does("bantam", "banned"), attackerAddr.String()) })
	if screen := d.does("bantam"); !strings.Contains(screen, "observ") || !strings.Contains(screen, "bantam setup") {
		t.Errorf("the first screen does not say that it only observes, and what to do:\n%s", screen)
	}
	if out := d.does("bantam", "doctor"); !strings.Contains(out, "it only observes until it is set up: nobody is banned\n            fix: sudo bantam setup\n") {
		t.Errorf("doctor does not say what to do:\n%s", out)
	}
	if out := d.refuses("bantam", "ban", attackerAddr.String()); !strings.Contains(out, "sudo bantam setup") {
		t.Errorf("ban does not say what to do:\n%s", out)
	}
	if !d.attempt() {
		t.Error("somebody was dropped before setup")
	}
	if rules := d.ruleset(); rules != "" {
		t.Errorf("the kernel has rules before setup:\n%s", rules)
	}
	d.does("bantam", "stop")
	p.wait()

	// With a configuration it bans.
	d.write("etc/bantam/jail.local", "[sshd]\nenabled = true\nlogpath = /var/log/auth.log\nbantime = 1h\n")
	p = d.service()
	d.does("bantam", "ban", attackerAddr.String(), "--for", "1h")
	if d.attempt() {
		t.Fatal("who is banned gets through")
	}

	// An upgrade takes nothing out of the kernel, and neither does the new start.
	d.does("dpkg", "-i", debs[1])
	if d.attempt() {
		t.Error("the upgrade has lifted a ban")
	}
	if out := d.does("dpkg-query", "--show", "-f", "${Version}", "bantam"); out != "0.9.1-1" {
		t.Errorf("the version is %q", out)
	}
	d.does("bantam", "stop")
	p.wait()
	if d.attempt() {
		t.Error("between the versions who is banned gets through")
	}
	p = d.service()
	if d.attempt() {
		t.Error("the new version has lifted a ban")
	}

	// A removal stops the daemon and leaves no rule; what was configured and remembered stays.
	d.does("dpkg", "-r", "bantam")
	p.wait()
	if rules := d.ruleset(); rules != "" {
		t.Errorf("the removal leaves rules:\n%s", rules)
	}
	if !d.attempt() {
		t.Error("the removal leaves somebody banned")
	}
	came, _ := changed(before, d.files())
	for _, name := range came {
		if name != "/etc/logrotate.d/bantam" && !strings.HasPrefix(name, "/etc/bantam") && !strings.HasPrefix(name, "/var/lib/bantam") {
			t.Errorf("the removal leaves %s", name)
		}
	}
	d.does("dpkg", "-P", "bantam")
	if came, went := changed(before, d.files()); len(came)+len(went) > 0 {
		t.Errorf("the purge leaves %q and has taken away %q", came, went)
	}
}

// A daemon that was killed answers nobody, and its rules stand.
func TestPackageRemovalWithoutADaemon(t *testing.T) {
	now, _ := packages(t)
	d := newDebian(t, "openssh-server")
	d.echo()
	d.log("var/log/auth.log", "")
	d.does("dpkg", "-i", d.put(now["bantam"])[0])
	d.write("etc/bantam/jail.local", "[sshd]\nenabled = true\nlogpath = /var/log/auth.log\n")
	d.service()
	d.does("bantam", "ban", attackerAddr.String(), "--for", "1h")
	pid := strings.TrimSpace(d.does("sh", "-c", "for p in /proc/[0-9]*; do [ \"$(readlink $p/exe)\" = /usr/bin/bantam ] && echo ${p#/proc/}; done; true"))
	d.does("kill", "-9", pid)
	if d.attempt() || d.ruleset() == "" {
		t.Fatal("the ban did not outlive the daemon")
	}
	d.does("dpkg", "-r", "bantam")
	if rules := d.ruleset(); rules != "" || !d.attempt() {
		t.Errorf("the removal leaves rules:\n%s", rules)
	}
}

// Where systemd runs, the scripts tell it what to do, and say why they do not.
func TestPackageTellsSystemd(t *testing.T) {
	now, later := packages(t)
	d := newDebian(t, "openssh-server")
	debs := d.put(now["bantam"], later["bantam"], now["bantam-fail2ban"])
	d.does("mkdir", "-p", "/run/systemd/system")
	// It writes down what it is asked, and says of fail2ban what a file says.
	d.write("usr/bin/systemctl", "#!/bin/sh\necho \"$*\" >>/run/asked\ncase \"$*\" in is-*fail2ban*) exit $(cat /run/fail2ban-state) ;; esac\n")
	d.check(os.Chmod(filepath.Join(d.dir, "usr/bin/systemctl"), 0o755))
	d.write("run/fail2ban-state", "1")
	asked := func(args ...string) (said, calls string) {
		t.Helper()
		d.write("run/asked", "")
		said = d.does(args...)
		return said, strings.ReplaceAll(strings.TrimSpace(d.text("run/asked")), "\n", "; ")
	}
	steps := []struct {
		does  string
		args  []string
		calls string
		says  string
	}{
		{"the installation enables and starts it", []string{"dpkg", "-i", debs[0]}, "daemon-reload; enable --quiet --now bantam.service", "bantam setup"},
		{"an upgrade starts it anew if it ran", []string{"dpkg", "-i", debs[1]}, "daemon-reload; try-restart bantam.service", ""},
		{"a removal stops it", []string{"dpkg", "-r", "bantam"}, "disable --quiet --now bantam.service; daemon-reload", ""},
		{"installed again it starts again", []string{"dpkg", "-i", debs[0]}, "daemon-reload; enable --quiet --now bantam.service", "bantam setup"},
		{"who takes Fail2Ban's names has it started anew", []string{"dpkg", "-i", debs[2]}, "daemon-reload; enable --quiet bantam.service; restart bantam.service", ""},
		{"both can be purged at once", []string{"dpkg", "-P", "bantam-fail2ban", "bantam"}, "daemon-reload; disable --quiet --now bantam.service; daemon-reload; daemon-reload", ""},
	}
	for _, s := range steps {
		said, calls := asked(s.args...)
		if calls != s.calls || !strings.Contains(said, s.says) {
			t.Errorf("%s: systemctl was asked %q, want %q; the scripts say\n%s", s.does, calls, s.calls, said)
		}
	}

	// Beside Fail2Ban nothing is started.
	d.write("usr/bin/fail2ban-server", "")
	d.check(os.Chmod(filepath.Join(d.dir, "usr/bin/fail2ban-server"), 0o755))
	d.write("run/fail2ban-state", "0")
	said, calls := asked("dpkg", "-i", debs[0])
	if strings.Contains(calls, "bantam") || !strings.Contains(said, "Fail2Ban runs here, so Bantam was not started") || !strings.Contains(said, "systemctl disable --now fail2ban") {
		t.Errorf("beside Fail2Ban systemctl was asked %q; the scripts say\n%s", calls, said)
	}
}

func TestPackageTakesFail2BansPlace(t *testing.T) {
	now, _ := packages(t)
	d := newDebian(t, "openssh-server")
	d.log("var/log/auth.log", "")
	debs := d.put(now["bantam"], now["bantam-fail2ban"])
	get := exec.CommandContext(t.Context(), "apt-get", "download", "-qq", "fail2ban")
	get.Dir = t.TempDir()
	out, err := get.CombinedOutput()
	original, _ := filepath.Glob(filepath.Join(get.Dir, "*.deb")) // the pattern is well formed
	if len(original) != 1 {
		peertest.Without(t, fmt.Sprintf("Fail2Ban's package cannot be had: %v: %s", err, out))
	}
	theirs := d.put(original...)[0]
	_, _ = d.inside("dpkg", "--force-depends", "-i", theirs).CombinedOutput() // it lacks its Python here
	if _, err := os.Stat(filepath.Join(d.dir, "etc/fail2ban/jail.conf")); err != nil {
		t.Fatalf("Fail2Ban is not installed: %v", err)
	}
	d.does("dpkg", "-i", debs[0])

	said := d.does("dpkg", "-i", debs[1])
	if !strings.Contains(said, "will remove fail2ban in favour of bantam-fail2ban") {
		t.Errorf("in Fail2Ban's place the package is installed with\n%s", said)
	}
	if state := d.does("dpkg-query", "--show", "-f", "${Status}", "fail2ban"); !strings.HasSuffix(state, " ok config-files") {
		t.Errorf("Fail2Ban is in the state %q", state)
	}
	if said := d.refuses("dpkg", "--force-depends", "--unpack", theirs); !strings.Contains(said, "conflict") {
		t.Errorf("beside the package Fail2Ban is refused with\n%s", said)
	}
	if _, err := os.Stat(filepath.Join(d.dir, "etc/fail2ban/jail.conf")); err != nil {
		t.Fatal(err)
	}
	d.service()
	if said := d.does("fail2ban-client", "ping"); !strings.Contains(said, "pong") {
		t.Errorf("fail2ban-client ping says %q", said)
	}
	if said := d.does("fail2ban-client", "version"); strings.TrimSpace(said) == "" {
		t.Errorf("fail2ban-client version says %q", said)
	}
	if said := d.does("fail2ban-client", "status"); !strings.Contains(said, "sshd") {
		t.Errorf("what is in /etc/fail2ban is not read: fail2ban-client status says\n%s", said)
	}
	if at, err := os.Readlink(filepath.Join(d.dir, "lib/systemd/system/fail2ban.service")); at != "bantam.service" {
		t.Errorf("the service fail2ban is %q, %v", at, err)
	}
	d.does("fail2ban-client", "stop")
}

func TestPackageIsWellFormed(t *testing.T) {
	now, _ := packages(t)
	again, err := pack(filepath.Join(t.TempDir(), "again"), "deb", "amd64", bantam.Version)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range now {
		first, err1 := os.ReadFile(file)
		second, err2 := os.ReadFile(again[name])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("the same source makes another package %s", name)
		}
	}
	lintian, err := exec.LookPath("lintian")
	if err != nil {
		peertest.Without(t, "there is no lintian")
	}
	out, err := exec.CommandContext(t.Context(), lintian, "--allow-root", "--fail-on", "error", now["bantam"], now["bantam-fail2ban"]).CombinedOutput()
	if err != nil {
		t.Errorf("lintian: %v\n%s", err, out)
	}
	t.Logf("lintian: %s", out)
}

func TestPackageManualPages(t *testing.T) {
	now, _ := packages(t)
	man, err := exec.LookPath("man")
	if err != nil {
		peertest.Without(t, "there is no man")
	}
	var pages []string
	for _, deb := range now {
		dir := t.TempDir()
		if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x", deb, dir).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb: %v %s", err, out)
		}
		found, _ := filepath.Glob(filepath.Join(dir, "usr/share/man/man*/*.gz")) // the pattern is well formed
		pages = append(pages, found...)
	}
	for _, want := range []string{"bantam.1.gz", "bantam-run.1.gz", "bantam-why.1.gz", "bantam.conf.5.gz", "fail2ban-client.1.gz", "fail2ban-regex.1.gz", "fail2ban-server.1.gz"} {
		if !slices.ContainsFunc(pages, func(p string) bool { return filepath.Base(p) == want }) {
			t.Errorf("there is no %s", want)
		}
	}
	for _, page := range pages {
		cmd := exec.CommandContext(t.Context(), man, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80")
		var warnings bytes.Buffer
		cmd.Stdout, cmd.Stderr = io.Discard, &warnings
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(page), err, warnings.String())
		}
	}
}

func TestPackageForOtherMachines(t *testing.T) {
	files, err := pack(t.TempDir(), "rpm", "arm64", "0.9.0")
	if err != nil {
		t.Fatal(err)
	}
	rpm, err := exec.LookPath("rpm")
	if err != nil {
		peertest.Without(t, "there is no rpm")
	}
	query := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), rpm, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	list := query("-qpl", files["bantam"])
	for _, want := range []string{"/usr/bin/bantam\n", "/usr/lib/systemd/system/bantam.service\n", "/usr/share/man/man1/bantam.1.gz\n", "/etc/logrotate.d/bantam\n"} {
		if !strings.Contains(list, want) {
			t.Errorf("the RPM lacks %s", want)
		}
	}
	if scripts := query("-qp", "--scripts", files["bantam"]); !strings.Contains(scripts, "bantam stop --unban") {
		t.Errorf("the RPM's scripts are\n%s", scripts)
	}
	if arch := query("-qp", "--qf", "%{ARCH}", files["bantam"]); arch != "aarch64" {
		t.Errorf("the RPM is for %s", arch)
	}
	if other := query("-qp", "--conflicts", "--provides", "--requires", files["bantam-fail2ban"]); strings.Count(other, "fail2ban\n") < 1 || !strings.Contains(other, "\nbantam = 0.9.0-1") {
		t.Errorf("the RPM of Fail2Ban's names has\n%s", other)
	}

	if files, err = pack(t.TempDir(), "deb", "arm64", "0.9.0"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x", files["bantam"], dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack the package: %v\n%s", err, out)
	}
	f, err := elf.Open(filepath.Join(dir, "usr/bin/bantam"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != elf.EM_AARCH64 {
		t.Errorf("the program is for %s", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program is not static: it has %s", p.Type)
		}
	}
}
