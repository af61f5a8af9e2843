# Everything is done from here; `make help` lists the targets. No target but `install` writes outside of the target
# directory and the cache, but for what `fuzz` finds; `test` and `demo` also install the Debian packages that machines
# need (tests/bin/host-setup).

PREFIX ?= /usr
DESTDIR ?=
# Debian roots, wheels and tools of the tests. Safe to remove; then the next run fetches them again.
export VENVD_CACHE ?= /var/tmp/venvd

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
PACKAGES := venvctl venv-activate venvd-activator
BINARIES := venvctl venv-activate venvd-generator venvd

# Where venv-activate finds its files for shells; give PREFIX to `build` too, where it is another one.
export VENVD_SHARE := $(PREFIX)/share/venvd

# What venvctl writes about itself.
MANUAL := $(TARGET)/manual

VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
DEB_TREE := $(TARGET)/deb
DEB = $(TARGET)/venvd_$(VERSION)_$(shell dpkg --print-architecture).deb
# The same sources give the same package: dpkg-deb takes all of its times from here.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

SYSTEMD_UNITS := $(wildcard $(foreach kind,service path target socket timer,units/venvd*.$(kind)))
USER_UNITS := $(wildcard units/user/venvd*.service)
DBUS_POLICY := $(wildcard units/org.venvd1.conf)
POLKIT_POLICY := $(wildcard units/org.venvd1.policy)
DBUS_SERVICE := $(wildcard units/org.venvd1.service)

.PHONY: help build test nightly fuzz prepare lint demo bench install deb locks docs clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# Without the dynamic loader, whose work is most of what a generator costs that has nothing to do. Empty where the C
# library is there only as a shared one (Fedora: glibc-static has the other).
GENERATOR_FLAGS ?= -C target-feature=+crt-static

build: ## release builds of all programs
	$(CARGO) build --release --locked $(addprefix -p ,$(PACKAGES))
	$(CARGO) rustc --release --locked -p venvd-generator --bin venvd-generator -- $(GENERATOR_FLAGS)
	rm -rf $(MANUAL)
	$(RELEASE)/venvctl generate man $(MANUAL)/man --date "$$(date -u -d @$(SOURCE_DATE_EPOCH) +%F)"
	$(RELEASE)/venvctl generate completions $(MANUAL)/completions

# What tests and demo need beforehand. The machines install the package, so it comes first.
prepare: deb
	tests/bin/host-setup
	$(CARGO) run --locked -p venvd-tests --bin prepare

test: prepare ## all tests, also in machines; as root
	$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-nextest
	VENVD_DEB=$(abspath $(DEB)) VENVD_SYSTEMDS=2 VENVD_SUDOS=2 \
	    $(CARGO) nextest run --workspace --locked --no-fail-fast --config-file tests/nextest.toml

# The seed changes with the day, so that each night sees other units; a failure names its own.
nightly: prepare ## the long versions of tests: 10,000 units and policies, each kill point, 3,000 calls of sudo, 100 kills and power cuts in each state of an activation; UNITS=… POLICIES=… KILLS=… SEED=…
	VENVD_SYSTEMDS=2 VENVD_RANDOM_UNITS=$(or $(UNITS),10000) VENVD_RANDOM_SEED=$(or $(SEED),$(shell date -u +%Y%m%d)) \
	    $(CARGO) test --release --locked -p venvd-unit --test against_systemd
	VENVD_SUDOS=2 VENVD_RANDOM_POLICIES=$(or $(POLICIES),10000) VENVD_RANDOM_SEED=$(or $(SEED),$(shell date -u +%Y%m%d)) \
	    $(CARGO) test --release --locked -p venvd-policy --test properties
	VENVD_KILL_EVERY=1 $(CARGO) test --release --locked -p venvd-policy --test kill
	VENVD_DEB=$(abspath $(DEB)) VENVD_SUDO_CALLS=3000 VENVD_SUDO_ACTIVATIONS=50 \
	    $(CARGO) nextest run --locked -p venvd-tests --test transition --config-file tests/nextest.toml -E 'test(calls)'
	VENVD_DEB=$(abspath $(DEB)) VENVD_KILLS=$(or $(KILLS),100) \
	    $(CARGO) nextest run --locked -p venvd-tests --test activation --config-file tests/nextest.toml --profile nightly \
	    -E 'test(cut)'

# The stable compiler is enough; with an address sanitizer where it has one.
fuzz: ## every fuzz target in turn, each for SECONDS (60)
	crates/venvd-unit/fuzz/run $(or $(SECONDS),60)

demo: prepare ## the main job on a real service in a machine; DEMO_OS=13 for the newer Debian; as root
	VENVD_DEB=$(abspath $(DEB)) $(CARGO) run --locked -p venvd-tests --bin demo

# Release builds of both sides, and no other load on the machine, please.
bench: deb ## figures, as a table and in target/bench.json; ONLY=core for one group; as root
	$(CARGO) build --release --locked -p venvd-tests --bin bench
	VENVD_DEB=$(abspath $(DEB)) $(RELEASE)/bench --output $(TARGET)/bench.json --venvctl $(RELEASE)/venvctl \
	    --generator $(RELEASE)/venvd-generator $(if $(ONLY),--only $(ONLY))

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path crates/venvd-unit/fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# After `make build`, so that `sudo make install` needs no compiler.
install: ## below $(DESTDIR)$(PREFIX)
	@for binary in $(BINARIES); do \
	    test -x $(RELEASE)/$$binary || { echo "$(RELEASE)/$$binary is missing; run \`make build\` first" >&2; exit 1; }; \
	done
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(RELEASE)/venvctl $(RELEASE)/venv-activate
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/venvd $(RELEASE)/venvd
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/systemd/system-generators $(RELEASE)/venvd-generator
	install -D -m 644 units/venvd.tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/venvd.conf
	install -d -m 755 $(DESTDIR)$(PREFIX)/lib/systemd/user-generators
	ln -sf ../system-generators/venvd-generator $(DESTDIR)$(PREFIX)/lib/systemd/user-generators/venvd-generator
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(SYSTEMD_UNITS)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/user $(USER_UNITS)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog units/venvd.catalog
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dbus-1/services units/user/org.venvd1.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dbus-1/system.d $(DBUS_POLICY)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/dbus-1/system-services $(DBUS_SERVICE)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/polkit-1/actions $(POLKIT_POLICY)
	sed -i 's,/usr/\(lib/venvd\|bin\)/,$(PREFIX)/\1/,g' \
	    $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(notdir $(SYSTEMD_UNITS))) \
	    $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/user/,$(notdir $(USER_UNITS))) \
	    $(addprefix $(DESTDIR)$(PREFIX)/share/dbus-1/system-services/,$(notdir $(DBUS_SERVICE)))
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(MANUAL)/man/*.1 docs/man/*.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/*.8
	install -D -m 644 $(MANUAL)/completions/venvctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/venvctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(MANUAL)/completions/_venvctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(MANUAL)/completions/venvctl.fish
	install -D -m 644 crates/venv-activate/completions/venv-activate.bash \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/venv-activate
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions crates/venv-activate/completions/_venv-activate
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d \
	    crates/venv-activate/completions/venv-activate.fish
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/venvd/shell $(addprefix crates/venv-activate/shell/,bashrc config.fish)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/venvd/shell/zsh $(addprefix crates/venv-activate/shell/zsh/,.zshenv .zshrc)
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/venvd/README.md
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/venvd/docs $(wildcard docs/*.md)
	install -D -m 644 CHANGELOG.md $(DESTDIR)$(PREFIX)/share/doc/venvd/CHANGELOG.md
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/venvd/copyright

deb: build ## the Debian package, which runs on this release of Debian and on later ones
	rm -rf $(DEB_TREE)
	umask 022 && $(MAKE) --no-print-directory install DESTDIR=$(DEB_TREE) PREFIX=/usr
	packaging/deb/build $(DEB_TREE) $(VERSION) $(DEB)

locks: ## the locks of demo and tests anew, from upper constraints
	$(CARGO) run --locked -p venvd-tests --bin make-locks

docs: ## what rustdoc has to say
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --keep-going

clean: ## removes what was built; the cache of the tests stays
	$(CARGO) clean
