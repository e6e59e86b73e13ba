#!/usr/bin/env python3
"""Measures detection: Bantam beside fail2ban-regex, ripgrep and sshguard, in one run.

    bench/detect.py [--bantam PROGRAM] [--lines N] [--part N] [--only WORD] [--strict]

Prints what one line costs each program: CPU time of the process, user and system, on one
core, with what it spends on an empty log subtracted, so that reading the file and the dates
count and starting does not. bench/README.md says what the columns mean.

Logs are written by ../shared/bench/genlog.py, a million lines each, into $BENCH_DIR, which
is kept between runs, or else into a temporary folder. The peer is Debian's fail2ban package,
unpacked there; its filters are used by both. $BENCH_CPU is the core to use (0).

Exit status: 1 when Bantam and fail2ban-regex disagree on a line or Bantam refuses a filter,
or, with --strict, when a floor is missed; else 0.
"""

import argparse
import collections
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
GENLOG = os.path.join(ROOT, "..", "shared", "bench", "genlog.py")
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
MATCHED_NS, RSS_MB, SSHG_TIMES = 1000, 25, 3

# Log, filters, and how many times as fast as fail2ban-regex it must be and is wanted to be.
# "nothing" marks logs in which nothing matches; there rg is a measure, too.
Row = collections.namedtuple("Row", "log filters floor goal nothing", defaults=(None, None, False))
AGGRESSIVE = "sshd[mode=aggressive]"
POSTFIX = "postfix[mode=aggressive]"
ROWS = [
    Row("auth01", ["sshd"]),
    Row("auth10", ["sshd"], 60, 90),
    Row("auth90", ["sshd"]),
    Row("auth01", [AGGRESSIVE]),
    Row("auth10", [AGGRESSIVE], 80, 150),
    Row("auth90", [AGGRESSIVE]),
    Row("mail10", [POSTFIX], 60, 90),
    Row("mail10", ["dovecot"], 60, 90),
    Row("access10", ["nginx-botsearch"], 60, 90),
    Row("error10", ["nginx-http-auth"], 60, 90),
    Row("fail2ban10", ["recidive"], 60, 90),
    Row("apache10", ["apache-noscript"], 60, 90),
    Row("access10", [AGGRESSIVE], 300, 600, True),
    Row("auth10", [POSTFIX], 300, 600, True),
    Row("auth10", ["recidive"], 300, 600, True),
    Row("auth10", [AGGRESSIVE, "pam-generic", "dropbear", "webmin-auth", "proftpd"], 60, 90),
]

Cost = collections.namedtuple("Cost", "cpu rss out code")


class Launcher:
    """Starts what is measured from a process that stays small, for the peak memory that the
    kernel reports of a process begins with that of the process it was forked from."""

    def __init__(self):
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.orders)
            self.serve(os.fdopen(orders), os.fdopen(answers, "w"))
            os._exit(0)
        os.close(orders)
        os.close(answers)
        self.orders = os.fdopen(self.orders, "w")
        self.answers = os.fdopen(self.answers)

    @staticmethod
    def serve(orders, answers):
        for line in orders:
            order = json.loads(line)
            with open(order["out"], "wb") as out, open(order["stdin"] or os.devnull, "rb") as given:
                proc = subprocess.Popen(
                    order["argv"], stdin=given, stdout=out, stderr=subprocess.STDOUT,
                    env=order["env"],
                    preexec_fn=lambda: os.sched_setaffinity(0, {order["cpu"]}))
                _, status, usage = os.wait4(proc.pid, 0)
                proc.returncode = os.waitstatus_to_exitcode(status)
            print(json.dumps([usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024,
                              proc.returncode]), file=answers, flush=True)

    def run(self, **order):
        print(json.dumps(order), file=self.orders, flush=True)
        line = self.answers.readline()
        if not line:
            raise SystemExit(f"{order['argv'][0]} could not be started")
        return json.loads(line)


def run(argv, cpu, stdin=None, env=None):
    """One process: CPU seconds, peak MB, what it printed, exit status."""
    with tempfile.NamedTemporaryFile() as out:
        spent, rss, code = launcher.run(
            argv=argv, cpu=cpu, stdin=stdin, out=out.name,
            env=dict(os.environ, TZ="UTC", LC_ALL="C.UTF-8", GOMAXPROCS="1", **(env or {})))
        return Cost(spent, rss, out.read(), code)


def best(argv, cpu, **how):
    """The cheapest of five runs; of one, where that one takes long."""
    runs = [run(argv, cpu, **how)]
    while len(runs) < 5 and runs[0].cpu < 6:
        runs.append(run(argv, cpu, **how))
    return min(runs, key=lambda r: r.cpu)


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.tree = os.path.join(folder, "tree")
        self.empty = self.path("empty.log")
        open(self.empty, "w").close()
        self.starts = {}

    def path(self, name):
        return os.path.join(self.folder, name)

    # What is measured on.

    def log(self, name):
        """The path of a log; its name is the kind and the attackers' share in percent."""
        kind, share = name[:-2], name[-2:]
        path = self.path(f"{name}-{self.args.lines}.log")
        if os.path.exists(path):
            return path
        made = path + ".new"
        if kind == "apache":
            with open(self.log("error" + share)) as lines, open(made, "w") as out:
                out.writelines(map(as_apache, lines))
        else:
            subprocess.run([PYTHON, GENLOG, kind, "--lines", str(self.args.lines),
                            "--attack", str(int(share) / 100), "-o", made], check=True)
        os.rename(made, path)
        return path

    def part(self, name):
        """The first lines of a log, for the peer."""
        path = self.path(f"{name}-part.log")
        with open(self.log(name), "rb") as log, open(path, "wb") as out:
            for _, line in zip(range(self.args.part), log):
                out.write(line)
        return path

    # Who is measured.

    def bantam(self, log, filters, *options):
        return [self.args.bantam, "regex", "--config", self.path("tree/etc/fail2ban"), *options,
                log, *(f"--filter={name}" for name in filters)]

    def peer(self, log, name, *options):
        return [PYTHON, self.path("tree/usr/bin/fail2ban-regex"),
                "--config", self.path("tree/etc/fail2ban"), *options, log, name]

    @property
    def peer_env(self):
        return {"PYTHONPATH": self.path("tree/usr/lib/python3/dist-packages")}

    def start(self, key, argv, **how):
        """CPU seconds on an empty log."""
        if key not in self.starts:
            self.starts[key] = best(argv, self.args.cpu, **how).cpu
        return self.starts[key]

    def per_line(self, cost, start, lines):
        return max(0.0, cost.cpu - start) / lines * 1e9

    def measure(self, row):
        """The row's figures, by column; what could not be had is missing."""
        got, log, lines = {}, self.log(row.log), self.args.lines
        cpu, filters = self.args.cpu, row.filters
        cost = best(self.bantam(log, filters), cpu)
        counts = counted(cost)
        if counts is None:
            got["problem"] = f"bantam, exit status {cost.code}: {last_line(cost.out)}"
        else:
            start = self.start(("bantam", *filters), self.bantam(self.empty, filters))
            got.update(bantam=self.per_line(cost, start, lines), hits=sum(counts[:2]),
                       rss=cost.rss)

        part, peer_cpu, peer_counts = self.part(row.log), 0.0, None
        for name in filters:
            cost = best(self.peer(part, name), cpu, env=self.peer_env)
            peer_counts = counted(cost)
            if peer_counts is None:
                raise SystemExit(f"fail2ban-regex {name}: {last_line(cost.out)}")
            peer_cpu += self.per_line(
                cost, self.start(("peer", name), self.peer(self.empty, name), env=self.peer_env),
                self.args.part)
            got["peer_hits"] = got.get("peer_hits", 0) + sum(peer_counts[:2])
        got["peer"] = peer_cpu
        if "bantam" in got and not self.agree(got, part, filters):
            got["mismatch"] = True

        patterns = [os.path.join(HERE, "patterns", re.sub(r"\[mode=(\w+)\]", r"-\1", f) + ".rg")
                    for f in filters]
        if shutil.which("rg") and all(map(os.path.exists, patterns)):
            argv = ["rg", "--no-config", "-j1", "-c", *sum((["-f", p] for p in patterns), [])]
            cost = best([*argv, log], cpu)
            got["rg"] = self.per_line(
                cost, self.start(("rg", *filters), [*argv, self.empty]), lines)
            got["rg_hits"] = int(cost.out or 0)
        parser = sshg_parser()
        if parser and row.log.startswith("auth") and filters[0].startswith("sshd") and len(filters) == 1:
            cost = best([parser], cpu, stdin=log)
            got["sshg"] = self.per_line(
                cost, self.start("sshg", [parser], stdin=self.empty), lines)
        return got

    def agree(self, got, part, filters):
        """Whether both find the same lines in the peer's part, told in got["why"] if not."""
        show = ["--print-all-matched", "--print-all-ignored"]
        ours = run(self.bantam(part, filters, *show), self.args.cpu)
        theirs = [run(self.peer(part, name, *show), self.args.cpu, env=self.peer_env)
                  for name in filters]
        if len(filters) > 1:  # each filter's report, one after the other
            reports = re.split(rb"(?m)^Running tests$", ours.out)[1:]
        else:
            reports = [ours.out]
        if len(reports) != len(filters):
            got["why"] = f"{len(reports)} reports for {len(filters)} filters"
            return False
        got["part_hits"] = 0
        for name, report, their in zip(filters, reports, theirs):
            mine = Cost(0, 0, report, 0)
            got["part_hits"] += sum((counted(mine) or (0, 0))[:2])
            if counted(mine) != counted(their):
                got["why"] = (f"{name}: of {self.args.part} lines bantam has (ignored, matched, "
                              f"missed) {counted(mine)}, fail2ban-regex {counted(their)}")
            elif listed(report) != listed(their.out):
                differ = sorted(set(listed(report)) ^ set(listed(their.out)))
                got["why"] = f"{name}: other lines are found, as {differ[:1]}"
        return "why" not in got

    def matched(self, logs, filters):
        """(ns of a matched line, ns of another line), from two logs with few and many matches:
        each line costs the one or the other."""
        sums = []
        for name in logs:
            cost = best(self.bantam(self.log(name), filters), self.args.cpu)
            counts = counted(cost)
            if counts is None:
                return None
            hits = sum(counts[:2])
            sums.append((hits, sum(counts) - hits, 1e9 * (cost.cpu - self.start(
                ("bantam", *filters), self.bantam(self.empty, filters)))))
        (a, b, x), (c, d, y) = sums
        wide = a * d - b * c
        return wide and ((x * d - b * y) / wide, (a * y - c * x) / wide)


def counted(cost):
    """(ignored, matched, missed) lines of a report; of several reports the sums."""
    found = re.findall(rb"^Lines: \d+ lines, (\d+) ignored, (\d+) matched, (\d+) missed",
                       cost.out, re.M)
    return tuple(map(sum, zip(*(map(int, f) for f in found)))) if found and not cost.code else None


def listed(report):
    """What a report lists under its matched and its ignored lines, in order."""
    lines, inside = [], None
    for line in report.splitlines():
        head = re.match(rb"\|- (\w+) line\(s\):", line)
        if head:
            inside = head.group(1)
        elif line.startswith(b"`-"):
            inside = None
        elif inside in (b"Matched", b"Ignored"):
            lines.append((inside.decode(), line[3:].decode("utf-8", "replace").strip()))
    return lines


def last_line(out):
    lines = out.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:160] if lines else "it printed nothing"


def as_apache(line):
    """A line of nginx's error log as Apache 2.4 would have put it: an attack is a script that
    is not there, the rest is what a web server says all day."""
    stamp, _, rest = line[:19], line[19], line[20:]
    when = datetime.datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S")
    serial = int(re.search(r"\*(\d+)", rest).group(1))
    client = re.search(r"client: ([^,]+)", rest).group(1)
    client = f"[{client}]" if ":" in client else client
    path = re.search(r'"(?:GET|POST) (\S+)', rest).group(1)
    head = (f"[{when:%a %b %d %H:%M:%S}.{serial % 1000000:06d} {when.year}] "
            "[%s] [pid 811:tid 140071] " + f"[client {client}:{32768 + serial % 28000}] ")
    if 'user "' in rest:
        script = re.search(r'user "([^"]*)"', rest).group(1)
        return head % "cgid:error" + (
            "AH02811: script not found or unable to stat: "
            f"/usr/lib/cgi-bin/{script}.{('php', 'pl', 'cgi', 'asp')[serial % 4]}\n")
    return head % ("authz_core:error", "core:error", "proxy:error")[serial % 3] + (
        f"AH01630: client denied by server configuration: /srv/www{path}",
        f"AH00037: Symbolic link not allowed or link target not accessible: /srv/www{path}",
        f"AH00898: Error reading from remote server returned by {path}")[serial % 3] + "\n"


def sshg_parser():
    for place in ("/usr/libexec/sshguard", "/usr/lib/sshguard"):
        path = os.path.join(place, "sshg-parser")
        if os.path.exists(path):
            return path
    return shutil.which("sshg-parser")


def prepare(folder):
    """The peers, as far as this machine lets them be had."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        missing = [package for package, there in
                   (("ripgrep", shutil.which("rg")), ("sshguard", sshg_parser())) if not there]
        if missing:
            subprocess.run("apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "
                           "--no-install-recommends " + " ".join(missing),
                           shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, there in (("rg", shutil.which("rg")), ("sshg-parser", sshg_parser())):
        if not there:
            print(f"{name} is not installed: its column stays empty")
    if not os.path.exists(os.path.join(folder, "tree")):
        done = subprocess.run(
            "apt-get download -qq fail2ban || { apt-get update -qq && apt-get download -qq fail2ban; }; "
            "dpkg-deb -x fail2ban_*.deb tree.new && mv tree.new tree",
            shell=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit("Debian's fail2ban package cannot be had: " + last_line(done.stderr))
    if not os.path.exists(GENLOG):
        raise SystemExit(f"no log generator: {GENLOG}")


def verdict(row, got):
    """What was reached: goal, floor, or what is missed; all that the row is measured by."""
    if "bantam" not in got:
        return "not measured"
    if "mismatch" in got:
        return "MISMATCH"
    ns = max(got["bantam"], 1e-3)
    ratio, missed, goal = got["peer"] / ns, [], True
    if row.floor:
        if ratio < row.floor:
            missed.append(f"{row.floor}x")
        goal = goal and ratio >= row.goal
    if row.nothing and "rg" in got:
        if ns > got["rg"]:
            missed.append("rg")
        goal = goal and ns <= got["rg"] / 2
    if "sshg" in got and got["sshg"] < SSHG_TIMES * ns:
        missed.append(f"sshg {SSHG_TIMES}x")
    if got["rss"] >= RSS_MB:
        missed.append(f"{RSS_MB} MB")
    if missed:
        return "MISSED " + ", ".join(missed)
    return "goal" if goal else "floor"


def number(value, places=0):
    return "–" if value is None else f"{value:,.{places}f}"


def cells(row, got):
    ns = got.get("bantam")
    ratio = got["peer"] / ns if ns else None
    return [row.log[:-2], f"{int(row.log[-2:])} %", " ".join(row.filters),
            number(ns), number(got.get("hits")), number(got["peer"]),
            f"{number(got.get('part_hits'))}/{number(got['peer_hits'])}",
            number(ratio), number(row.floor), number(row.goal),
            number(got.get("rg")), number(got.get("rg_hits")),
            number(ns / got["rg"], 2) if ns and got.get("rg") else "–",
            number(got.get("sshg")), number(got.get("rss"), 1), verdict(row, got)]


def show(values):
    print("| " + " | ".join(values) + " |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bantam", default=os.path.join(ROOT, "bin", "bantam"))
    p.add_argument("--lines", type=int, default=1_000_000)
    p.add_argument("--part", type=int, default=50_000, help="lines for fail2ban-regex")
    p.add_argument("--only", default="", help="rows whose log or filter holds this word")
    p.add_argument("--strict", action="store_true", help="a missed floor is a failure")
    p.add_argument("--cpu", type=int, default=int(os.environ.get("BENCH_CPU", "0")))
    args = p.parse_args()
    args.bantam, args.part = os.path.abspath(args.bantam), min(args.part, args.lines)
    kept = os.environ.get("BENCH_DIR")
    folder = os.path.abspath(kept) if kept else tempfile.mkdtemp(prefix="bantam-bench-")
    os.makedirs(folder, exist_ok=True)
    try:
        prepare(folder)
        sys.exit(report(Bench(args, folder)))
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def report(bench):
    rows = [r for r in ROWS if bench.args.only in r.log + " " + " ".join(r.filters)]
    print(f"{bench.args.lines:,} lines a log, fail2ban-regex on the first {bench.args.part:,}; "
          f"ns of CPU a line on core {bench.args.cpu}, start subtracted; {datetime.date.today()}\n")
    head = ["log", "attacks", "filter", "bantam ns", "hits", "fail2ban-regex ns",
            "hits in its part, bantam/it", "ratio", "floor", "goal", "rg -c ns", "rg hits",
            "bantam/rg", "sshg-parser ns", "RSS MB", "reached"]
    show(head)
    show(["---"] * len(head))
    told, results = [], []
    for row in rows:
        got = bench.measure(row)
        results.append((row, got))
        show(cells(row, got))
        told += [f"{row.log} {' '.join(row.filters)}: {got[key]}"
                 for key in ("problem", "why") if key in got]
    failed = any("mismatch" in got or "problem" in got and len(row.filters) == 1
                 for row, got in results)
    missed = any(verdict(row, got)[:3] in ("MIS", "not") for row, got in results)

    print("\nA matched line, by the difference between a log with few and one with many matches; "
          f"it may cost {MATCHED_NS} ns.\n")
    head = ["filter", "logs", "matched line ns", "other line ns", "reached"]
    show(head)
    show(["---"] * len(head))
    for row in rows:
        if row.nothing or len(row.filters) > 1 or not row.log.endswith("10"):
            continue
        logs = [row.log, row.log[:-2] + "90"]
        costs = bench.matched(logs, row.filters)
        if not costs:
            show([row.filters[0], " ".join(logs), "–", "–", "not measured"])
            continue
        good = costs[0] <= MATCHED_NS
        missed = missed or not good
        show([row.filters[0], " ".join(logs), number(costs[0]), number(costs[1]),
              "goal" if good else "MISSED"])
    for line in told:
        print(("\n" if line is told[0] else "") + line)
    return 1 if failed or bench.args.strict and missed else 0


if __name__ == "__main__":
    launcher = Launcher()
    main()
