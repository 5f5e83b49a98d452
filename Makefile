# torbox: `make demo` shows it, `make test` proves it. Both install what they need (Debian) and build.
.DELETE_ON_ERROR:
.PHONY: all build programs deps test demo bench check lint clean install

CARGO   ?= cargo
TRIPLE  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET  := target
LIBEXEC := $(TARGET)/libexec/torbox
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)
PREFIX  ?= /usr/local

# Debian packages: to build; to run a box as a user; the private Tor network and displays of the tests.
PACKAGES := gcc libc6-dev make pkg-config uidmap iproute2 tor xvfb xauth weston socat curl strace busybox-static bubblewrap tesseract-ocr \
            debian-archive-keyring ca-certificates util-linux procps passwd gpgv skopeo libglib2.0-bin x11-utils xz-utils git

all: build

deps:
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing:" $$missing; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

# The programs that go into the images are static: they run in a root file system that need not have their libraries.
programs: deps
	@RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --locked --target $(TRIPLE) -p torbox-init -p torbox-gate
	@install -D -m 755 $(TARGET)/$(TRIPLE)/release/torbox-init $(LIBEXEC)/init
	@install -D -m 755 $(TARGET)/$(TRIPLE)/release/torbox-gate $(LIBEXEC)/gate

build: programs
	@$(CARGO) build --release --locked -p torbox -p torbox-tests

demo: build
	@$(SUDO) $(TARGET)/release/torbox-demo

test: build
	@$(CARGO) test --release --locked --workspace --no-run
	@$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" TORBOX_MUST_WORK=1 tests/run

bench: build
	@$(SUDO) $(TARGET)/release/torbox-bench

lint:
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

check: lint
	@command -v cargo-deny >/dev/null && $(CARGO) deny check || echo "cargo-deny is not installed: advisories, licences and sources were not checked"

install: build
	install -D -m 755 $(TARGET)/release/torbox $(DESTDIR)$(PREFIX)/bin/torbox
	install -D -m 755 $(LIBEXEC)/init $(DESTDIR)$(PREFIX)/libexec/torbox/init
	install -D -m 755 $(LIBEXEC)/gate $(DESTDIR)$(PREFIX)/libexec/torbox/gate

clean:
	$(CARGO) clean
	rm -rf out
