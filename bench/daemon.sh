#!/usr/bin/env bash
# Measures the daemon from outside, beside Fail2Ban's Debian package, in one run:
# latency from the last failure to the kernel, a storm, a restart. Needs root, and
# shared/ beside this tree. One JSON object per measurement goes to standard output.
#
#   bench/daemon.sh [latency|storm|restart|all] [bantam|fail2ban|both]
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all} who=${2:-both}
bench=../shared/bench/daemonbench.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ours() { # the library's defaults, one jail
	/usr/bin/python3 "$bench" "$@" --label bantam --banaction bantam \
		--start "$PWD/bin/bantam run -c {conf} --socket {dir}/api.sock --pidfile {pid}" \
		--ready "cmd:$PWD/bin/bantam ping --socket {dir}/api.sock"
}

theirs() { # as its package comes, with inotify
	[ -d "$work/f2b" ] || {
		/usr/bin/python3 -c 'import pyinotify' 2>/dev/null || apt-get install -qq -y python3-pyinotify >/dev/null
		(cd "$work" && apt-get download -qq fail2ban && dpkg-deb -x fail2ban_*.deb f2b) >/dev/null 2>&1
	}
	PYTHONPATH="$work/f2b/usr/lib/python3/dist-packages" /usr/bin/python3 "$bench" "$@" --label fail2ban \
		--base-config "$work/f2b/etc/fail2ban" --ready 'log:Jail .* started' \
		--start "/usr/bin/python3 $work/f2b/usr/bin/fail2ban-server -f -c {conf} -s {sock} -p {pid}"
}

# Fail2Ban is given a tenth of the addresses where the full number takes it minutes.
measure() {
	[ "$what" = all ] || [ "$what" = "$1" ] || return 0
	[ "$who" = fail2ban ] || ours "$1" -n "$2"
	[ "$who" = bantam ] || theirs "$1" -n "$3"
}

measure latency 200 200
measure storm 10000 1000
measure restart 10000 1000
