"""Prints what Python's re answers to patterns and texts, one JSON object a line.

Usage: python3 record.py SEED PATTERNS TEXTS    random ones
       python3 record.py -                      those on standard input:
                                                {"p": pattern, "f": flags, "t": [text in hex, ...]}
       python3 record.py characters             what \\w, \\d and \\s hold, and cases

    {"p": pattern, "f": flags, "e": message, "at": position}       when it is refused
    {"p": pattern, "f": flags, "t": [[text in hex, search, match], ...]}

search and match are the spans of all groups in bytes, -1 for one that took no part,
or null for no match. What Python cannot answer within a second is left out.

Groups inside a possessive repeat are not made: Python 3.11 mixes up their spans
(python/cpython#101955), or says so itself by a SystemError.
"""

import json
import random
import re
import signal
import sys
import warnings

warnings.simplefilter("ignore")

CHARS = list("aaabbbcAB01_ -.\n") + list("éÉ٣中ſKİı\u2028\u00a0\x1d\ufffdß😀µς")
BAD = [b"\xff", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\x80", b"\xed\xa0\x80", b"\xf0\x80", b"\xe0\x9f\xbf"]
CLASSES = ["\\d", "\\w", "\\s", "\\D", "\\W", "\\S"]


class Maker:
    """Makes one pattern that may use every construct."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.groups = 0
        self.names = []
        self.fixed = 0  # inside a look-behind: everything has one width
        self.final = 0  # inside a possessive repeat: no groups

    def char(self):
        c = self.rnd.choice(CHARS)
        if c == "\n":
            return self.rnd.choice(["\\n", "\n"])
        return re.escape(c) if self.rnd.random() < 0.7 or c in ".-" else c

    def set(self):
        rnd, items = self.rnd, []
        for _ in range(rnd.randint(1, 3)):
            k = rnd.random()
            if k < 0.3:
                a, b = sorted(rnd.choice("abcABC012Éé中ſKİµ") for _ in "12")
                items.append(a + "-" + b)
            elif k < 0.5:
                items.append(rnd.choice(CLASSES + ["\\b", "\\x41", "\\101", "\\u0130", "-", "\\]", "["]))
            else:
                items.append(self.char())
        return "[" + rnd.choice(["", "", "^"]) + "".join(items) + "]"

    def one(self):
        k = self.rnd.random()
        if k < 0.55:
            return self.char()
        if k < 0.7:
            return "."
        if k < 0.85:
            return self.rnd.choice(CLASSES)
        return self.set()

    def quantifier(self):
        rnd = self.rnd
        q = rnd.choice(["*", "+", "?", "{2}", "{0}", "{1,2}", "{,2}", "{1,}", "{,}", "{2,3}", "{0,1}"])
        return q + rnd.choice(["", "", "", "?", "+"])

    def group(self, depth):
        rnd = self.rnd
        k = rnd.random()
        if k < 0.3:
            return "(?:" + self.alternatives(depth + 1) + ")"
        if k < 0.65 and not self.final:
            self.groups += 1
            name = "n%d" % self.groups
            named = rnd.random() < 0.4
            inner = self.alternatives(depth + 1)
            if named:
                self.names.append(name)
                return "(?P<%s>%s)" % (name, inner)
            return "(" + inner + ")"
        if k < 0.72:
            return rnd.choice(["(?=", "(?!", "(?!"]) + self.alternatives(depth + 1) + ")"
        if k < 0.8:
            self.fixed += 1
            inner = self.alternatives(depth + 1)
            self.fixed -= 1
            return rnd.choice(["(?<=", "(?<!"]) + inner + ")"
        if k < 0.85:
            return "(?>" + self.alternatives(depth + 1) + ")"
        if k < 0.9:
            flags = rnd.choice(["i", "s", "m", "x", "a", "u", "-i", "i-s", "im-sx", "-m"])
            return "(?%s:%s)" % (flags, self.alternatives(depth + 1))
        if k < 0.95 and self.groups:
            return "(?(%s)%s%s)" % (self.reference(), self.sequence(depth + 1), rnd.choice(["", "|" + self.sequence(depth + 1)]))
        if self.groups:
            name = self.reference()
            return "\\%s" % name if name.isdigit() else "(?P=%s)" % name
        return "(?#x)"

    def reference(self):
        if self.names and self.rnd.random() < 0.5:
            return self.rnd.choice(self.names)
        return str(self.rnd.randint(1, max(1, self.groups)))

    def part(self, depth):
        rnd = self.rnd
        if rnd.random() < 0.08:
            return rnd.choice(["^", "$", "\\b", "\\B", "\\A", "\\Z"])
        quantified = not self.fixed and rnd.random() < 0.35
        q = self.quantifier() if quantified else ""
        if self.fixed and rnd.random() < 0.1:
            q = rnd.choice(["{2}", "{0}", "?"])
        possessive = q.endswith("+") and len(q) > 1
        self.final += possessive
        body = self.group(depth) if depth < 3 and rnd.random() < 0.3 else self.one()
        self.final -= possessive
        return body + q

    def sequence(self, depth):
        return "".join(self.part(depth) for _ in range(self.rnd.choice([0, 1, 1, 2, 2, 3])))

    def alternatives(self, depth):
        return "|".join(self.sequence(depth) for _ in range(self.rnd.choice([1, 1, 1, 2, 3])))

    def pattern(self):
        p = self.alternatives(0)
        if self.rnd.random() < 0.1:
            p = "(?%s)" % self.rnd.choice(["i", "m", "s", "x", "a", "ix", "L", "au"]) + p
        if self.rnd.random() < 0.08 and p:  # something is wrong with it
            i = self.rnd.randrange(len(p))
            p = p[:i] + self.rnd.choice(["", "(", ")", "[", "]", "{", "\\", "*", "(?", "?", "|", "(?P<"]) + p[i + self.rnd.randint(0, 1):]
        return p


def text(rnd):
    b = b""
    for _ in range(rnd.choice([0, 1, 2, 3, 5, 8, 12])):
        b += rnd.choice(BAD) if rnd.random() < 0.1 else rnd.choice(CHARS).encode()
    return b + rnd.choice([b"", b"", b"\n"])


def decode(b):
    """The text of b and, for each of its characters and the end, the byte it begins at."""
    s, at, i = b.decode(errors="replace"), [], 0
    for c in s:
        at.append(i)
        n = len(c.encode())
        if c == "\ufffd" and b[i:i + 3] != b"\xef\xbf\xbd":
            n = 1  # as many bytes as are replaced by one character
            while i + n < len(b) and len(b[i:i + n + 1].decode(errors="replace")) == 1:
                n += 1
        i += n
    assert i == len(b), (b, i)
    return s, at + [i]


def spans(m, at):
    if m is None:
        return None
    out = []
    for g in range(m.re.groups + 1):
        lo, hi = m.span(g)
        out += [-1, -1] if lo < 0 else [at[lo], at[hi]]
    return out


class Slow(Exception):
    pass


def late(*_):
    raise Slow


def answer(pattern, flags, texts):
    out = {"p": pattern, "f": flags}
    try:
        compiled = re.compile(pattern, flags)
    except re.error as e:
        out["e"], out["at"] = e.msg, -1 if e.pos is None else e.pos
        return out
    except (RecursionError, OverflowError):
        return None
    except ValueError as e:
        out["e"], out["at"] = str(e), -1
        return out
    out["t"] = []
    for b in texts:
        s, at = decode(b)
        signal.setitimer(signal.ITIMER_REAL, 1)
        try:
            out["t"].append([b.hex(), spans(compiled.search(s), at), spans(compiled.match(s), at)])
        except (Slow, SystemError, RuntimeError):
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return out


def characters():
    """One line for each character that is of a class or has a case."""
    for i in range(128, sys.maxunicode + 1):
        c = chr(i)
        word, digit, space = (bool(re.match(k, c)) for k in ("\\w", "\\d", "\\s"))
        if word or digit or space:
            print(json.dumps([i, word, digit, space]))


def main():
    signal.signal(signal.SIGALRM, late)
    if sys.argv[1] == "characters":
        return characters()
    if sys.argv[1] == "-":
        for line in sys.stdin:
            q = json.loads(line)
            a = answer(q["p"], q["f"], [bytes.fromhex(t) for t in q["t"]])
            if a:
                print(json.dumps(a))
        return
    rnd = random.Random(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        flags = 0
        for f in (re.I, re.M, re.S, re.X, re.A):
            if rnd.random() < 0.12:
                flags |= int(f)
        a = answer(Maker(rnd).pattern(), flags, [text(rnd) for _ in range(int(sys.argv[3]))])
        if a:
            print(json.dumps(a))


main()
