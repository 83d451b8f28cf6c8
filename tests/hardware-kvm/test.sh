#!/bin/bash
# test.sh: runs programs in the sandbox on emulated virtualisation hardware and compares them with the same programs
# run natively in the emulated machine. Ends with a line as that of a Rust test. Environment: RUNSC (a binary; the
# debug build by default), RIG (where QEMU and a kernel are kept), LIMIT (seconds for the machine).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=$(mkdir -p "${CARGO_TARGET_DIR:-$root/target}" && cd "${CARGO_TARGET_DIR:-$root/target}" && pwd)
: "${RUNSC:=$target/debug/runsc}" "${RIG:=$target/hardware-kvm}" "${LIMIT:=400}"

result() { # STATUS PASSED FAILED SKIPPED
  echo "test result: $1. $2 passed; $3 failed; $4 ignored; 0 measured; 0 filtered out; in the emulated machine"
}
skip() {
  echo "test hardware_kvm ... SKIPPED: $1"
  result ok 0 0 1
  exit 0
}
fail() {
  echo "test hardware_kvm ... FAILED: $1"
  result FAILED "${passed:-0}" "$((${failed:-0} + 1))" 0
  exit 1
}

if [ ! -e "$RIG/ready" ]; then
  for tool in apt-get apt-cache dpkg ldd; do
    command -v "$tool" > /dev/null || skip "the emulated machine is made from Debian packages, and there is no $tool"
  done
  system=$(. /etc/os-release 2> /dev/null && echo "${ID:-unknown} ${VERSION_ID:-}" || true)
  [ "$system" = "debian 12" ] || skip "the emulated machine is made from packages of Debian 12; this is ${system:-unknown}"
  rm -rf "$RIG"
  "$here/setup.sh" "$RIG" > "$target/hardware-kvm.log" 2>&1 || {
    tail -n 20 "$target/hardware-kvm.log"
    fail "the emulated machine could not be set up"
  }
  rm -rf "$RIG/debs" "$RIG/apt"
  touch "$RIG/ready"
fi
[ -x "$RUNSC" ] || fail "there is no $RUNSC: cargo build -p runsc"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=$work/files rootfs=$work/files/rootfs
mkdir -p "$rootfs"/{bin,dev,proc,sys,tmp} "$files/bundle"
cp "$RIG/root/bin/busybox" "$rootfs/bin/"
for applet in $("$rootfs/bin/busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$rootfs/bin/$applet"
done
# Those that print what must be the same everywhere; others are for tests of their own.
# The first line of the list: what follows goes by the clock, or takes long here.
programs=$(sed -n '/^programs!(/{n;p;q}' "$root/tests/tests/differential.rs")
[ -n "$programs" ] || fail "tests/tests/differential.rs lists no programs"
for program in $programs; do
  gcc -O1 -w -static -pthread -s -o "$rootfs/$program" "$root/tests/programs/$program.c"
done
mkdir "$files/job"
cp "$here/cgroups.sh" "$files/job/cgroups"
cp -r "$here/scripts" "$files/scripts"
cp -r "$here/scripts" "$rootfs/scripts"
caps='["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_DAC_READ_SEARCH","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_SETGID",
"CAP_SETUID","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_SYS_NICE","CAP_MKNOD","CAP_SETFCAP",
"CAP_SYS_ADMIN","CAP_IPC_LOCK"]'
cat > "$files/bundle/config.template" <<J
{"ociVersion": "1.0.2", "hostname": "sandbox", "root": {"path": "/rootfs"},
"process": {"user": {"uid": 0, "gid": 0}, "cwd": "/tmp", "args": ARGS, "env": ["PATH=/bin", "HOME=/tmp", "LANG=C"],
"capabilities": {"bounding": $caps, "effective": $caps, "permitted": $caps}},
"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
{"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}, {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}],
"linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}}
J
# The binary that all other tests use, with the libraries that it is linked to.
strip -o "$work/runsc" "$RUNSC"
for library in $(ldd "$RUNSC" | grep -o '/[^ ]*'); do
  mkdir -p "$files$(dirname "$library")"
  cp -L "$library" "$files$library"
done

begin=$SECONDS status=0
CPUS=2 LIMIT=$LIMIT "$here/run.sh" "$RIG" "$work/runsc" "$here/inside.sh" "$files" > "$work/output" || status=$?
cat "$work/output"
passed=$(grep -c '^test .* ok$' "$work/output" || true)
failed=$(grep -c '^test .* FAILED$' "$work/output" || true)
echo "emulated machine: $((SECONDS - begin)) s"
case $status in
  0) [ "$passed" -gt 0 ] && grep -q '^all done$' "$work/output" || fail "the machine ended without results" ;;
  124) fail "the machine was not done after $LIMIT s" ;;
  125) fail "the machine did not run" ;;
  *) [ "$failed" -gt 0 ] || fail "the machine's script ended with status $status" ;;
esac
if [ "$failed" -gt 0 ]; then
  result FAILED "$passed" "$failed" 0
  exit 1
fi
result ok "$passed" 0 0
