#!/usr/bin/env bash
# Measures the daemon from outside, beside Fail2Ban's Debian package, in one run, and beside SSHGuard's
# where that can do the same. Needs root, and shared/ beside this tree. One JSON object per measurement goes to standard output.
#
#   bench/daemon.sh [latency|storm|restart|idle|offenders|catchup|all] [bantam|fail2ban|both]
#   bench/daemon.sh channels
#
# latency    last failure written to element in the kernel, and CPU per ban; SSHGuard too
# storm      10,000 and 50,000 addresses fail at once
# restart    10,000, 100,000 and 1,000,000 stored bans come back
# idle       ready, stop, memory with 1 and 40 stock jails
# offenders  a million addresses fail once each: memory and CPU
# catchup    a million lines of an auth.log are read at the start
# channels   latency and a storm of 10,000 without anybody to tell; with one mail channel; with mail, webhook
#            and abuse reports to servers that work, that hang with the name server, and that hang though their
#            names are known; memory with 200,000 bans and servers that hang. Bantam alone; not part of all
#
# On a busy machine BENCH_RUN='chrt -f 50' goes before each measurement: what else runs
# waits then.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all} who=${2:-both}
bench=../shared/bench
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

peer() { # its package, unpacked, with inotify
	[ -d "$work/f2b" ] || (
		/usr/bin/python3 -c 'import pyinotify' 2>/dev/null || apt-get install -qq -y python3-pyinotify
		cd "$work" && apt-get download -qq fail2ban && dpkg-deb -x fail2ban_*.deb f2b
	) >/dev/null 2>&1
}

bench() { # shellcheck disable=SC2086 # BENCH_RUN is several words
	${BENCH_RUN:-} /usr/bin/python3 $bench/daemonbench.py "$@"
}

ours() { # the library's defaults, one jail
	bench "$@" --label bantam --banaction bantam \
		--start "$PWD/bin/bantam run -c {conf} --socket {dir}/api.sock --pidfile {pid}" \
		--ready "cmd:$PWD/bin/bantam ping --socket {dir}/api.sock"
}

theirs() { # as its package comes
	PYTHONPATH="$work/f2b/usr/lib/python3/dist-packages" bench "$@" --label fail2ban \
		--base-config "$work/f2b/etc/fail2ban" --ready 'log:Jail .* started' \
		--start "/usr/bin/python3 $work/f2b/usr/bin/fail2ban-server -f -c {conf} -s {sock} -p {pid}"
}

# sshguard is its package's four programs as its own script joins them; three failures make a ban. Its element
# is an interval, so the kernel tells of its end too.
sshguard() {
	[ -d "$work/sshguard" ] ||
		(cd "$work" && apt-get download -qq sshguard && dpkg-deb -x sshguard_*.deb sshguard) >/dev/null 2>&1
	local in=$work/sshguard/usr/libexec/sshguard
	bench "$@" --label sshguard --lines 3 --start \
		"sh:$in/sshg-logtail {auth} | $in/sshg-parser | $in/sshg-blocker -a 30 -p 3600 -s 1800 | $in/sshg-fw-nft-sets"
}

# measure WHAT OURS THEIRS [OPTION…] takes so many of what on each side; a dash is not measured.
measure() {
	local mode=$1 our=$2 their=$3
	shift 3
	[ "$who" = fail2ban ] || [ "$our" = - ] || ours "$mode" -n "$our" "$@"
	[ "$who" = bantam ] || [ "$their" = - ] || theirs "$mode" -n "$their" "$@"
}

asked() { [ "$what" = all ] || [ "$what" = "$1" ]; }

log() { # a fresh one: what is older than findtime is not read
	[ -f "$work/$1.log" ] || /usr/bin/python3 $bench/genlog.py "$@" --lines 1000000 --start=-2000 --span 1900 -o "$work/$1.log"
}

channels() { # HOW MODE [OPTION…]: a measurement with channels
	local how=$1 mode=$2 conf="$work/tell-$1" servers=$1 act
	shift 2
	case $how in
	none) act='' servers=healthy ;;
	mail) act='smtp' servers=healthy ;;
	*) act='smtp webhook abuse' ;;
	esac
	mkdir -p "$conf/jail.d"
	{
		printf '[sshd]\naction = %%(action_)s\n'
		for one in $act; do
			case $one in
			smtp) echo '         smtp[to=admin@example.org, from=bantam@example.org, relay="127.0.0.1:2500", tls=none, whois=yes]' ;;
			webhook) echo '         webhook[url="http://127.0.0.1:8080/"]' ;;
			abuse) echo '         abuse[from=abuse@example.org, via="smtp[relay=127.0.0.1:2500, tls=none]"]' ;;
			esac
		done
	} >"$conf/jail.d/channels.local"
	echo 'nameserver 127.0.0.1' >"$work/resolv.conf"
	# The receivers are nobody's child, so that their CPU time is not the daemon's.
	bench "$mode" "$@" --label "channels: $how; load $(cut -d' ' -f1 /proc/loadavg)" --banaction bantam --base-config "$conf" \
		--start "sh:mount --bind $work/resolv.conf /etc/resolv.conf && (setsid $work/receivers $servers {dir} </dev/null >/dev/null 2>&1 &) ; exec $PWD/bin/bantam run -c {conf} --socket {dir}/api.sock --pidfile {pid}" \
		--ready "cmd:$PWD/bin/bantam ping --socket {dir}/api.sock"
}

if [ "$what" = channels ]; then
	${GO:-go} build -o "$work/receivers" ./bench/receivers
	for mode in 'latency -n 200 --gap 0.1' 'storm -n 10000'; do
		for how in none mail healthy hanging mute; do # shellcheck disable=SC2086 # mode is several words
			channels $how $mode
		done
	done
	for how in none hanging; do # what is told waits in the database, not in memory
		channels $how storm -n 200000 --maxretry 1
	done
	exit
fi

[ "$who" = bantam ] || peer

# Fail2Ban is given a tenth or less where the full number takes it minutes.
if asked latency; then
	measure latency 200 200
	[ "$who" != both ] || sshguard latency -n 200
fi
if asked storm; then
	measure storm 10000 1000
	measure storm 50000 -
fi
if asked restart; then
	# The first start makes the bans; for so many one failure each has to do. The second finds an
	# empty kernel.
	empty=(--stop "$PWD/bin/bantam stop --unban --socket {dir}/api.sock")
	measure restart 10000 - "${empty[@]}"
	measure restart 100000 - --maxretry 1 "${empty[@]}"
	measure restart 1000000 - --maxretry 1 --limit 600 "${empty[@]}"
	measure restart - 1000
fi
if asked idle; then
	peer
	for n in 1 40; do
		[ "$who" = fail2ban ] || ours idle -n $n --watch 5 --base-config "$work/f2b/etc/fail2ban" --backend auto --banaction 'nftables[type=multiport]'
		measure idle - $n --watch 5
	done
fi
if asked offenders; then
	log spread --attackers 1000000 --cycle
	measure catchup 1 1 --log "$work/spread.log" --limit 600
fi
if asked catchup; then
	log auth --attack 0.1
	measure catchup 1 1 --log "$work/auth.log" --limit 600
fi
