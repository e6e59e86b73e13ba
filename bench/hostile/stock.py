#!/usr/bin/env python3
"""Prints every pattern that a Fail2Ban tree compiles, with what its lines are made of.

    stock.py TREE
    stock.py -

TREE is an unpacked package. Each filter is read in each mode it has and for each way a log
is kept, by the tree's own library; patterns that come twice are printed once. With - the
patterns are read from standard input, as JSON objects without samples. A line of the output
is a JSON object:

    filter, options   where the pattern was met first
    kind, number      prefregex, failregex, ignoreregex or date, counted from 1 on
    pattern, flags    as Python compiles it; flags are letters of (?imsxa)
    samples           texts the pattern is likely to match, in parts: a string, or, where the
                      pattern has a loop, {"least": N, "pump": [TEXT, ...]}: texts of which the
                      loop takes any number, but at least N

The samples are drawn by chance, always the same for a pattern.
"""

import json
import logging
import os
import random
import re
import sys
import zlib

try:
    import re._compiler as compiler
    import re._constants as op
    import re._parser as parser
except ImportError:  # before Python 3.11
    import sre_compile as compiler
    import sre_constants as op
    import sre_parse as parser

SAMPLES, PUMPS, LOOP = 6, 10, 16  # a repeat of so many is a loop
LOGTYPES = ("file", "short", "journal", "rfc5424")
ALPHABET = [chr(c) for c in range(32, 127)] + ["\t", "\u00e9", "\u0663", "\u4e2d", "\n"]
COMMON = "a1 .:-x/"  # what loops beside each other are likely to share


class Sampler:
    """Draws texts for one pattern."""

    def __init__(self, pattern, flags):
        self.rng = random.Random(zlib.crc32(pattern.encode("utf-8", "replace")))
        self.tree = parser.parse(pattern, flags)
        self.groups, self.accepted = {}, {}

    def sample(self):
        self.groups = {}
        parts = self.walk(self.tree)
        for index, part in enumerate(parts):  # what follows a loop may begin inside of it
            rest = flat(parts[index + 1:])
            if isinstance(part, dict) and part.pop("single") and rest:
                cut = self.rng.randrange(1, 1 + min(len(rest), 40))
                part["pump"].append(rest[:cut])
        return joined(parts)

    def walk(self, items):
        parts = []
        for kind, value in items:
            parts += self.item(kind, value)
        return parts

    def item(self, kind, value):
        rng = self.rng
        if kind is op.LITERAL:
            return [chr(value)]
        if kind in (op.NOT_LITERAL, op.ANY, op.IN):
            return [rng.choice(self.accepts(kind, value) or ["a"])]
        if kind is op.BRANCH:
            return self.walk(rng.choice(value[1]))
        if kind is op.SUBPATTERN:
            parts = self.walk(value[3])
            self.groups[value[0]] = flat(parts)
            return parts
        if kind is op.ASSERT:  # ahead: it is not taken, but likely what follows
            return []
        if kind in (op.ASSERT_NOT, op.AT):
            return []
        if kind is op.GROUPREF:
            return [self.groups.get(value, "")]
        if kind is op.GROUPREF_EXISTS:
            group, yes, no = value
            return self.walk((yes if group in self.groups else no) or [])
        if kind is getattr(op, "ATOMIC_GROUP", None):
            return self.walk(value)
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, getattr(op, "POSSESSIVE_REPEAT", None)):
            return self.repeat(*value)
        raise ValueError(f"construct not known: {kind}")

    def repeat(self, least, most, body):
        rng = self.rng
        if most < LOOP:
            parts = []
            for _ in range(rng.randint(least, min(most, least + 2))):
                parts += self.walk(body)
            return parts
        single = len(body) == 1 and body[0][0] in (op.NOT_LITERAL, op.ANY, op.IN)
        pump = []
        if single:
            accepted = self.accepts(*body[0])
            pump = [c for c in COMMON if c in accepted][:PUMPS // 2]
            pump += rng.sample(accepted, min(3, len(accepted)))
        while len(pump) < PUMPS - 1:
            text = flat(self.walk(body), rng.randint(1, 3))
            pump.append(text if not single else text * rng.randint(1, 3))
        pump = list(dict.fromkeys(p for p in pump if p)) or ["a"]
        return [{"least": int(least), "pump": pump, "single": single}]

    def accepts(self, kind, value):
        """The characters that one item takes."""
        key = (kind, repr(value))
        if key not in self.accepted:
            one = parser.SubPattern(self.tree.state, [(kind, value)])
            match = compiler.compile(one, self.tree.state.flags).fullmatch
            self.accepted[key] = [c for c in ALPHABET if match(c)]
        return self.accepted[key]


def flat(parts, times=1):
    """Parts as one text, each loop taken so often, or as often as it must."""
    return "".join(p if isinstance(p, str) else p["pump"][0] * max(times, p["least"])
                   for p in parts)


def joined(parts):
    """The same parts with neighbouring texts as one."""
    out = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return out


def compiled(thing):
    """The compiled expressions that an object of the tree's library holds."""
    return [v for v in vars(thing).values() if isinstance(v, re.Pattern)]


def patterns(config, name, options):
    """(kind, number, compiled expression) of a filter."""
    from fail2ban.client.filterreader import FilterReader
    from fail2ban.server.filter import Filter

    reader = FilterReader(name, "stock", dict(options), basedir=config, share_config={})
    if not reader.read():
        return
    reader.getOptions({})
    engine = Filter(None)
    dates = None
    for command in reader.convert():
        values = command[3] if command[0] == "multi-set" else [command[3]]
        for value in values:
            if command[2] == "maxlines":
                engine.setMaxLines(value)
            elif command[2] == "prefregex":
                engine.prefRegex = value
            elif command[2] == "addfailregex":
                engine.addFailRegex(value)
            elif command[2] == "addignoreregex":
                engine.addIgnoreRegex(value)
            elif command[2] == "datepattern":
                dates = value
    held = vars(engine)
    if held["_Filter__prefRegex"]:
        for pattern in compiled(held["_Filter__prefRegex"]):
            yield "prefregex", 1, pattern
    for kind, key in (("failregex", "_Filter__failRegex"), ("ignoreregex", "_Filter__ignoreRegex")):
        for number, regex in enumerate(held[key], 1):
            for pattern in compiled(regex):
                yield kind, number, pattern
    if dates:
        engine.setDatePattern(dates)
    else:
        engine.dateDetector.addDefaultTemplate()
    for number, template in enumerate(engine.dateDetector.templates if engine.dateDetector else (), 1):
        template = getattr(template, "template", template)
        if template.regex:
            template.matchDate("")  # it compiles at first use
            for pattern in compiled(template):
                yield "date", number, pattern


def variants(config, name):
    """The sets of options under which a filter may differ."""
    from fail2ban.client.filterreader import FilterReader

    reader = FilterReader(name, "stock", {}, basedir=config, share_config={})
    if not reader.read():
        return
    keys = reader._cfg.options("Definition") if reader._cfg.has_section("Definition") else []
    modes = sorted(k[len("mdre-"):] for k in keys if k.startswith("mdre-")
                   and not k.endswith("-other"))
    for mode in [None, *modes]:
        for logtype in [None, *LOGTYPES]:
            yield {k: v for k, v in (("mode", mode), ("logtype", logtype)) if v}


def main():
    if len(sys.argv) != 2:
        sys.exit("stock.py takes the folder of an unpacked package, or - for patterns to read")
    if sys.argv[1] == "-":
        for line in sys.stdin:
            pattern = json.loads(line)
            flags = sum(getattr(re, letter.upper()) for letter in pattern["flags"])
            show(pattern, flags)
        return
    tree = os.path.abspath(sys.argv[1])
    library = os.path.join(tree, "usr", "lib", "python3", "dist-packages")
    sys.path.insert(0, library if os.path.isdir(library) else tree)
    sys.dont_write_bytecode = True
    logging.getLogger("fail2ban").setLevel(logging.CRITICAL + 1)
    config = os.path.join(tree, "etc", "fail2ban")
    config = config if os.path.isdir(config) else os.path.join(tree, "config")
    seen = set()
    for file in sorted(os.listdir(os.path.join(config, "filter.d"))):
        name, ext = os.path.splitext(file)
        if ext != ".conf":
            continue
        for options in variants(config, name):
            try:
                found = list(patterns(config, name, options))
            except Exception as problem:  # a file for others to include is no filter
                print(f"{name} {json.dumps(options)}: {problem!r}", file=sys.stderr)
                continue
            for kind, number, pattern in found:
                letters = "".join(letter for letter, flag in
                                  zip("imsxa", (re.I, re.M, re.S, re.X, re.A))
                                  if pattern.flags & flag)
                if (pattern.pattern, letters) in seen:
                    continue
                seen.add((pattern.pattern, letters))
                show({"filter": name, "options": options, "kind": kind, "number": number,
                      "pattern": pattern.pattern, "flags": letters}, pattern.flags & ~re.U)


def show(pattern, flags):
    """Prints a pattern with its samples."""
    sampler = Sampler(pattern["pattern"], flags)
    print(json.dumps(dict(pattern, samples=[sampler.sample() for _ in range(SAMPLES)])))


if __name__ == "__main__":
    main()
