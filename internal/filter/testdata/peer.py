"""Asks the distribution's fail2ban package what its filter makes of lines.

Standard input is a JSON list of cases: prefregex, failregex, ignoreregex, maxlines,
usedns, lines. Standard output is a JSON list with, for each case, null if the package refuses
it, else a list with, for each line, the failures as [regex, id, user, lines].
Every name resolves to 192.0.2.99.
"""

import json
import logging
import sys

from fail2ban.server.filter import Filter
from fail2ban.server.ipdns import DNSUtils, IPAddr

logging.disable(logging.CRITICAL)
DNSUtils.dnsToIp = staticmethod(lambda name: {IPAddr("192.0.2.99")})


def answer(case):
    judge = Filter(None)
    judge.checkAllRegex = False
    judge.checkFindTime = False
    judge.active = True
    try:
        judge.setUseDns(case["usedns"])
        judge.setMaxLines(case["maxlines"])
        judge.setDatePattern("{NONE}")
        if case["prefregex"]:
            judge.prefRegex = case["prefregex"]
        for expr in case["failregex"]:
            judge.addFailRegex(expr)
        for expr in case["ignoreregex"]:
            judge.addIgnoreRegex(expr)
        return [
            [
                [f[0] + 1, str(f[1]), f[3].get("user") or "", ["".join(m) for m in f[3]["matches"]]]
                for f in judge.processLine(line)
            ]
            for line in case["lines"]
        ]
    except Exception:
        return None


json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)
