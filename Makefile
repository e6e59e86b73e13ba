# What can be done with this tree. Each target sets up what it needs.

GO       ?= go
BIN      := bin/bantam
LDFLAGS  := -s -w
FUZZTIME ?= 10s

# Pinned: an upgrade is a commit of its own.
GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build demo test test-long test-differential lint fuzz bench pgo bench-daemon bench-detect bench-hostile deb rpm man completions dist clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -tags gomailnotpl -ldflags "$(LDFLAGS)" -o $(BIN) ./cmd/bantam

# A ban from the log line to the dropped packet, in a private network.
demo: build
	@$(GO) run ./test/demo -bantam $(BIN)

test: packages
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./... # ./test alone takes five minutes of two cores
	$(GO) test ./bench/hostile # more lines than the race detector has time for

# The proofs of the whole daemon in full size: ten minutes.
test-long: packages
	BANTAM_LONG=1 $(GO) test -v -timeout 1h -run 'TestNoPacketOfABannedAddressPasses|TestADayOfLife' ./test

# Packages for amd64 and arm64, or for ARCHS; what is in them, for those who make their own.
deb rpm:
	GO=$(GO) packaging/build $@ dist
man completions:
	GO=$(GO) packaging/build stage dist
dist: deb rpm

# The programs that tests use as peers and witnesses, where apt-get can install them.
PEERS := nft:nftables ipset:ipset iptables:iptables ip:iproute2 python3:python3 \
	/lib/systemd/systemd-journal-remote:systemd-journal-remote journalctl:systemd cc:gcc \
	xz:xz-utils zstd:zstd mmdebstrap:mmdebstrap lintian:lintian rpm:rpm man:man-db
.PHONY: packages
packages:
	@missing=; for p in $(PEERS); do command -v "$${p%%:*}" >/dev/null || missing="$$missing $${p##*:}"; done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
		else echo "not installed, so some tests will be skipped:$$missing"; fi; \
	fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-cache >/dev/null && ! apt-cache show fail2ban >/dev/null 2>&1; then apt-get update -qq; fi # whose filters are tried

lint:
	@unformatted=$$($(GO) run $(GOFUMPT) -l .); if [ -n "$$unformatted" ]; then echo "not in gofumpt's form:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Every fuzz target of every package, FUZZTIME each: 30s, or 50000x for so many inputs.
fuzz:
	@$(GO) list ./... | while read -r pkg; do \
		dir=$$($(GO) list -f '{{.Dir}}' $$pkg); \
		grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go 2>/dev/null | sed 's/^func //' | while read -r target; do \
			echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
		done || exit 1; \
	done

# Random histories judged by Fail2Ban and by Bantam; HISTORIES of them, 50 at a time.
HISTORIES ?= 500
test-differential: packages
	BANTAM_NEED_PEERS=1 $(GO) test ./test -run TestTheOriginalsDecisions -histories $(HISTORIES) -timeout 60m -v

# The benchmarks beside the code; bench/README.md says how each figure is made.
bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# What the compiler is told of where the time goes: after a change of the engine, and before a figure.
pgo:
	$(GO) test -run '^$$' -bench BenchmarkRegex -benchtime 5x -cpu 1 -cpuprofile cmd/bantam/default.pgo -o $$(mktemp) ./internal/cli

# The daemon from outside, beside Fail2Ban's Debian package; needs root.
bench-daemon: build
	bench/daemon.sh

# Detection beside fail2ban-regex, ripgrep and sshguard. BENCH_DIR keeps logs and peer.
bench-detect: build
	bench/detect.py

# Lines made to make the engine slow, so many for each stock pattern: 10,000 take half an hour.
HOSTILE ?= 10000
bench-hostile:
	$(GO) test -run TestTime -v -timeout 3h ./bench/hostile -hostile.lines=$(HOSTILE)

clean:
	rm -rf bin dist tmp
