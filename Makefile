# make run     build in release and start the demo: the gateway in front of a small auth backend
# make test    run all tests
# make check   formatting and lints, as CI does
# make check-deploy   what is in deploy/, by the tools that will read it
# make bench   the benchmarks, then the side-by-side runs against other proxies
#
# Every target first installs what the machine lacks for it (build/install-deps.sh), and is quiet when all is there.

# Where build/install-deps.sh puts a cmake that no package manager could bring.
CARGO = PATH="$$PWD/target/tools/bin:$$PATH" cargo

.PHONY: run build test check check-deploy bench

run: build
	@exec target/release/tollgate demo

build:
	@build/install-deps.sh build
	$(CARGO) build --release

test:
	@build/install-deps.sh test
	@build/check-deploy.sh
	$(CARGO) test
	$(CARGO) test --features otlp --lib --test it -- spans:: otlp::

check-deploy:
	@build/check-deploy.sh

check:
	@build/install-deps.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

bench:
	@build/install-deps.sh test
	$(CARGO) bench
	PATH="$$PWD/target/tools/bin:$$PATH" python3 benches/side_by_side.py
	PATH="$$PWD/target/tools/bin:$$PATH" python3 benches/shared_gateways.py
