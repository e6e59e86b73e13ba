"""Runs one action that is a Python class, for the daemon.

Requests come as lines of JSON on standard input, one at a time, and each is answered by a
line on standard output: {"value": ...} or {"error": ...}. Before the answer to a request with
keys, lines {"get": KEY} may ask for what the ban's mapping holds; they are
answered by {"value": ...}. What the action itself prints goes to standard error.
"""

import collections.abc
import importlib.util
import json
import logging
import os
import sys
import traceback
import types

requests = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="surrogateescape")
answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
null = os.open(os.devnull, os.O_RDONLY)
os.dup2(null, 0)
os.close(null)
os.dup2(2, 1)


def say(message):
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def hear():
    line = requests.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


class Info(collections.abc.MutableMapping):
    """What is known of a ban. Values are asked for when they are first used."""

    def __init__(self, keys):
        self.keys_ = set(keys)
        self.own = {}

    def __getitem__(self, key):
        if key in self.own:
            return self.own[key]
        if key not in self.keys_ and not (isinstance(key, str) and key.startswith("F-")):
            raise KeyError(key)
        say({"get": key})
        value = hear()["value"]
        self.own[key] = value
        return value

    def __setitem__(self, key, value):
        self.own[key] = value

    def __delitem__(self, key):
        self.keys_.discard(key)
        del self.own[key]

    def __contains__(self, key):
        return key in self.keys_ or key in self.own

    def __iter__(self):
        return iter(sorted(self.keys_ | set(self.own)))

    def __len__(self):
        return len(self.keys_ | set(self.own))

    def copy(self):
        return dict(self)


class Actions:
    def __init__(self, bantime):
        self.bantime = bantime

    def getBanTime(self):
        return self.bantime


class Jail:
    """The jail as far as an action may look at it."""

    def __init__(self, name, bantime):
        self.name = name
        self.actions = Actions(bantime)

    def __str__(self):
        return "Jail(%r)" % self.name


class ActionBase:
    """What actions derive from where the original's own class is not installed."""

    def __init__(self, jail, name):
        self._jail = jail
        self._name = name
        self._logSys = logging.getLogger("fail2ban.%s" % name)

    def start(self):
        pass

    def stop(self):
        pass

    def ban(self, info):
        pass

    def reban(self, info):
        return self.ban(info)

    def unban(self, info):
        pass


class CallingMap(dict):
    """A dictionary whose callable values are called when they are read."""

    def __getitem__(self, key):
        value = super().__getitem__(key)
        return value() if callable(value) else value


def stand_in():
    """Provides the modules that actions import, if they are not installed."""
    try:
        import fail2ban.server.action  # noqa: F401
        import fail2ban.server.actions  # noqa: F401
        return
    except Exception:
        pass
    for name in ("fail2ban", "fail2ban.server", "fail2ban.server.action", "fail2ban.server.actions"):
        module = types.ModuleType(name)
        module.__path__ = []
        module.ActionBase = ActionBase
        module.CallingMap = CallingMap
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def load(request):
    stand_in()
    spec = importlib.util.spec_from_file_location("action", request["file"])
    module = importlib.util.module_from_spec(spec)
    sys.modules["action"] = module
    spec.loader.exec_module(module)
    made = getattr(module, "Action", None)
    if not isinstance(made, type):
        raise RuntimeError("the file has no class Action")
    for method in ("start", "stop", "ban", "reban", "unban"):
        if not callable(getattr(made, method, None)):
            raise RuntimeError("its class Action has no method %s" % method)
    return made(Jail(request["jail"], request["bantime"]), request["name"], **request["args"])


def main():
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    action = None
    while True:
        request = hear()
        do = request["do"]
        try:
            value = None
            if do == "load":
                action = load(request)
                value = {
                    "norestored": bool(getattr(action, "norestored", False)),
                    "flush": callable(getattr(action, "flush", None)) and bool(getattr(action, "actionflush", True)),
                    "prolong": callable(getattr(action, "prolong", None)) and bool(getattr(action, "_prolongable", True)),
                }
            elif "keys" in request:
                getattr(action, do)(Info(request["keys"]))
            else:
                getattr(action, do)()
        except Exception as err:
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
            say({"error": "%s: %s" % (type(err).__name__, err)})
        else:
            say({"value": value})


main()
