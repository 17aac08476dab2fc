#!/bin/sh
# Installs what this machine lacks to build or test Tollgate, and says what and why.
# Prints nothing when all is there. Uses sudo only when not root.
#
# usage: build/install-deps.sh build|test
set -eu
cd "$(dirname "$0")/.."

tools_dir=target/tools
PATH="$PWD/$tools_dir/bin:$PATH"

say() { echo "install-deps: $*" >&2; }
die() {
    say "$*"
    exit 1
}

case ${1-} in
    build) wanted="cc cmake" welcome= ;;
    test) wanted="cc cmake redis-server faketime curl" welcome="chromedriver wrk h2load promtool" ;; # without what is welcome, tests are skipped
    *) die "usage: build/install-deps.sh build|test" ;;
esac

command -v cargo >/dev/null 2>&1 || die "cargo is missing: install Rust 1.89 or newer, see https://rustup.rs"

# Asks the tool to do its work: a name on the PATH may be a shim with nothing behind it.
works() {
    case $1 in
        cc)
            probe=$(mktemp)
            printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' |
                "${CC:-cc}" -x c -o "$probe" - >/dev/null 2>&1 && found=0 || found=1
            rm -f "$probe"
            return "$found"
            ;;
        wrk) # says its version, and fails
            said=$("$1" --version 2>&1) || true
            case $said in *"wrk "*Usage*) ;; *) return 1 ;; esac
            ;;
        *) "$1" --version >/dev/null 2>&1 ;;
    esac
}

purpose() {
    case $1 in
        cc) echo "a C compiler, to link Rust programs and to compile ring, mimalloc and zlib-ng" ;;
        cmake) echo "cmake, which builds zlib-ng, a part of Pingora" ;;
        redis-server) echo "redis-server: the tests start servers of their own on free ports, and stop them" ;;
        faketime) echo "faketime: the tests run gateways whose clocks are wrong" ;;
        curl) echo "curl: the tests have it ask over HTTP/2" ;;
        chromedriver) echo "chromedriver and Chromium: the tests look at the dashboard in a browser" ;;
        wrk) echo "wrk: the tests have it ask over HTTP/1.1" ;;
        h2load) echo "h2load: the tests have it ask over HTTP/2" ;;
        promtool) echo "promtool: the alert rules in deploy/ and their tests are for it to judge" ;;
    esac
}

packages() { # package manager, tool
    case $1:$2 in
        apt-get:cc) echo gcc libc6-dev ;;
        dnf:cc) echo gcc glibc-devel ;;
        apk:cc) echo gcc musl-dev ;;
        brew:cc) ;; # comes with Apple's command line tools
        apt-get:redis-server) echo redis-tools ;; # the program without the service: see redis_of_tools
        *:redis-server) echo redis ;;             # here no service starts by itself
        apt-get:faketime) echo faketime ;;
        *:faketime) echo libfaketime ;;
        apt-get:chromedriver) echo chromium chromium-driver ;;
        dnf:chromedriver) echo chromium chromedriver ;;
        apk:chromedriver) echo chromium chromium-chromedriver ;;
        brew:chromedriver) ;; # no formula: who has Chrome and chromedriver has them by other ways
        apt-get:h2load) echo nghttp2-client ;;
        *:h2load) echo nghttp2 ;;
        apt-get:promtool) ;; # its package starts a service: see promtool_alone
        dnf:promtool) echo /usr/bin/promtool ;; # dnf finds the package that has it
        *:promtool) echo prometheus ;;          # here no service starts by itself
        *) echo "$2" ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

is_fresh=
refresh_apt() { # once
    [ -z "$is_fresh" ] || return 0
    as_root apt-get update -qq || say "the package lists could not be refreshed; trying the ones at hand"
    is_fresh=yes
}

install_with() { # package manager, packages
    manager=$1
    shift
    say "running: $manager install $*"
    case $manager in
        apt-get)
            refresh_apt
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
            ;;
        dnf) as_root dnf install -y -q "$@" ;;
        apk) as_root apk add --quiet "$@" ;;
        brew) brew install --quiet "$@" ;;
    esac
}

# The wheel carries the real program; it finds its own files through the link.
cmake_by_pip() {
    python3 -m pip --version >/dev/null 2>&1 || return 1
    say "running: pip install cmake, into $tools_dir of this folder alone"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$tools_dir/cmake" cmake || return 1
    program=$(find "$PWD/$tools_dir/cmake" -path '*/data/bin/cmake' | head -n 1)
    [ -n "$program" ] || return 1
    mkdir -p "$tools_dir/bin"
    ln -sf "$program" "$tools_dir/bin/cmake"
}

# On Debian and Ubuntu the server is the checker of its dumps under another name. Linking it installs
# no service; where it is not so, the package is installed, and the service that it starts is ended.
redis_of_tools() {
    if checker=$(command -v redis-check-rdb); then
        say "linking $checker as redis-server, in $tools_dir of this folder alone"
        mkdir -p "$tools_dir/bin"
        ln -sf "$checker" "$tools_dir/bin/redis-server"
        works redis-server && return
        rm -f "$tools_dir/bin/redis-server"
    fi
    install_with apt-get redis-server || return 1
    if command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet redis-server; then
        say "running: systemctl disable --now redis-server, which the package started"
        as_root systemctl disable --now --quiet redis-server
    fi
}

# On Debian and Ubuntu it comes with the server, which runs as soon as it is installed: the one program is taken out.
promtool_alone() {
    command -v apt-get >/dev/null 2>&1 || return 1
    package=$(mktemp -d)
    say "running: apt-get download prometheus, of which promtool alone is put into $tools_dir of this folder"
    mkdir -p "$tools_dir/bin"
    # The folder is nobody else's, not even that user's whom apt has for it.
    set -- apt-get download -qq -o APT::Sandbox::User=root prometheus
    (cd "$package" && "$@" >/dev/null 2>&1) || { refresh_apt && (cd "$package" && "$@" >/dev/null); } &&
        dpkg-deb --extract "$package"/prometheus_*.deb "$package" &&
        mv "$package/usr/bin/promtool" "$tools_dir/bin/promtool" && got=0 || got=1
    rm -rf "$package"
    return "$got"
}

first_manager() {
    for manager in apt-get dnf apk brew; do
        command -v "$manager" >/dev/null 2>&1 || continue
        if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then continue; fi
        echo "$manager"
        return
    done
}

missing='' missed=''
for tool in $wanted $welcome; do
    works "$tool" && continue
    say "missing: $(purpose "$tool")"
    case " $welcome " in
        *" $tool "*) missed="$missed $tool" ;;
        *) missing="$missing $tool" ;;
    esac
done
[ -n "$missing$missed" ] || exit 0

manager=$(first_manager)
install_all() { # tools
    [ -n "$manager" ] || return 0
    list=
    for tool in "$@"; do list="$list $(packages "$manager" "$tool")"; done
    # shellcheck disable=SC2086 # a list of names
    [ -z "${list# }" ] || install_with "$manager" $list || say "$manager could not install$list"
}
# shellcheck disable=SC2086 # a list of names
[ -z "$missing" ] || install_all $missing
# One by one: a package that is nowhere must not keep the others out.
for tool in $missed; do install_all "$tool"; done
case $missing in
    *cmake*) works cmake || cmake_by_pip || true ;;
esac
case $manager:$missing in
    apt-get:*redis-server*) works redis-server || redis_of_tools || true ;;
esac
case $missed in
    *promtool*) works promtool || promtool_alone || true ;;
esac

for tool in $missing; do
    works "$tool" && continue
    if [ "$tool" = cc ] && [ "$(uname)" = Darwin ]; then
        die "no C compiler: run xcode-select --install, then try again"
    fi
    die "$tool could not be installed by apt-get, dnf, apk, brew or pip: install it by hand, then try again"
done
lost=
for tool in $missed; do
    works "$tool" || lost="$lost $tool"
done
if [ -n "$lost" ]; then
    say "could not be installed:$lost. The tests that need them say so, and are skipped"
else
    say "all there now"
fi
