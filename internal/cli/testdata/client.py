# Runs the peer's own client, each time in a process of its own that has its modules
# already: the command lines come in as JSON, a line each, and what was printed goes out.
import importlib, json, os, pkgutil, runpy, sys, tempfile

import fail2ban.client

program = sys.argv[1]
for module in pkgutil.iter_modules(fail2ban.client.__path__):
    importlib.import_module("fail2ban.client." + module.name)

for line in sys.stdin:
    words = json.loads(line)
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = ["fail2ban-client"] + words
            try:
                runpy.run_path(program, run_name="__main__")
                code = 0
            except SystemExit as e:
                code = e.code or 0
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    texts = []
    for f in (out, err):
        f.seek(0)
        texts.append(f.read().decode("utf-8", "replace"))
    sys.stdout.write(json.dumps({"out": texts[0], "err": texts[1], "code": os.waitstatus_to_exitcode(status)}) + "\n")
    sys.stdout.flush()
