"""Asks Fail2Ban how long repeated bans last: a list of cases in, a list of seconds out.

A case has the bantime, the count of earlier bans and the options as the files have them.
What Fail2Ban cannot compute is null, what it cannot read is -1000000.
"""

import json
import logging
import sys

from fail2ban.server.jail import Jail
from fail2ban.server.observer import ObserverThread

logging.disable(logging.CRITICAL)


class Database:
    """Stands where bans would be stored, so that increments can be switched on."""


answers = []
observer = ObserverThread()
for case in json.load(sys.stdin):
    jail = Jail("t", backend="polling")
    jail.database = Database()
    jail.setBanTimeExtra("increment", "true")
    try:
        for option, value in case["options"].items():
            jail.setBanTimeExtra(option, value)
    except SyntaxError:
        answers.append(-1000000)
        continue
    try:
        seconds = float(observer.calcBanTime(jail, case["bantime"], case["count"]))
        answers.append(seconds if abs(seconds) < 1e300 else None)
    except Exception:
        answers.append(None)
json.dump(answers, sys.stdout)
