# torbox: `make demo` shows it, `make test` proves it. Both install what they need (Debian) and build.
.DELETE_ON_ERROR:
.PHONY: all build programs deps test test-arm64 demo bench unopened trace fuzz cargo-fuzz check check-platforms dist-platforms lint clean install install-built uninstall deb deb-built dist dist-built manifests

CARGO   ?= cargo
TRIPLE  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET  := target
LIBEXEC := $(TARGET)/libexec/torbox
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)
PREFIX  ?= /usr/local
KERNEL  := out/kernel
TRIXIE  := out/trixie
COMPOSE := out/podman-compose
DEBIAN  := out/debian
ARM64   := out/arm64
CROSS   := aarch64-unknown-linux-gnu
SNOWFLAKE := out/snowflake
DIST    ?= out/dist
# How hard to compress them.
LEVEL   ?= 6
SUMS    := cd $(DIST) && sha256sum -- *.deb *.tar.xz *.tar.gz *.zip 2>/dev/null > SHA256SUMS || true
# Where zsh looks for what was not packaged; Debian's packages have a place of their own.
ZSH     ?= site-functions

# Debian packages: to build; to run a box as a user; the private Tor network and displays of the tests.
PACKAGES := gcc libc6-dev make pkg-config uidmap iproute2 tor obfs4proxy xvfb xauth weston sway grim socat curl strace busybox-static bubblewrap tesseract-ocr \
            debian-archive-keyring ca-certificates util-linux procps passwd gpgv skopeo umoci podman python3-jsonschema libglib2.0-bin x11-utils x11-xkb-utils xz-utils git \
            torsocks python3-stem nyx g++ qemu-system-x86 e2fsprogs mmdebstrap docker.io docker-registry rootlesskit slirp4netns runc docker-compose podman-compose catatonit \
            python3-yaml ruby desktop-file-utils appstream zenity man-db zsh fish lintian firefox-esr microsocks tinyproxy-bin \
            golang-go golang-snowflake-dev dnsmasq-base openssl
# Docker's client, where it is a package of its own.
PACKAGES += $(shell apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli)

all: build

deps:
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing:" $$missing; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

# The programs that go into the images are static: they run in a root file system that need not have their libraries.
programs: deps
	@RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --profile dist --locked --target $(TRIPLE) -p torbox-init -p torbox-gate -p torbox-display
	@install -D -m 755 $(TARGET)/$(TRIPLE)/dist/torbox-init $(LIBEXEC)/init
	@install -D -m 755 $(TARGET)/$(TRIPLE)/dist/torbox-gate $(LIBEXEC)/gate
	@install -D -m 755 $(TARGET)/$(TRIPLE)/dist/torbox-display $(LIBEXEC)/display

build: programs
	@$(CARGO) build --release --locked --workspace

demo: build
	@$(SUDO) $(TARGET)/release/torbox-demo

# What is unpacked for the tests, anew whenever this file changes.

# A current kernel for the virtual machine of the tests, Debian's for clouds, and what compiles AppArmor's profiles for it: unpacked and not installed.
$(KERNEL): Makefile | deps
	@mkdir -p $(@D) && rm -rf $@.new && mmdebstrap --quiet --mode=root --variant=extract --include=apparmor,linux-image-cloud-amd64 trixie $@.new
	@rm -rf $@ && mv $@.new $@ && touch $@

# A root file system with current compositors and sound servers, whatever this machine's are. Packages are unpacked and no more: what their scripts would do is done here.
$(TRIXIE): Makefile | deps
	@mkdir -p $(@D) && rm -rf $@.new && mmdebstrap --quiet --mode=root --variant=extract \
	  --include=sway,util-linux,mutter,kwin-wayland,dbus-daemon,libgl1-mesa-dri,libegl-mesa0,libgles2,dash,pulseaudio,pulseaudio-utils,pipewire,pipewire-pulse,wireplumber trixie $@.new
	@touch $@.new/etc/passwd && $$(ls /usr/lib/*/glib-2.0/glib-compile-schemas | head -n 1) $@.new/usr/share/glib-2.0/schemas
	@rm -rf $@ && mv $@.new $@ && touch $@

# A Debian as it is after its installation, to install torbox's package in, with what a desktop brings to start programs and to show windows: a session bus, a window manager.
$(DEBIAN): Makefile | deps
	@mkdir -p $(@D) && rm -rf $@.new && mmdebstrap --quiet --mode=root --variant=minbase --include=uidmap,libgtk-3-bin,zenity,desktop-file-utils,dbus-daemon,openbox,xdg-utils trixie $@.new
	@rm -rf $@ && mv $@.new $@ && touch $@

# A current podman-compose, whatever this machine's is: before 1.0.4 it gives every container a network.
$(COMPOSE): Makefile | deps
	@mkdir -p $(@D) && rm -rf $@.new && mmdebstrap --quiet --mode=root --variant=custom \
	  --customize-hook='cd "$$1" && APT_CONFIG=$$MMDEBSTRAP_APT_CONFIG apt-get download -qq -o APT::Sandbox::User=root podman-compose && dpkg-deb -x podman-compose_*.deb .' trixie $@.new
	@rm -rf $@ && mv $@.new $@ && touch $@

# What a private Snowflake has beside its bridge, and a bridge's end of meek. Debian has no broker and no bridge's ends, which are the tests' own, made of its library; the proxy is
# Snowflake's, built here because its package would start one for everybody.
$(SNOWFLAKE): Makefile tests/snowflake/main.go tests/snowflake/meek.go | deps
	@mkdir -p $(@D) && rm -rf $@.new && export CGO_ENABLED=0 GO111MODULE=off GOFLAGS= GOPATH=/usr/share/gocode && go build -o $@.new/ends tests/snowflake/*.go && \
	  go build -o $@.new/proxy git.torproject.org/pluggable-transports/snowflake.git/proxy
	@rm -rf $@ && mv $@.new $@ && touch $@

test: build cargo-fuzz $(KERNEL) $(TRIXIE) $(DEBIAN) $(COMPOSE) $(SNOWFLAKE)
	@$(CARGO) test --release --locked --workspace --no-run
	@$(SUDO) env "PATH=$$PATH:$$HOME/.cargo/bin" "HOME=$$HOME" TORBOX_MUST_WORK=1 tests/run

# An unpacked Debian for AArch64, with a kernel.
$(ARM64): Makefile | deps
	@mkdir -p $(@D) && rm -rf $@.new && mmdebstrap --quiet --mode=root --variant=extract --architectures=arm64 \
	  --include=linux-image-cloud-arm64,busybox-static,uidmap,util-linux,procps,libc6,libgcc-s1 trixie $@.new
	@rm -rf $@ && mv $@.new $@ && touch $@

# torbox on AArch64, in an emulated machine. Compiling for it takes longer than all else, so `make test` does without.
test-arm64: PACKAGES += gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm
test-arm64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = aarch64-linux-gnu-gcc
test-arm64: build $(ARM64)
	@rustup target add $(CROSS)
	@RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --profile dist --locked --target $(CROSS) -p torbox-init -p torbox-gate -p torbox-display
	@$(CARGO) build --release --locked --target $(CROSS) -p torbox
	@install -D $(TARGET)/$(CROSS)/release/torbox $(ARM64)-torbox/torbox
	@for program in init gate display; do install -D $(TARGET)/$(CROSS)/dist/torbox-$$program $(ARM64)-torbox/$$program || exit 1; done
	@TORBOX_LIBEXEC=$(ARM64)-torbox $(TARGET)/release/torbox --dir $(ARM64)-torbox/images build --arch arm64 --browser firefox-esr
	@$(CARGO) test --release --locked -p torbox-tests --test arm64 --no-run
	@$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" TORBOX_MUST_WORK=1 $(CARGO) test --release --locked -p torbox-tests --test arm64 -- --ignored

bench: PACKAGES += systemd
bench: build $(TRIXIE)
	@$(SUDO) $(TARGET)/release/torbox-bench
	@$(SUDO) $(TARGET)/release/torbox-bench-images
	@$(CARGO) bench --locked -p torbox-gate --bench relay

# What lies in the images and is never opened.
unopened: build
	@$(SUDO) $(TARGET)/release/torbox-unopened

# Which system calls the programs of a box make, and which of them their profiles lack or nobody makes: docs/calls.md, and the difference to what was there.
trace: build
	@$(SUDO) $(TARGET)/release/torbox-trace > out/calls.md; done=$$?; test ! -s out/calls.md || cp out/calls.md docs/calls.md; git --no-pager diff -- docs/calls.md; exit $$done

# Each fuzz target for ten minutes; `make test` runs it for one.
fuzz: deps cargo-fuzz
	@export RUSTC_BOOTSTRAP=1; for dir in runtime/*/fuzz images/fuzz; do cd $(CURDIR)/$$dir && for target in $$($(CARGO) fuzz list); do \
	  $(CARGO) fuzz run $$target -- -max_total_time=600 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 || exit 1; done; done

cargo-fuzz: deps
	@command -v cargo-fuzz >/dev/null || test -x "$$HOME/.cargo/bin/cargo-fuzz" || $(CARGO) install --locked --quiet cargo-fuzz

lint:
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

check: lint
	@command -v cargo-deny >/dev/null && $(CARGO) deny check || echo "cargo-deny is not installed: advisories, licences and sources were not checked"

# The systems on which engines live in a virtual machine, and torbox is their client: `check-platforms` has the compiler and clippy read all that runs there,
# `dist-platforms` links it. zig is the C compiler and the linker for both, and brings what has to be linked: no SDK is needed.
WINDOWS := x86_64-pc-windows-gnu
MACOS   := aarch64-apple-darwin
ZIG     := out/zig
ZIGGED  := PATH="$(CURDIR)/$(ZIG)/bin:$$PATH" $(ZIG)/bin/cargo-zigbuild

$(ZIG): Makefile | deps
	@mkdir -p $(@D) && rm -rf $@ && python3 -m venv $@ && $@/bin/pip install --quiet --disable-pip-version-check ziglang==0.13.0 cargo-zigbuild==0.24.1 && touch $@

check-platforms dist-platforms: PACKAGES += python3-venv
check-platforms: deps
	@$(MAKE) --no-print-directory $(ZIG) || { echo "zig cannot be installed from PyPI here, and nothing was checked"; exit 0; }; \
	for target in $(WINDOWS) $(MACOS); do \
	  if timeout 300 rustup target add $$target >/dev/null 2>&1; then $(ZIGGED) clippy --release --locked --target $$target -p torbox -p torbox-images -p torbox-backend -p torbox-plan -- -D warnings || exit 1; \
	    echo "$$target: torbox, torbox-images, torbox-backend and torbox-plan compile (no native backend and no display server there); the programs of the images are Linux's"; \
	  else echo "$$target: the target cannot be installed here, and nothing was checked for it"; fi; done

# torbox for Windows and for macOS, each with the programs of the images for the Linux in the engine's machine: in out/dist.
dist-platforms: programs $(ZIG)
	@timeout 300 rustup target add $(WINDOWS) $(MACOS) aarch64-unknown-linux-musl >/dev/null
	@$(ZIGGED) zigbuild --release --locked --target $(WINDOWS) -p torbox
	@$(ZIGGED) zigbuild --release --locked --target $(MACOS) -p torbox
	@RUSTFLAGS="-C target-feature=+crt-static" $(ZIGGED) zigbuild --profile dist --locked --target aarch64-unknown-linux-musl -p torbox-init -p torbox-gate -p torbox-display
	@for program in init gate display; do install -D -m 755 $(TARGET)/aarch64-unknown-linux-musl/dist/torbox-$$program $(TARGET)/libexec-aarch64/torbox/$$program || exit 1; done
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1); mkdir -p $(DIST); \
	pack() { name=torbox-$$version-$$1; rm -rf out/platform && install -D -m 755 $$2 out/platform/$$name/bin/$$(basename $$2) && install -D -m 755 -t out/platform/$$name/libexec/torbox $$3/init $$3/gate $$3/display && \
	  cp README.md CHANGELOG.md SECURITY.md LICENSE-* out/platform/$$name && shift 3 && "$$@" && rm -rf out/platform; }; \
	zipped() { ( cd out/platform && python3 -m zipfile -c $(abspath $(DIST))/$$name.zip $$name ) && echo $(DIST)/$$name.zip; }; \
	tarred() { tar -C out/platform --sort=name --owner=0 --group=0 --numeric-owner -czf $(DIST)/$$name.tar.gz $$name && echo $(DIST)/$$name.tar.gz; }; \
	pack $(WINDOWS) $(TARGET)/$(WINDOWS)/release/torbox.exe $(LIBEXEC) zipped && pack $(MACOS) $(TARGET)/$(MACOS)/release/torbox $(TARGET)/libexec-aarch64/torbox tarred
	@$(SUMS)

install: build install-built

# What was built, to where it belongs.
SHARE := $(DESTDIR)$(PREFIX)/share
install-built:
	install -D -m 755 -s $(TARGET)/release/torbox $(DESTDIR)$(PREFIX)/bin/torbox
	for program in init gate display; do install -D -m 755 $(LIBEXEC)/$$program $(DESTDIR)$(PREFIX)/libexec/torbox/$$program || exit 1; done
	$(TARGET)/release/torbox man $(SHARE)/man/man1
	$(TARGET)/release/torbox desktop install --share $(SHARE) --program $(PREFIX)/bin/torbox
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/$(ZSH) $(SHARE)/fish/vendor_completions.d
	$(TARGET)/release/torbox completions bash > $(SHARE)/bash-completion/completions/torbox
	$(TARGET)/release/torbox completions zsh > $(SHARE)/zsh/$(ZSH)/_torbox
	$(TARGET)/release/torbox completions fish > $(SHARE)/fish/vendor_completions.d/torbox.fish

# What `install` put there, and nothing else: what a user keeps stays.
uninstall:
	test ! -x $(DESTDIR)$(PREFIX)/bin/torbox || $(DESTDIR)$(PREFIX)/bin/torbox desktop remove --share $(SHARE)
	rm -f $(DESTDIR)$(PREFIX)/bin/torbox $(SHARE)/man/man1/torbox.1 $(SHARE)/man/man1/torbox-*.1
	rm -f $(SHARE)/bash-completion/completions/torbox $(SHARE)/zsh/$(ZSH)/_torbox $(SHARE)/fish/vendor_completions.d/torbox.fish
	rm -rf $(DESTDIR)$(PREFIX)/libexec/torbox

# A Debian package, and a tarball that runs from wherever it is unpacked; with their checksums in out/dist.
deb: build deb-built
deb-built:
	@rm -rf out/deb && $(MAKE) --no-print-directory install-built DESTDIR=$(CURDIR)/out/deb PREFIX=/usr ZSH=vendor-completions >/dev/null
	@LEVEL=$(LEVEL) packaging/deb out/deb $(DIST) && $(SUMS)

dist: build dist-built
dist-built: NAME = torbox-$(shell $(TARGET)/release/torbox --version | cut -d' ' -f2)-$(TRIPLE)
dist-built:
	@rm -rf out/tarball && $(MAKE) --no-print-directory install-built DESTDIR=$(CURDIR)/out/tarball PREFIX=/$(NAME) >/dev/null
	@rm -r out/tarball/$(NAME)/share/applications && cp README.md CHANGELOG.md SECURITY.md LICENSE-* out/tarball/$(NAME)
	@mkdir -p $(DIST) && tar -C out/tarball --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md) -c -I 'xz -$(LEVEL)' -f $(DIST)/$(NAME).tar.xz $(NAME) && $(SUMS)

# For Homebrew and winget, of what `dist` made: make manifests URL=https://... HOMEPAGE=https://... (docs/releasing.md).
manifests:
	@packaging/manifests $(DIST) "$$($(TARGET)/release/torbox --version | cut -d' ' -f2)" "$(URL)" "$(HOMEPAGE)"

clean:
	$(CARGO) clean
	rm -rf out
