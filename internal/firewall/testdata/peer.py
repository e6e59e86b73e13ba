"""The peer's stock actions, for comparison.

Reads one JSON object per line: {"action", "jail", "options", "do", "ip"} and
answers each with one: {"commands": {family: {command: text}}} for "commands",
else {"ok": ...}. "do" is commands, ban, unban, flush or stop.
"""
import json, logging, sys

tree = sys.argv[1]
from fail2ban.client.actionreader import ActionReader
from fail2ban.server.action import CommandAction
from fail2ban.server.ipdns import IPAddr

logging.disable(logging.CRITICAL)
actions = {}


def action(q):
    key = q["jail"] + " " + q["action"]
    if key in actions:
        return actions[key]
    r = ActionReader(q["action"], q["jail"], dict(q["options"]), basedir=tree + "/etc/fail2ban")
    if not r.read():
        raise Exception("cannot read the action")
    r.getOptions({})
    a = CommandAction(None, q["action"])
    a.timeout = 20
    for cmd in r.convert():
        if cmd[0] == "multi-set":
            for name, value in cmd[4]:
                setattr(a, name, value)
    actions[key] = a
    return a


def info(a, ip):
    ip = IPAddr(ip)
    return {"ip": ip, "fid": ip, "family": ip.familyStr, "bantime": 600, "failures": 3, "time": 1, "matches": ""}


NAMES = ("actionstart", "actionstop", "actioncheck", "actionban", "actionunban", "actionflush")
for line in sys.stdin:
    q = json.loads(line)
    try:
        a = action(q)
        if q["do"] == "commands":
            out = {"commands": {}}
            for family in ("inet4", "inet6"):
                out["commands"][family] = {
                    n: a.replaceTag("<%s>" % n, a._properties, conditional="family=" + family) for n in NAMES
                }
        elif q["do"] in ("ban", "unban"):
            getattr(a, q["do"])(info(a, q["ip"]))
            out = {"ok": True}
        else:
            out = {"ok": getattr(a, q["do"])()}
    except Exception as e:
        out = {"error": repr(e)}
    print(json.dumps(out), flush=True)
