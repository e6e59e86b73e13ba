"""Asks the peer for dates: one JSON job a line in, one JSON answer a line out.

Called with the folder of the peer's Python packages. A job holds patterns (a
datepattern, or null), zone (a logtimezone, or null), tz (the machine's zone), now
(epoch seconds) and lines, which one detector sees in their order, or each a new one
if fresh. The answer is a list: for each line null where nothing matched, else start
and end of what is cut out, in bytes, and the epoch time or null. A job the peer
refuses is answered with its error.
"""
import json
import logging
import os
import sys
import time

sys.path.insert(0, sys.argv[1])
logging.disable(logging.CRITICAL)

from fail2ban.server.mytime import MyTime  # noqa: E402

MyTime.setTime(int(sys.argv[2]))

from fail2ban.server.filter import Filter  # noqa: E402


def detector(job):
    f = Filter(None)
    if job["zone"] is not None:
        f.setLogTimeZone(job["zone"])
    f.setDatePattern(job["patterns"] or "{DEFAULT}")
    return f.dateDetector


def answer(d, line):
    found = d.matchTime(line)
    if not found or not found[0]:
        return None
    start, end = found[0].start(1), found[0].end(1)
    try:
        got = d.getTime(line, found)
        at = got[0] if got else None
    except Exception:
        at = None
    return [len(line[:start].encode()), len(line[:end].encode()), at]


for text in sys.stdin:
    job = json.loads(text)
    os.environ["TZ"] = job["tz"]
    time.tzset()
    MyTime.setTime(job["now"])
    try:
        d = detector(job)
        out = []
        for line in job["lines"]:
            if job["fresh"]:
                d = detector(job)
            out.append(answer(d, line))
    except Exception as e:
        out = "%s: %s" % (type(e).__name__, e)
    print(json.dumps(out), flush=True)
